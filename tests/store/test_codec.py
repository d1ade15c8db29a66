"""Encoded features: as small as promised, as close as theory says, the same bytes everywhere."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from tis_ray.errors import InputError
from tis_ray.store import codec
from tis_ray.store.codec import Encoded, decode, encode, rotate, unrotate

ALL = ("float32", "float16", "int8", "int4", "int2")
SCALED = ("int8", "int4", "int2")
LOW = ("int4", "int2")
DISTORTION = {"int4": 0.01154, "int2": 0.1175}
BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5, "int2": 0.25}


def gaussian(rows: int = 16, checkpoints: int = 2, width: int = 2048, seed: int = 0) -> np.ndarray:
    """Unit rows (rows, checkpoints, width)."""
    shape = (rows, checkpoints, width)
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return values / np.linalg.norm(values, axis=2, keepdims=True)


def hot(rows: int = 16, checkpoints: int = 2, width: int = 2048) -> np.ndarray:
    """Unit rows in which the same 1 in 20 of the columns are 50 times as large as the others."""
    values = gaussian(rows, checkpoints, width, seed=1)
    values[..., np.random.default_rng(1).choice(width, width // 20, replace=False)] *= 50
    return values / np.linalg.norm(values, axis=2, keepdims=True)


def distortion(values: np.ndarray, decoded: np.ndarray) -> float:
    """1 - cos² of the halves and of what was decoded from them, on average."""
    one, other = (
        part.reshape(-1, part.shape[2] // 2).astype(np.float64) for part in (values, decoded)
    )
    squared = (one * other).sum(1) ** 2
    return float(1 - np.mean(squared / ((one**2).sum(1) * (other**2).sum(1))))


def relative_error(values: np.ndarray, decoded: np.ndarray) -> float:
    return float(np.square(values - decoded).sum() / np.square(values).sum())


def same(one: Encoded, other: Encoded) -> bool:
    if one.scales is None or other.scales is None:
        return one.scales is other.scales and np.array_equal(one.data, other.data)
    return np.array_equal(one.data, other.data) and np.array_equal(one.scales, other.scales)


def sylvester(order: int) -> np.ndarray:
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


# Precision


@pytest.mark.parametrize("dtype", LOW)
def test_the_quantiser_is_the_best_of_its_kind_for_a_gaussian(dtype: str) -> None:
    """The documented distortion is that of the levels and thresholds, and no other step is better."""
    levels, step = np.asarray(codec._LEVELS[dtype]), codec._STEP[dtype]

    def error(stretch: float) -> float:
        edges = step * stretch * np.arange(1 - len(levels) // 2, len(levels) // 2)
        edges = np.concatenate([[-12], edges, [12]])
        return sum(
            integrate.quad(
                lambda x, level=level: (x - stretch * level) ** 2 * stats.norm.pdf(x), low, high
            )[0]
            for low, high, level in zip(edges, edges[1:], levels, strict=False)
        )

    assert error(1) == pytest.approx(DISTORTION[dtype], rel=1e-3)
    assert error(1) == pytest.approx(min(error(s) for s in (0.97, 0.999, 1, 1.001, 1.03)), rel=1e-5)


@pytest.mark.parametrize("dtype", LOW)
def test_gaussian_rows_come_back_with_the_error_of_theory(dtype: str) -> None:
    """Within 2%; sampling error is below 1% with 65,536 numbers."""
    values = gaussian()
    decoded = decode(encode(values, dtype))
    assert distortion(values, decoded) == pytest.approx(DISTORTION[dtype], rel=0.02)
    error = DISTORTION[dtype] / (1 - DISTORTION[dtype])
    assert relative_error(values, decoded) == pytest.approx(error, rel=0.02)
    best = decoded * (1 - DISTORTION[dtype])  # the scale that minimises the error
    assert relative_error(values, best) == pytest.approx(DISTORTION[dtype], rel=0.02)


@pytest.mark.parametrize("dtype", LOW)
def test_hot_columns_are_no_worse(dtype: str) -> None:
    """Sums of few numbers have lighter tails than a Gaussian: the error may be a little smaller."""
    values = hot()
    error = distortion(values, decode(encode(values, dtype)))
    assert 0.9 * DISTORTION[dtype] < error < 1.02 * DISTORTION[dtype]


@pytest.mark.parametrize("count", [1, 2, 8, 64])
@pytest.mark.parametrize(("dtype", "bound"), [("int4", 0.02), ("int2", 0.15)])
def test_sparse_rows_are_no_worse(count: int, dtype: str, bound: float) -> None:
    """Sums of a handful of numbers are not Gaussian, so the bound leaves some room."""
    rng = np.random.default_rng(2)
    values = np.zeros((32, 2, 1024), np.float32)
    for half in values.reshape(-1, 512):
        half[rng.choice(512, count, replace=False)] = rng.standard_normal(count)
    assert distortion(values, decode(encode(values, dtype))) < bound


@pytest.mark.parametrize(("dtype", "worse"), [("int4", 5), ("int2", 3)])
def test_without_the_rotation_hot_rows_are_lost(
    dtype: str, worse: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = hot()
    good = distortion(values, decode(encode(values, dtype)))
    monkeypatch.setattr(codec, "rotate", lambda halves: halves)
    monkeypatch.setattr(codec, "unrotate", lambda halves: halves)
    assert distortion(values, decode(encode(values, dtype))) > worse * good


def test_int8_errs_by_at_most_half_a_step() -> None:
    for values in (gaussian(), hot()):
        encoded = encode(values, "int8")
        assert encoded.scales is not None
        error = np.abs(decode(encoded) - values).reshape(16, 2, 2, -1).max(axis=3)
        assert (error <= encoded.scales * 0.5001).all()
        largest = np.abs(values).reshape(16, 2, 2, -1).max(axis=3)
        np.testing.assert_allclose(encoded.scales, largest / 127, rtol=1e-6)
    assert relative_error(gaussian(), decode(encode(gaussian(), "int8"))) < 1e-4


def test_float_types_are_casts() -> None:
    values = gaussian()
    np.testing.assert_array_equal(decode(encode(values, "float32")), values)
    halves = values.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(decode(encode(values, "float16")), halves)


@pytest.mark.parametrize("dtype", LOW)
def test_dot_products_with_the_original_are_exact_for_each_half(dtype: str) -> None:
    values = np.concatenate([gaussian(), hot()])
    values[:, :, :1024] *= 7  # the halves need not be equally long
    halves, found = (part.reshape(-1, 1024) for part in (values, decode(encode(values, dtype))))
    np.testing.assert_allclose((halves * found).sum(1), (halves**2).sum(1), rtol=1e-5)


@pytest.mark.parametrize("dtype", LOW)
def test_dot_products_with_others_are_unbiased(dtype: str) -> None:
    """For cosines of 0.5, over 400 pairs: mean error within 4 standard errors of zero."""
    values, noise = gaussian(400, 1), gaussian(400, 1, seed=3)
    queries = 0.5 * values + np.sqrt(0.75) * noise
    exact = (queries * values).sum(2)
    errors = (queries * decode(encode(values, dtype))).sum(2) - exact
    assert abs(errors.mean()) < 4 * errors.std() / 20
    # Unit rows shrink cosines by a constant instead.
    shrunk = (queries * decode(encode(values, dtype), unit=True)).sum(2) / exact
    assert shrunk.mean() == pytest.approx(np.sqrt(1 - DISTORTION[dtype]), rel=0.01)


@pytest.mark.parametrize("dtype", ALL)
def test_unit_rows_have_length_1_unless_they_are_zero(dtype: str) -> None:
    values = np.concatenate([gaussian() * 1e-6, hot() * 3e3, np.zeros((1, 2, 2048))])
    values = values.astype(np.float32)
    decoded = decode(encode(values, dtype), unit=True)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(decoded[:-1], axis=2), 1, rtol=2e-6)
    assert not decoded[-1].any()


# The rotation


def test_the_rotation_is_an_explicit_hadamard_matrix_with_fixed_signs() -> None:
    bits = hashlib.shake_256(b"tis/codec/v1/signs").digest(1)[0]
    signs = np.array([-1.0 if bits >> place & 1 else 1.0 for place in range(8)]).reshape(2, 4)
    rows = np.random.default_rng(4).standard_normal((5, 2, 4))
    expected = np.einsum("ij,rhj->rhi", sylvester(4), rows * signs) / 2
    np.testing.assert_allclose(rotate(rows), expected, rtol=1e-6)
    assert set(signs.ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize("half", [2, 4, 8, 64, 1024])
def test_the_rotation_is_orthonormal_and_undone_by_its_transpose(half: int) -> None:
    identity = np.eye(half)[:, None].repeat(2, axis=1)  # row i holds unit vector i in both halves
    matrices = rotate(identity).transpose(1, 2, 0)
    for matrix, inverse in zip(matrices, unrotate(identity).transpose(1, 2, 0), strict=True):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(half), atol=1e-6)
        np.testing.assert_allclose(inverse, matrix.T, atol=1e-12)
    rows = np.random.default_rng(5).standard_normal((3, 2, half))
    kept = rows.copy()
    np.testing.assert_allclose(unrotate(rotate(rows)), rows, atol=1e-6)
    np.testing.assert_array_equal(rows, kept)  # arguments stay as they are


def test_signs_are_balanced_and_uncorrelated() -> None:
    signs = np.sign(codec._signs(4096)).ravel()
    for lag in (1, 2, 32, 64, 4096):
        assert abs((signs[:-lag] * signs[lag:]).mean()) < 4 / np.sqrt(len(signs) - lag)
    assert abs(signs.mean()) < 4 / np.sqrt(len(signs))


# Bytes


@pytest.mark.parametrize("dtype", ALL)
def test_sizes_and_types_on_disk(dtype: str) -> None:
    encoded = encode(gaussian(), dtype)
    assert encoded.data.shape == (16, 2, 2048 * min(BYTES[dtype], 1))
    assert encoded.data.nbytes == 16 * 2 * 2048 * BYTES[dtype]
    assert encoded.data.dtype.byteorder in "<|="
    assert encoded.data.flags.c_contiguous
    assert encoded.width == 2048
    if dtype in SCALED:
        assert encoded.scales is not None
        assert (encoded.scales.shape, encoded.scales.dtype.str) == ((16, 2, 2), "<f4")
    else:
        assert encoded.scales is None


def test_bytes_are_fixed() -> None:
    """Stored features of every user depend on these: a change needs another `codec.VERSION`."""
    ramp = (np.arange(-7, 9, dtype=np.float32) ** 3).reshape(1, 1, 16)
    assert codec.VERSION == "tis/codec/v1"
    assert encode(ramp, "int8").data.tobytes().hex() == "81b0d2e8f6fd0000000207101f36557f"
    assert encode(ramp, "int4").data.tobytes().hex() == "5726572668c7a729"
    assert encode(ramp, "int2").data.tobytes().hex() == "1515d629"


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("width", [4, 64, 8192])
def test_a_row_has_the_same_bytes_alone_and_in_any_batch(dtype: str, width: int) -> None:
    values = gaussian(41, 3, width) * np.geomspace(0.01, 100, 41, dtype=np.float32)[:, None, None]
    whole = encode(values, dtype)
    order = np.random.default_rng(6).permutation(41)
    shuffled = encode(values[order], dtype)
    np.testing.assert_array_equal(shuffled.data, whole.data[order])
    for rows in (slice(0, 1), slice(17, 18), slice(40, 41), slice(3, 29)):
        part = encode(values[rows], dtype)
        scales = None if whole.scales is None else whole.scales[rows]
        stored = Encoded(whole.data[rows], scales, dtype)
        assert same(part, stored)
        for unit in (False, True):
            np.testing.assert_array_equal(decode(stored, unit), decode(whole, unit)[rows])
    assert same(encode(values, dtype), whole)


@pytest.mark.parametrize("dtype", ALL)
def test_layout_of_the_input_does_not_matter(dtype: str) -> None:
    values = gaussian(8, 2, 256)
    kept = values.copy()
    wide = np.zeros((8, 2, 512), np.float32)
    wide[..., ::2] = values
    expected = encode(values, dtype)
    for other in (
        wide[..., ::2],
        np.asfortranarray(values),
        values.astype(">f4"),
        values.astype(float),
    ):
        assert same(encode(other, dtype), expected)
    values.flags.writeable = False
    assert same(encode(values, dtype), expected)
    np.testing.assert_array_equal(values, kept)
    values.flags.writeable = True
    values[:] = 0  # what was encoded is a copy
    assert same(encode(kept, dtype), expected)


@pytest.mark.parametrize("dtype", ALL)
def test_files_come_back(dtype: str, tmp_path: Any) -> None:
    encoded = encode(gaussian(), dtype)
    np.save(tmp_path / "data.npy", encoded.data, allow_pickle=False)
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(decode(Encoded(mapped, encoded.scales, dtype)), decode(encoded))


@pytest.mark.parametrize("dtype", ALL)
def test_zero_rows_and_zero_halves_stay_zero(dtype: str) -> None:
    values = gaussian(4, 2, 64)
    values[1] = 0
    values[2, 0, :32] = 0
    values[3, 1, 32:] = -0.0
    decoded = decode(encode(values, dtype))
    assert not decoded[1].any()
    assert not decoded[2, 0, :32].any()
    assert not decoded[3, 1, 32:].any()
    assert decoded[0].any(axis=1).all()
    assert decoded[2, 0, 32:].any()


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", [(0, 3, 64), (3, 0, 64), (0, 0, 64)])
def test_no_rows(dtype: str, shape: tuple[int, ...]) -> None:
    encoded = encode(np.zeros(shape, np.float32), dtype)
    assert encoded.data.shape == (*shape[:2], 64 * min(BYTES[dtype], 1))
    assert decode(encoded).shape == shape
    assert decode(encoded, unit=True).shape == shape


# Properties

WIDTHS = st.sampled_from([4, 8, 32])
NUMBERS = st.floats(-1e4, 1e4, width=32).filter(lambda v: v == 0 or abs(v) > 1e-4)
MATRICES = WIDTHS.flatmap(
    lambda width: arrays(
        np.float32, st.tuples(st.integers(0, 4), st.just(2), st.just(width)), elements=NUMBERS
    )
)


@given(MATRICES, st.sampled_from(ALL))
def test_decoding_is_near_for_any_rows(values: np.ndarray, dtype: str) -> None:
    """However far from Gaussian: the dot product with the original holds, and the direction
    is less than 54 degrees off (a half of 16 that the rotation makes one large coordinate)."""
    decoded = decode(encode(values, dtype))
    assert decoded.shape == values.shape
    halves, found = (part.reshape(-1, part.shape[2] // 2) for part in (values, decoded))
    dots = (halves * found).sum(1, dtype=np.float64)
    squares = np.square(halves, dtype=np.float64).sum(1)
    np.testing.assert_allclose(dots, squares, rtol=0.02 if dtype == "int8" else 2e-3, atol=1e-30)
    lengths = np.sqrt(np.square(found, dtype=np.float64).sum(1))
    assert (dots >= 0.6 * lengths * np.sqrt(squares)).all()


@given(MATRICES, st.sampled_from(SCALED), st.integers(-20, 20))
def test_scaling_a_row_scales_only_its_scales(values: np.ndarray, dtype: str, power: int) -> None:
    """Powers of two are exact in floating point, so this holds to the last bit."""
    one, other = encode(values, dtype), encode(np.ldexp(values, power), dtype)
    assert one.scales is not None
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(np.ldexp(one.scales, power), other.scales)


@given(MATRICES, st.sampled_from(SCALED), st.integers(0, 1))
def test_halves_do_not_touch_each_other(values: np.ndarray, dtype: str, half: int) -> None:
    middle = values.shape[2] // 2
    kept = slice(half * middle, (half + 1) * middle)
    alone = np.zeros_like(values)
    alone[..., kept] = values[..., kept]
    np.testing.assert_array_equal(
        decode(encode(values, dtype))[..., kept], decode(encode(alone, dtype))[..., kept]
    )


@pytest.mark.parametrize("dtype", SCALED)
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_small_and_large_rows(dtype: str, size: float) -> None:
    values = gaussian(4, 1, 256) * np.float32(size)
    decoded = decode(encode(values, dtype))
    assert distortion(values / np.float32(size), decoded / np.float32(size)) < 0.15
    unit = decode(encode(values, dtype), unit=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=2), 1, rtol=1e-5)


# Errors


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("width", [2, 6, 12, 7, 384])
def test_widths_that_cannot_be_rotated_are_named(dtype: str, width: int) -> None:
    with pytest.raises(
        InputError, match=rf"{dtype} features of width {width}: half of it, {width / 2:g}"
    ):
        encode(np.ones((1, 1, width), np.float32), dtype)


def test_int8_needs_an_even_width_and_floats_take_any() -> None:
    with pytest.raises(InputError, match="width 5: it must be even"):
        encode(np.ones((1, 1, 5), np.float32), "int8")
    for dtype, width in (("float32", 5), ("float16", 5), ("int8", 6), ("int8", 384)):
        values = np.ones((2, 1, width), np.float32)
        np.testing.assert_allclose(decode(encode(values, dtype)), values, rtol=1e-6)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_values_that_are_not_finite_are_named(dtype: str, bad: float) -> None:
    values = gaussian(5, 2, 64)
    values[3, 1, 40] = values[4, 0, 0] = bad
    with pytest.raises(
        InputError, match=f"row 3, checkpoint 1: not finite or too large for {dtype}"
    ):
        encode(values, dtype)


@pytest.mark.filterwarnings("error")
def test_values_too_large_for_float16_are_named() -> None:
    values = np.full((2, 1, 4), 7e4, np.float32)
    with pytest.raises(InputError, match=r"row 0, checkpoint 0.*too large for float16"):
        encode(values, "float16")


def test_unknown_types_and_arrays_of_another_type_are_refused() -> None:
    with pytest.raises(InputError, match="'int3'; choose from float32, float16, int8, int4, int2"):
        encode(gaussian(), "int3")
    whole = encode(gaussian(), "int4")
    with pytest.raises(
        InputError, match=r"int8 features are stored as int8, .* found uint8 and scales"
    ):
        Encoded(whole.data, whole.scales, "int8")
    with pytest.raises(
        InputError, match=r"int4 features are stored as uint8, .* found uint8 and no scales"
    ):
        Encoded(whole.data, None, "int4")
