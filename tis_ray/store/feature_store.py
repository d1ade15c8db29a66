"""The feature store: immutable shards of features, found by the content of their rows.

A store belongs to one *space*: everything that decides what a row's feature is (model, checkpoints,
template, sketch, ...). Within a space a feature depends on its row alone, so a pool that grows, is
reordered or is merged with another pays for its new rows only, and new queries cost only themselves.

One shard is one file, `<side>/<rows>-<checksum>.safetensors`: its name says which rows it holds and
what its bytes are. It appears whole by rename and never changes; every read checks the bytes, and
a file that fails is put aside, so that the next run computes its rows again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TypedDict

import numpy as np
import safetensors.numpy
import xxhash
from safetensors import SafetensorError, safe_open

from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace, Place, followed, listed, local_file, place
from tis_ray.store.atomic import write_bytes, write_json
from tis_ray.store.codec import Encoded, decode, encode
from tis_ray.store.files import find_json
from tis_ray.store.fingerprint import fingerprint

SUFFIX = ".safetensors"
SPACE = "space.json"
"""In a store's folder: what its features have in common."""


class DamagedShardError(RuntimeError):
    """A shard's bytes are not those that were written; the file was put aside."""


@dataclass
class FeatureShard:
    """Features of E rows.

    keys: E row keys (32 hexadecimal digits each), in the order of the rows.
    values_ECK: float32; the vectors of a row in `unusable` are zero.
    unusable: position of each row without a feature, and why.
    columns: facts about each row, (E,) or (E, C): losses, norms, token counts.
    """

    keys: list[str]
    values_ECK: np.ndarray
    unusable: dict[int, str] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredKeys:
    """The keys of all rows of one side of a store, sorted, and where their features lie.

    keys_S: 16 bytes each. owners_S: the file of each, as its place in `files`. positions_S: where in it.
    """

    files: list[str]
    keys_S: np.ndarray
    owners_S: np.ndarray
    positions_S: np.ndarray

    def places(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return file and position of each of these keys; -1 for those that the store lacks."""
        if not len(self.keys_S):
            return np.full(len(keys), -1), np.full(len(keys), -1)
        wanted_n = _packed(keys)
        found_n = np.maximum(np.searchsorted(self.keys_S, wanted_n, side="right") - 1, 0)
        there_n = self.keys_S[found_n] == wanted_n
        return (
            np.where(there_n, self.owners_S[found_n], -1),
            np.where(there_n, self.positions_S[found_n], -1),
        )


class _ShardFacts(TypedDict):
    """A shard file's own metadata."""

    dtype: str
    unusable: dict[str, str]


class FeatureStore:
    """The shards of one space, for both sides ("pool" and "query")."""

    def __init__(self, root: AnyPlace, space: Mapping[str, object]) -> None:
        self.space = space
        self.fingerprint = fingerprint(space)
        self.path: Place = (
            place(root).absolute() / f"store-{space['representation']}-{self.fingerprint}"
        )

    @classmethod
    def open(cls, folder: AnyPlace) -> FeatureStore:
        """Open a store by its folder. Raises InputError if there is none."""
        home = followed(place(folder))
        space = find_json(home / SPACE)
        if space is None:
            raise InputError(f"{folder}: holds no feature store ({SPACE} is missing)")
        store = cls(home.parent, space)
        store.path = home
        return store

    def write(self, side: str, shard: FeatureShard, dtype: str) -> str:
        """Encode a shard as `dtype`, write it, and return its file name."""
        if not (self.path / SPACE).exists():
            write_json(self.path / SPACE, self.space)
        encoded = encode(shard.values_ECK, dtype)
        tensors = {f"column.{name}": np.asarray(c) for name, c in shard.columns.items()}
        tensors["values"] = encoded.data
        if encoded.scales is not None:
            tensors["scales"] = encoded.scales
        keys = _packed(shard.keys).view(np.uint8).reshape(-1, 16)
        # One metadata entry: with several, their order in the file would be arbitrary.
        facts = {"dtype": dtype, "unusable": {str(i): r for i, r in shard.unusable.items()}}
        content = safetensors.numpy.save(
            {
                name: np.ascontiguousarray(tensor)
                for name, tensor in {**tensors, "keys": keys}.items()
            },
            {"tis_ray": json.dumps(facts, sort_keys=True)},
        )
        name = f"{rows_digest(shard.keys)}-{xxhash.xxh3_64_hexdigest(content)}{SUFFIX}"
        write_bytes(self.path / side / name, content)
        return name

    def read(self, side: str, file: str, rows: np.ndarray | None = None) -> FeatureShard:
        """Read a shard, or the rows at these positions alone, in their order.

        All bytes are checked; only what is asked for is decoded. Raises DamagedShardError, after
        putting the file aside, if it was changed.
        """
        tensors, facts = self._load(side, file)
        unusable = {int(i): reason for i, reason in facts["unusable"].items()}
        if rows is not None:
            tensors = {name: tensor[rows] for name, tensor in tensors.items()}
            numbers = enumerate(rows.tolist())
            unusable = {i: unusable[row] for i, row in numbers if row in unusable}
        encoded = Encoded(tensors["values"], tensors.get("scales"), facts["dtype"])
        prefix = "column."
        return FeatureShard(
            keys=_hex_keys(tensors["keys"]),
            values_ECK=decode(encoded),
            unusable=unusable,
            # safetensors gives them in no order, and tables are written from them.
            columns={
                name.removeprefix(prefix): tensors[name]
                for name in sorted(tensors)
                if name.startswith(prefix)
            },
        )

    def files(self, side: str) -> dict[str, str]:
        """Return the shards that are there: file names by the digest of their rows."""
        paths = listed((self.path / side), f"*{SUFFIX}")
        return {path.name.partition("-")[0]: path.name for path in paths}

    def keys(self, side: str) -> StoredKeys:
        """Return where each row of every shard lies. Reads the keys, not the values."""
        files: list[str] = []
        parts: list[np.ndarray] = [np.zeros(0, "S16")]
        for file in self.files(side).values():
            try:
                with safe_open(local_file(self.path / side / file), framework="np") as shard:
                    keys_E16 = np.ascontiguousarray(shard.get_tensor("keys"))
            except (SafetensorError, OSError):
                self._put_aside(self.path / side / file)
                continue  # its rows are missing now, and will be computed again
            files.append(file)
            parts.append(keys_E16.view("S16").reshape(-1))
        sizes = [len(part) for part in parts[1:]]
        owners = np.repeat(np.arange(len(files)), sizes)
        positions = np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)])
        keys = np.concatenate(parts)
        order = np.argsort(keys, kind="stable")  # of equal ones the last is found
        return StoredKeys(files, keys[order], owners[order], positions[order])

    def unusable(self, side: str, file: str) -> dict[int, str]:
        """Return the positions of a shard's rows that have no feature, and why."""
        with safe_open(local_file(self.path / side / file), framework="np") as shard:
            facts = json.loads(shard.metadata()["tis_ray"])
        return {int(position): reason for position, reason in facts["unusable"].items()}

    def _put_aside(self, path: Place) -> None:
        if isinstance(path, Path):
            path.replace(path.with_suffix(".damaged"))
        else:
            path.fs.mv(path.path, path.with_suffix(".damaged").path)

    def _load(self, side: str, file: str) -> tuple[dict[str, np.ndarray], _ShardFacts]:
        path = self.path / side / file
        try:
            content = local_file(path).read_bytes()
        except FileNotFoundError:
            raise DamagedShardError(f"{path}: this feature shard is missing") from None
        checksum = path.stem.partition("-")[2]
        if xxhash.xxh3_64_hexdigest(content) != checksum:
            self._put_aside(path)
            raise DamagedShardError(f"{path}: its bytes are no longer those that were written")
        try:
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            return safetensors.numpy.load(content), json.loads(header["__metadata__"]["tis_ray"])
        except (SafetensorError, ValueError, KeyError) as error:
            raise DamagedShardError(f"{path}: not a feature shard ({error})") from None


def rows_digest(keys: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that name a sequence of row keys."""
    return blake2b("".join(keys).encode(), digest_size=8).hexdigest()


def require_same_space(
    ours: Mapping[str, object], theirs: Mapping[str, object], names: tuple[str, str]
) -> None:
    """Raise InputError, listing each field that differs, unless two spaces are the same."""
    a, b = _leaves(ours), _leaves(theirs)
    differing = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    if differing:
        lines = [
            f"{key}: {_short(a.get(key, 'absent'))} against {_short(b.get(key, 'absent'))}"
            for key in differing
        ]
        raise InputError(
            f"{names[0]} and {names[1]} hold features of different spaces, whose dot products mean "
            f"nothing; they differ in {'; '.join(lines)}"
        )


def _leaves(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {path: value}
    leaves: dict[str, object] = {}
    for key, child in value.items():
        leaves |= _leaves(child, f"{path}.{key}" if path else key)
    return leaves


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _packed(keys: Sequence[str]) -> np.ndarray:
    """Return keys of 32 hexadecimal digits as 16 bytes each."""
    return np.frombuffer(bytes.fromhex("".join(keys)), "S16")


def _hex_keys(keys_E16: np.ndarray) -> list[str]:
    text = keys_E16.tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]
