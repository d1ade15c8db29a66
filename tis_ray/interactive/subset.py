"""The rows that a method selects, as a table, and as a file for a trainer."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from tis_ray.config import Config
from tis_ray.finished.make_subset import Made, make_subset, subset_of
from tis_ray.finished.subset import Choice
from tis_ray.interactive.table import Table
from tis_ray.storage import AnyPlace, place


class SubsetTable(Table):
    """Selected rows as they came, best first, and one column more, `tis_ray`: rank, score, query, why."""

    def __init__(self, choice: Choice, config: Config, home: Path) -> None:
        self._choice, self._config, self._home = choice, config, home
        with chdir(home):
            subset = subset_of(choice, config)
        why = {subset.column: [note["why"] for note in subset.notes]}
        super().__init__(subset.table(), f"subset {choice.name}", why)

    def write(self, to: AnyPlace, form: str = "original", overwrite: bool = False) -> Made:
        """Write the rows to a file or folder, as `tis-ray subset` does.

        form: `original`, `messages`, `trl`, `axolotl`, `llamafactory` or `hf`. overwrite: replace what is there.
        """
        path = place(to).expanduser().absolute()
        with chdir(self._home):
            return make_subset(self._choice, self._config, path, form, overwrite)
