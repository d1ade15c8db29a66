"""The feature store: found by content, whole or not at all, checked on every read."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest

from tis_ray.errors import InputError
from tis_ray.store.feature_store import (
    DamagedShardError,
    FeatureShard,
    FeatureStore,
    require_same_space,
    rows_digest,
)

SPACE = {"representation": "less", "dtype": "float16", "sketch": {"width": 16, "seed": 0}}
TYPES = {"float32": 0.0, "float16": 1e-3, "int8": 2e-2, "int4": 0.4, "int2": 1.0}


def key(number):
    return blake2b(str(number).encode(), digest_size=16).hexdigest()


def shard(numbers, unusable=None):
    rng = np.random.default_rng(numbers)
    values = rng.standard_normal((len(numbers), 2, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=2, keepdims=True)
    for position in unusable or {}:
        values[position] = 0
    columns = {
        "loss": rng.random((len(numbers), 2)).astype(np.float32),
        "truncated": np.array([n % 2 == 0 for n in numbers]),
    }
    return FeatureShard([key(n) for n in numbers], values, unusable or {}, columns)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_written_is_read(tmp_path, dtype):
    store = FeatureStore(tmp_path, SPACE)
    written = shard([1, 2, 3], unusable={1: "non_finite_loss"})
    file = store.write("pool", written, dtype)
    found = store.read("pool", file)
    assert found.keys == written.keys
    assert found.unusable == {1: "non_finite_loss"} == store.unusable("pool", file)
    assert np.abs(found.values_ECK - written.values_ECK).max() <= TYPES[dtype]
    assert not found.values_ECK[1].any()
    for name, values in written.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)
    assert store.files("pool") == {rows_digest(written.keys): file}
    assert store.files("query") == {}


@pytest.mark.parametrize("dtype", TYPES)
def test_some_rows_are_read_as_they_are_in_the_whole(tmp_path, dtype):
    store = FeatureStore(tmp_path, SPACE)
    file = store.write("pool", shard([1, 2, 3, 4], unusable={3: "non_finite_loss"}), dtype)
    whole, some = store.read("pool", file), store.read("pool", file, np.array([3, 0, 3]))
    assert some.keys == [key(4), key(1), key(4)]
    assert some.unusable == {0: "non_finite_loss", 2: "non_finite_loss"}
    np.testing.assert_array_equal(some.values_ECK, whole.values_ECK[[3, 0, 3]])
    np.testing.assert_array_equal(some.columns["loss"], whole.columns["loss"][[3, 0, 3]])


def test_equal_shards_are_equal_files(tmp_path):
    names = [
        FeatureStore(tmp_path / str(i), SPACE).write("pool", shard([1, 2]), "int8")
        for i in range(2)
    ]
    assert names[0] == names[1]


def test_a_shard_of_no_rows_is_kept(tmp_path):
    store = FeatureStore(tmp_path, SPACE)
    empty = FeatureShard([], np.zeros((0, 2, 16), np.float32))
    assert store.read("pool", store.write("pool", empty, "float16")).values_ECK.shape == (0, 2, 16)


def test_rows_are_found_wherever_they_lie(tmp_path):
    store = FeatureStore(tmp_path, SPACE)
    files = [store.write("pool", shard(numbers), "float16") for numbers in ([5, 6], [7])]
    found = store.keys("pool")
    owners, positions = found.places([key(7), key(5), key(8), key(6)])
    named = [found.files[owner] if owner >= 0 else None for owner in owners]
    assert named == [files[1], files[0], None, files[0]]
    assert positions.tolist() == [0, 0, -1, 1]


def test_of_rows_that_lie_in_two_files_the_place_in_the_last_is_taken(tmp_path):
    store = FeatureStore(tmp_path, SPACE)
    for numbers in ([5, 6], [7, 6], [6]):
        store.write("pool", shard(numbers), "float16")
    found = store.keys("pool")
    last = max(found.files.index(file) for file in found.files if _holds(store, file, key(6)))
    assert found.places([key(6)])[0].tolist() == [last]


def _holds(store, file, name):
    return name in store.read("pool", file).keys


def test_every_changed_byte_is_detected_and_the_file_put_aside(tmp_path):
    store = FeatureStore(tmp_path, SPACE)
    whole = (store.path / "pool" / store.write("pool", shard([1, 2]), "float16")).read_bytes()
    for place in range(0, len(whole), 37):
        name = store.write("pool", shard([1, 2]), "float16")
        path = store.path / "pool" / name
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedShardError, match="its bytes are no longer those"):
            store.read("pool", name)
        assert store.files("pool") == {}
        assert path.with_suffix(".damaged").exists()


def test_a_file_cut_short_is_detected_and_no_row_is_found_in_it(tmp_path):
    store = FeatureStore(tmp_path, SPACE)
    path = store.path / "pool" / store.write("pool", shard([1, 2]), "float16")
    path.write_bytes(path.read_bytes()[:20])
    assert store.keys("pool").places([key(1)])[0].tolist() == [-1]
    assert store.files("pool") == {}


def test_a_shard_that_is_gone_is_told(tmp_path):
    with pytest.raises(DamagedShardError, match="is missing"):
        FeatureStore(tmp_path, SPACE).read("pool", "0-0.safetensors")


def test_a_space_is_named_by_all_of_its_content(tmp_path):
    other = {**SPACE, "sketch": {"width": 16, "seed": 1}}
    assert FeatureStore(tmp_path, SPACE).path != FeatureStore(tmp_path, other).path
    store = FeatureStore(tmp_path, SPACE)
    store.write("pool", shard([1]), "float16")
    assert FeatureStore.open(store.path).space == SPACE
    with pytest.raises(InputError, match="holds no feature store"):
        FeatureStore.open(tmp_path)


def test_features_of_different_spaces_are_refused_with_what_differs():
    other = {**SPACE, "sketch": {"width": 32, "seed": 0}, "template": "chat"}
    with pytest.raises(InputError) as caught:
        require_same_space(SPACE, other, ("ours", "theirs"))
    message = str(caught.value)
    assert message.startswith("ours and theirs hold features of different spaces")
    assert message.endswith(
        "they differ in sketch.width: 16 against 32; template: absent against chat"
    )
    require_same_space(SPACE, dict(SPACE), ("ours", "theirs"))
