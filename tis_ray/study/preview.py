"""What a model will see of a study's rows, found out without a cluster, a study's files or a model's weights.

Reading, encoding and what is refused are those of a run; what a run does after that (rows that repeat
test rows, samples, exclusions) is not tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

from transformers import PreTrainedTokenizerBase

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.config import Config, parts
from tis_ray.data import (
    Rejected,
    Row,
    TokenCounts,
    UnusableError,
    described,
    encode_row,
    end_marks,
)
from tis_ray.data.encoding_check import encoding_problems, learns_end
from tis_ray.data.look import Look, look_at
from tis_ray.data.pieces import pieces_of
from tis_ray.data.repeats import NEAR_ROWS, Repeats
from tis_ray.errors import InputError
from tis_ray.models.loading import load_tokenizer
from tis_ray.report.preview_record import Preview, ShownRow, SideLook
from tis_ray.settings import AnySource
from tis_ray.stages.row_facts import RowFacts
from tis_ray.stages.side_report import PLACES, refused
from tis_ray.store.sides import SIDES, SideName
from tis_ray.study.shared_rows import shared_rows
from tis_ray.study.template_facts import template_facts

LOOKED_AT = 1000
"""Rows of each side, unless all are wanted."""
CHECKED = 24
"""Rows of each side whose encoding is checked in another way."""
CHECKED_CHARACTERS = 250_000
"""The next row is checked as long as those before it have not more."""
STEP = 500
"""Rows after which progress is told."""
MOST_KINDS = 100
"""Of rows, by source and schema, of each of which one may be shown."""

Advance = Callable[[str, int], None]


def previews(
    config: Config,
    rows: int = 3,
    sides: Sequence[SideName] = SIDES,
    task: str | None = None,
    whole: bool = False,
    advance: Advance = lambda side, rows: None,
) -> list[Preview]:
    """Return a preview of each study of a file, of what no study before it has.

    rows: shown of each side. whole: read every row, not the first `LOOKED_AT` of each side. advance:
    called with a side and its number of rows, now and then.
    """
    studies = parts(config)
    if task is not None:
        studies = [study for study in studies if study.task == task]
        if not studies:
            known = ", ".join(config.tasks) or "none"
            raise InputError(f"--task: {task} is not one of the file's tasks ({known})")
    seen: set[str] = set()
    found = []
    for study in studies:
        own = []
        for side in (side for side in sides if side in study.config.data.sides):
            read_as = study.config.model, study.config.data.template, study.config.data.max_length
            key = repr((side, study.config.data.side(side), read_as))
            own += [side] if key not in seen else []
            seen.add(key)
        if own:
            found.append(preview(study.config, rows, own, whole, advance))
    if not found:
        raise InputError(f"data.{' and data.'.join(sides)}: the study has no such rows")
    return found


def preview(
    config: Config, rows: int, sides: Sequence[SideName], whole: bool, advance: Advance
) -> Preview:
    """Return what the model of one study will see."""
    tokenizer = load_tokenizer(config.model)
    looks = [_Looking(config, side, tokenizer) for side in sides]
    for look in looks:
        look.read(rows, whole, advance)
    template = config.data.template
    checked = [row for look in looks for row in look.checked]
    problems = encoding_problems(checked, tokenizer, template)
    marks = end_marks(tokenizer, template)
    ended = sum(learns_end(row, tokenizer, template, marks) for row in checked)
    facts = [
        *template_facts(config, tokenizer),
        ("end is learnt", f"in {ended} of {len(checked)} rows that were checked"),
    ]
    found = [look.found(rows) for look in looks]
    lines = [
        f"data.{problem.text}{'; a run refuses this' if problem.wrong_labels else ''}"
        for problem in problems
    ]
    contents = {look.side: look.contents for look in looks if look.side != "pool"}
    if len(contents) == 2 and (shared := shared_rows(**contents)) is not None:
        lines.append(f"{shared.line}{'; a run refuses this' if shared.all else ''}")
    return Preview(config.name, facts, lines, config.data.max_length, found)


@dataclass
class _Looking:
    """One side, while it is looked at.

    first: usable rows that came first. kinds: the first of each source and schema, cut and uncut.
    """

    config: Config
    side: SideName
    tokenizer: PreTrainedTokenizerBase
    facts: RowFacts = field(default_factory=RowFacts)
    counts: TokenCounts = field(default_factory=TokenCounts)
    lost: list[QuarantinedRow] = field(default_factory=list)
    first: list[Row] = field(default_factory=list)
    kinds: dict[tuple[str, str, bool], Row] = field(default_factory=dict)
    contents: set[str] = field(default_factory=set)
    repeats: Repeats = field(init=False)
    reach: str = ""

    def __post_init__(self) -> None:
        self.repeats = Repeats(self.config.overlap.ngram, self.config.overlap.threshold)

    @property
    def chosen(self) -> list[Row]:
        """Rows to look at closely: one of each kind, then the first."""
        return [*{row["id"]: row for row in [*self.kinds.values(), *self.first]}.values()]

    @property
    def checked(self) -> list[Row]:
        """Those whose encoding is checked: fewer where they are long."""
        lengths = (sum(len(turn["content"]) for turn in row["messages"]) for row in self.chosen)
        pairs = zip(self.chosen, accumulate(lengths, initial=0), strict=False)
        return [row for row, before in pairs if before < CHECKED_CHARACTERS][:CHECKED]

    @property
    def source(self) -> AnySource:
        """Where the side comes from."""
        return self.config.data.side(self.side)

    def read(self, shown: int, whole: bool, advance: Advance) -> None:
        """Read and encode the rows. Raises InputError if none is usable."""
        look = look_at(self.source, self.side, None if whole else LOOKED_AT)
        for found in look.rows:
            schema = "" if isinstance(found, Rejected) else found["schema"]
            for stored in self.facts.usable([found]):
                self._take(cast(Row, {**stored, "schema": schema}), stored["content"], shown)
                if self.counts.rows % STEP == 0:
                    advance(self.side, self.counts.rows)
        self.lost = [*self.facts.quarantined(self.side), *self.lost]
        if not self.counts.rows:
            reasons = "; ".join(kind.line() for kind in refused(self.lost)) or "it holds no rows"
            where = f"data.{self.side}: {described(self.source)}"
            raise InputError(f"{where}: none of the rows looked at is usable: {reasons}")
        self.reach = _reach(look, self.source, self.counts.rows, len(self.lost))

    def _take(self, row: Row, content: str, shown: int) -> None:
        """Encode a row; count it, or the reason why it is of no use."""
        data = self.config.data
        try:
            encoded = encode_row(row, self.side, self.tokenizer, data.max_length, data.template)
        except UnusableError as error:
            self._lose(row, error)
            return
        self.counts.add(encoded)
        self.repeats.add(row, content)
        if self.side != "pool":
            self.contents.add(content)
        if len(self.first) < max(shown, CHECKED):
            self.first.append(row)
        if len(self.kinds) < MOST_KINDS:
            cut = encoded.tokens > len(encoded.input_ids)
            self.kinds.setdefault((row["source"], row["schema"], cut), row)

    def found(self, shown: int) -> SideLook:
        """Return what was found, with some rows."""
        counts = self.facts.counts()
        return SideLook(
            side=self.side,
            where=described(self.source),
            reach=self.reach,
            schemas=counts["schemas"],
            refused=refused(self.lost),
            left_out=counts["left_out"],
            counts=self.counts,
            repeats=self._repeats() if self.side == "pool" else [],
            rows=[self._shown(row) for row in self.chosen[:shown]],
        )

    def _lose(self, row: Row, error: UnusableError) -> None:
        self.lost.append(
            QuarantinedRow(
                side=self.side,
                file=row["file"],
                line=str(row["line"]),
                id=row["id"],
                reason=str(error.reason),
                detail=error.detail,
            )
        )

    def _repeats(self) -> list[str]:
        """Return a line on rows that repeat an earlier one, and one on those that nearly do."""
        near, equal = self.repeats.near(), self.repeats.equal
        some = f", of the first {NEAR_ROWS:,}" if self.counts.rows > NEAR_ROWS else ""
        kinds = [
            (equal, self.repeats.equal_rows, "repeat an earlier row word for word", "equal"),
            (len(near), near, f"are near an earlier row{some}", "near"),
        ]
        return [
            f"{count:,} {words} ({_places(rows, count)}); overlap: {{pool: {name}}} drops them"
            for count, rows, words, name in kinds
            if count
        ]

    def _shown(self, row: Row) -> ShownRow:
        data = self.config.data
        pieces = pieces_of(row, self.side, self.tokenizer, data.max_length, data.template)
        return ShownRow(
            id=row["id"],
            source=row["source"],
            file=row["file"],
            line=row["line"],
            schema=row["schema"],
            pieces=pieces,
        )


def _places(rows: Sequence[Row], count: int) -> str:
    shown = [f"{row['file']} line {row['line']}" for row in rows[:PLACES]]
    return "; ".join([*shown, *(["..."] if count > PLACES else [])])


def _reach(look: Look, source: AnySource, used: int, lost: int) -> str:
    """Return how many rows were read, what became of them, and what was not looked at."""
    said = f"{used + lost:,} rows read = {used:,} used + {lost:,} refused"
    if not look.whole:
        rest = f"; all others of {look.files:,} files" if look.files > 1 else "; all others"
        said += f"{rest} were not looked at (--all reads them)"
        if look.opened < look.files:
            said += f", and {look.files - look.opened:,} files were not opened"
    every = source.sources if source.kind == "list" else []
    if any(one.sample is not None for one in (source, *every)):
        said += "; a run draws its sample from all rows"
    return said
