"""Readers of data sources (files, the hub, the built-in generator): streams of rows and rejected rows.

A source is the package's own generator, a data set of the Hugging Face hub, or a path: a file
(.jsonl, .json, either with .gz, or .parquet), a folder, or a pattern such as `data/*.parquet`. Files
are read in the order of their paths, rows in file order, and never more than a batch of them is held
in memory. Trouble with a single row is a `Rejected`; trouble with a whole file is an InputError.
"""

from __future__ import annotations

import glob
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.data import builtin
from tis_ray.data.rows import (
    EXPECTED,
    FIELDS,
    Record,
    Rejected,
    Row,
    Side,
    checked_rows,
    sample_rows,
)
from tis_ray.errors import InputError

if TYPE_CHECKING:
    from tis_ray.settings import AnySource, BuiltinSource, HubSource

# Folders are searched for these kinds in turn: .json files beside Parquet are notes, not rows.
_KINDS = ((".parquet",), (".jsonl", ".jsonl.gz"), (".json", ".json.gz"))
_SUFFIXES = tuple(suffix for kind in _KINDS for suffix in kind)
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_SPACE = re.compile(r"[ \t\r\n]*")
_AFTER = re.compile(r"[ \t\r\n]*([,\]])")
_CHUNK = 1 << 20
# Raised whenever the same bytes become different rows, so that no artifact of older rows is reused.
_READING = 1


def read_rows(
    source: AnySource, side: Side = "pool", *, limit: int | None = None
) -> Iterator[Row | Rejected]:
    """Yield the rows of `source`, in order, with a `Rejected` in place of each unusable one.

    `source.sample` applies first, then `limit`, which keeps the first so many usable rows. A missing
    path or package raises InputError here; a broken file raises it while it is being read.
    """
    rows = checked_rows(_records(source, side), side)
    if source.sample is not None:
        rows = sample_rows(rows, source.sample, source.sample_seed)
    return rows if limit is None else _first_usable(rows, limit)


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records in the files of a path, unchanged."""
    return (record for file in source_files(path) for record in _READERS[_kind(file)](file))


def content_fingerprint(source: AnySource, side: Side = "pool") -> str:
    """Return 32 hexadecimal digits that identify the rows of `source`.

    Files are identified by their bytes, whatever their folder; the generator by its version and
    settings; a hub data set by id and revision, so pin the revision: an unpinned one may change
    unnoticed.
    """
    spec: list[object] = [_READING, side, source.kind, source.sample]
    if source.sample is not None:
        spec.append(source.sample_seed)
    if source.kind == "builtin":
        spec += [builtin.VERSION, source.rows, source.seed, source.skill]
    elif source.kind == "hub":
        spec += [source.name, source.config, source.split, source.revision]
    else:
        for path in source_files(source.path):
            with _readable(path), path.open("rb") as file:
                spec.append([_kind(path), _stem(path), file_digest(file, "blake2b").hexdigest()])
    return blake2b(json.dumps(spec).encode(), digest_size=16).hexdigest()


def source_files(path: str | Path) -> list[Path]:
    """Return the files that a path, folder or pattern stands for, sorted by path.

    In a folder, including its subfolders, these are all Parquet files or, if there are none, all
    .jsonl files or, if there are none, all .json files. Names that start with `.` or `_` are ignored.
    """
    root = Path(path).expanduser()
    if root.is_dir():
        inside = [p for p in root.rglob("*") if p.is_file() and not _hidden(p.relative_to(root))]
        for kind in _KINDS:
            if files := [p for p in inside if p.name.lower().endswith(kind)]:
                return sorted(files)
        raise InputError(f"{path}: the folder holds no rows; expected {', '.join(_SUFFIXES)} files")
    files = [root] if root.is_file() else []
    if not files and glob.has_magic(str(root)):
        files = sorted(p for p in map(Path, glob.glob(str(root), recursive=True)) if p.is_file())  # noqa: PTH207
        if not files:
            raise InputError(f"{path}: no file matches this pattern; check the path")
    if not files:
        raise InputError(f"{path}: no such file or folder; check the path")
    for file in files:
        _kind(file)
    return files


def _records(source: AnySource, side: Side) -> Iterator[Record]:
    if source.kind == "builtin":
        return _builtin_records(source, side)
    if source.kind == "hub":
        return _hub_records(source)
    return read_records(source.path)


def _builtin_records(source: BuiltinSource, side: Side) -> Iterator[Record]:
    rows: Iterator[object]
    if side == "pool":
        rows = iter(builtin.iter_pool_rows(source.rows, source.seed))
    elif source.skill is None:
        raise InputError(f"data.{side}.skill is missing: name one skill of the generator")
    else:
        make = builtin.query_rows if side == "query" else builtin.test_rows
        rows = iter(make(source.skill, source.rows, source.seed))
    return (Record(f"builtin:{side}", n, row, "builtin") for n, row in enumerate(rows, 1))


def _hub_records(source: HubSource) -> Iterator[Record]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(
            f"hub:{source.name}: needs the `datasets` package; pip install 'tis_ray[hub]'"
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
    return _hub_stream(source, iter(rows))


def _hub_stream(source: HubSource, rows: Iterator[object]) -> Iterator[Record]:
    line = 0
    while True:
        line += 1
        try:
            value = next(rows)
        except StopIteration:
            return
        except Exception as error:
            raise _hub_error(source, error) from error
        yield Record(f"hub:{source.name}", line, value, source.name)


def _jsonl_records(path: Path) -> Iterator[Record]:
    name, stem = str(path), _stem(path)
    started = False
    with _readable(path), _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                # A byte order mark is harmless, and editors leave one at the start.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                raise InputError(f"{path}: line {number} is not UTF-8; save it as UTF-8") from None
            if not text:
                continue
            try:
                record = Record(name, number, json.loads(text), stem)
            except (ValueError, RecursionError) as error:
                if _kind(path) == ".json" and not started:
                    raise InputError(
                        f"{path}: neither an array nor one object per line ({error}); "
                        "write one object per line (.jsonl)"
                    ) from None
                record = Record(name, number, None, stem, broken=str(error))
            started = True
            yield record


def _json_records(path: Path) -> Iterator[Record]:
    """Read a .json file: an array, element by element, or JSON lines, which many such files hold."""
    with _readable(path), _open(path) as binary:
        start = binary.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"["):
        return _jsonl_records(path)
    return _array_records(path)


def _array_records(path: Path) -> Iterator[Record]:
    decode = json.JSONDecoder().raw_decode
    with _readable(path), _open(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8-sig")
        text = ""
        place = 0

        def more() -> bool:
            # Each read doubles what is held of an element, so a long one costs linear time.
            nonlocal text, place
            read = file.read(max(_CHUNK, len(text) - place))
            if read:
                text, place = text[place:] + read, 0
            return bool(read)

        while not text.lstrip():
            more()
        place = text.index("[") + 1
        number = 1
        while True:
            begin = _SPACE.match(text, place).end()  # type: ignore[union-attr]  # it always matches
            if number == 1 and text[begin : begin + 1] == "]":
                place = begin + 1
                break
            try:
                value, end = decode(text, begin)
                # Complete only if a comma or the end follows: 12 is also the start of 12.5.
                after = _AFTER.match(text, end)
            except (ValueError, RecursionError):
                after = None
            if after is None:
                if more():
                    continue
                raise InputError(
                    f"{path}: element {number} of the array is not valid JSON; repair the file, "
                    "or write one object per line (.jsonl)"
                )
            place = after.end()
            yield Record(str(path), number, value, _stem(path))
            number += 1
            if after[1] == "]":
                break
        if text[place:].strip() or file.read().strip():
            raise InputError(
                f"{path}: there is text after the array; keep one array, or one object per line"
            )


def _parquet_records(path: Path) -> Iterator[Record]:
    name, stem = str(path), _stem(path)
    with _readable(path), pq.ParquetFile(path) as file:
        columns = [column for column in file.schema_arrow.names if column in FIELDS]
        if not set(columns) - {"id", "source", "dataset"}:
            names = ", ".join(file.schema_arrow.names) or "none"
            raise InputError(
                f"{path}: no column that holds rows; expected {EXPECTED}; found {names}"
            )
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for value in batch.to_pylist():
                number += 1
                yield Record(name, number, value, stem)


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _jsonl_records,
    ".json": _json_records,
    ".parquet": _parquet_records,
}


def _kind(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix.removesuffix(".gz")
    raise InputError(f"{path}: unknown file type; expected {', '.join(_SUFFIXES)}")


def _stem(path: Path) -> str:
    """Return the name without suffixes and without the shard count of a split file."""
    stem = path.name.removesuffix(".gz")
    return _SHARD.sub("", stem.rpartition(".")[0])


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _open(path: Path) -> IO[bytes]:
    packed = path.name.lower().endswith(".gz")
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise InputError(f"{path}: contains text that is not UTF-8; save it as UTF-8") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); write or fetch it again") from error


def _hub_error(source: HubSource, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"hub:{source.name}: cannot be read ({reason}); check name, config, split, revision and "
        "network, or download it and give the path"
    )


def _first_usable(rows: Iterator[Row | Rejected], limit: int) -> Iterator[Row | Rejected]:
    usable = 0
    for row in rows if limit > 0 else ():
        yield row
        usable += not isinstance(row, Rejected)
        if usable == limit:
            return
