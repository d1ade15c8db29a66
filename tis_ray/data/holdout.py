"""Parting a handful of examples in two: queries that steer the selection, and test rows that measure it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from tis_ray.data.rows import Rejected, Row, Side, content_id
from tis_ray.errors import InputError


def held_out(
    rows: Iterable[Row | Rejected], share: float, seed: int, side: Side, where: str
) -> Iterator[Row | Rejected]:
    """Yield the rows that stay queries or, of the side `test`, those that are held out.

    Held out are those with the lowest hashes of (seed, what the row says): `share` of the usable rows,
    rounded, but one at least, and one at least stays. So neither the order of the file nor the ids
    matter, and rows that say the same stay on one side. What is refused counts with the queries. Holds
    all rows in memory.

    Raises InputError where there are not two different rows.
    """
    read = list(rows)
    usable = [row for row in read if not isinstance(row, Rejected)]
    of_content: dict[str, list[Row]] = {}
    for row in usable:
        of_content.setdefault(content_id(row), []).append(row)
    if len(of_content) < 2:
        raise InputError(
            f"{where}: holdout: {len(usable)} usable row(s), {len(of_content)} different, cannot be parted "
            "into queries and test rows; give two different ones at least"
        )
    key = f"tis_ray holdout {seed}".encode()
    hashes = {content: blake2b(content.encode(), key=key).digest() for content in of_content}
    ordered = sorted(of_content, key=lambda content: (hashes[content], content))
    wanted, held, out = max(1, round(share * len(usable))), 0, set[int]()
    for content in ordered[:-1]:
        if held >= wanted:
            break
        out.update(map(id, of_content[content]))
        held += len(of_content[content])
    for each in read:
        if (id(each) in out) == (side == "test"):
            yield each
