"""Files as methods: scores, features or an ordering that were made outside of a study.

They take part in a study as ours do: constrained, trained, compared. Their content is part of every
fingerprint. Rows are matched by their ids (tables) or by their places (matrices). A matrix must have
a place for each row that was read: a row that was rejected on reading would shift all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tis_ray.errors import InputError
from tis_ray.methods import NAME
from tis_ray.representations.spec import Build, Featuriser, Representation, Scorer
from tis_ray.section import Section
from tis_ray.settings.given import GivenConfig

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


@dataclass(frozen=True, kw_only=True)
class Given(Representation[Section]):
    """A method whose results are in files."""

    files: GivenConfig

    def digests(self) -> dict[str, str]:
        """Return what names the files' content. Raises InputError for a file that is not there."""
        from tis_ray.store.given_files import content_digest

        paths = self.files.paths()
        return {kind: content_digest(path, self.key(kind)) for kind, path in paths.items()}

    def key(self, kind: str) -> str:
        """Return the config key of a file, for messages."""
        return f"given.{self.name}.{kind}"

    def identity(self, settings: Section) -> dict[str, object]:
        """Return what determines the results: the files' content, wherever they are."""
        return {"name": self.name, "version": self.version, "files": self.digests()}

    def space(self, settings: Section) -> dict[str, object]:
        """Return what determines the features: the files' content."""
        return {"files": self.digests()}

    def check(self, settings: Section, rows: Mapping[str, int]) -> None:
        """Raise InputError if a file is missing or does not fit the rows that were read."""
        from tis_ray.store.given_files import GivenVectors, check_matrix, check_ordering

        if self.files.scores is not None:
            check_matrix(self.files.scores, self.key("scores"), rows["query"], rows["pool"])
        elif self.files.ordering is not None:
            check_ordering(self.files.ordering, self.key("ordering"))
        else:
            widths = {
                side: GivenVectors(str(path), self.key(kind), rows[side]).width
                for kind, side, path in (
                    ("features", "pool", self.files.features),
                    ("queries", "query", self.files.queries),
                )
            }
            if len(set(widths.values())) > 1:
                raise InputError(
                    f"{self.key('queries')}: vectors have {widths['query']} numbers, but those of "
                    f"`features` have {widths['pool']}; give both from one model"
                )

    def build(self, build: Build[Section]) -> Featuriser:
        """Return an object that looks vectors up."""
        from tis_ray.representations.given.vectors import LookedUp

        return LookedUp(str(self.files.features), str(self.files.queries), self.name)

    def scorer(
        self,
        settings: Section,
        pool: Iterable[StoredRow],
        queries: Iterable[StoredRow],
    ) -> Scorer:
        """Return an object that looks scores up."""
        from tis_ray.store.given_files import GivenScores

        return GivenScores(str(self.files.scores), self.key("scores"), pool, queries)


def given_method(name: str, files: GivenConfig) -> Given:
    """Return the method that files stand for. Raises InputError for an invalid name."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"given: {name!r} becomes part of file names; use letters, digits and underscores"
        )
    gives: Literal["vectors", "scores", "ordering"] = "vectors"
    if files.scores is not None:
        gives = "scores"
    elif files.ordering is not None:
        gives = "ordering"
    return Given(
        name=name,
        label=files.label or name,
        gives=gives,
        cosines=files.cosines or files.features is not None,
        made_of="scores from a file",
        files=files,
    )
