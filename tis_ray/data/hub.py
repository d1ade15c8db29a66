"""Records of a data set of the Hugging Face hub, streamed by the `datasets` package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tis_ray.data.rows import Record
from tis_ray.errors import InputError

if TYPE_CHECKING:
    from tis_ray.settings import HubSource


def hub_records(source: HubSource) -> Iterator[Record]:
    """Yield the rows of a data set. Raises InputError, here or while reading, where it has none."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(
            f"hub:{source.name}: needs the `datasets` package; pip install datasets"
        ) from None
    try:
        rows = load_dataset(
            source.name,
            source.config,
            split=source.split,
            revision=source.revision,
            streaming=True,
        )
    except Exception as error:  # the library has no common base for "not found" and "no network"
        raise _hub_error(source, error) from error
    return _stream(source, iter(rows))


def _stream(source: HubSource, rows: Iterator[object]) -> Iterator[Record]:
    line = 0
    while True:
        line += 1
        try:
            value = next(rows)
        except StopIteration:
            return
        except Exception as error:
            raise _hub_error(source, error) from error
        label = source.source or source.name
        yield Record(f"hub:{source.name}", line, value, label)


def _hub_error(source: HubSource, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"hub:{source.name}: cannot be read ({reason}); check name, config, split, revision and "
        "network, or download it and give the path"
    )
