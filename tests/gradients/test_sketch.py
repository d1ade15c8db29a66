"""Sketches: a pure function, linear, unbiased, of the variance the formula says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.gradients.integer_hash import digest_words, fmix32, grid_word
from tests.properties import tries
from tis_ray.errors import InputError
from tis_ray.gradients import Sketch, checkpoint_seed, unit_rows, unusable_rows
from tis_ray.gradients import sketch as sketch_module

KINDS = ["rotation", "rademacher"]


# --- the projection, in Python integers -------------------------------------------------------


def seed_words(seed: int, half: int, name: str, shape: tuple[int, ...], width: int) -> list[int]:
    text = f"tis/sketch/v1|{seed}|{half}|{name}|{'x'.join(map(str, shape))}|{width}"
    return digest_words(text)[:2]


def explicit_matrix(width: int, seed: int, kind: str, name: str, shape: tuple[int, ...]):
    """The projection written out, (width, n) float64, from Python integers alone."""
    count = math.prod(shape)
    matrix = torch.zeros(width, count, dtype=torch.float64)
    if kind == "rademacher":
        first, second = seed_words(seed, 0, name, shape, width)
        for i in range(count):
            for j in range(width):
                bit = grid_word(i, j // 32, first, second) >> (j % 32) & 1
                matrix[j, i] = (1 - 2 * bit) / math.sqrt(width)
        return matrix
    slots = width // 2
    for half in (0, 1):
        first, second = seed_words(seed, half, name, shape, width)
        for i in range(count):
            bit = fmix32((i // 32) ^ first) >> (i % 32) & 1
            slot = (i + fmix32((i // slots) ^ second)) % slots
            matrix[half * slots + slot, i] = (1 - 2 * bit) / math.sqrt(2)
    return matrix


def project(sketch: Sketch, blocks: dict[str, torch.Tensor]) -> torch.Tensor:
    accumulator = sketch.new(len(next(iter(blocks.values()))))
    for name, block in blocks.items():
        sketch.add(accumulator, name, block)
    return sketch.finish(accumulator)


# --- what it computes -------------------------------------------------------------------------

GOLDEN_SEED_WORDS = [3114261206, 3189374540]
GOLDEN_SIGNS = "+++-+-+-+-+++-+-----+-++-+--+++-+++++-+++++-+-+++-+---+-+---++---+---+"
GOLDEN_OFFSETS = [10, 16, 2, 14, 30, 5, 19, 21, 19, 4]
GOLDEN_DENSE = "----+-++-+-+--++-++++-++---++--++-+-+--++++---++--+-+--+-+-++---++--+-+-+++-----"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"


def as_text(signs: torch.Tensor) -> str:
    return "".join("+" if sign > 0 else "-" for sign in signs.flatten().tolist())


def test_the_projection_never_changes():
    """Stored features depend on these bits: a change here orphans every feature store."""
    assert seed_words(7, 1, LAYER, (8, 128), 64) == GOLDEN_SEED_WORDS
    assert list(Sketch(64, 7)._seed_words(1, LAYER, (8, 128))) == GOLDEN_SEED_WORDS
    first, second = GOLDEN_SEED_WORDS
    cpu = torch.device("cpu")
    assert as_text(sketch_module._signs(70, first, cpu)) == GOLDEN_SIGNS
    assert sketch_module._offsets(8 * 128, second, 32, cpu)[:10].tolist() == GOLDEN_OFFSETS
    assert as_text(sketch_module._dense_signs(3, 5, 40, (first, second), cpu)) == GOLDEN_DENSE
    assert checkpoint_seed(0, 1, shared=False) == 4170210517


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (8, 4), (7, 11)])
@pytest.mark.parametrize("width", [4, 16, 64])
def test_the_sketch_is_its_explicit_matrix(kind, shape, width):
    """So it is linear, and <S x, y> = <x, Sᵀ y> holds by definition."""
    block = torch.randn(3, *shape)
    found = project(Sketch(width, 5, kind), {"w": block})
    matrix = explicit_matrix(width, 5, kind, "w", shape)
    torch.testing.assert_close(found.double(), block.flatten(1).double() @ matrix.T, **LOOSE)


LOOSE = {"rtol": 1e-5, "atol": 1e-5}


def test_a_dense_sketch_takes_any_width(monkeypatch):
    monkeypatch.setattr(sketch_module, "_DENSE_CHUNK", 100)  # several chunks of rows
    block = torch.randn(2, 9)
    found = project(Sketch(37, 5, "rademacher"), {"w": block})
    matrix = explicit_matrix(37, 5, "rademacher", "w", (9,))
    torch.testing.assert_close(found.double(), block.double() @ matrix.T, **LOOSE)


@tries(30)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**63),
    shape=st.sampled_from([(1, 1), (4, 9), (13, 40)]),
    scale=st.floats(-3, 3),
)
def test_linearity(kind, seed, shape, scale):
    x, y = torch.randn(2, *shape), torch.randn(2, *shape)
    sketch = Sketch(32, seed, kind)
    left = project(sketch, {"w": scale * x + y})
    right = scale * project(sketch, {"w": x}) + project(sketch, {"w": y})
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("count", "slots"), [(5, 8), (8, 8), (100, 8), (1000, 64), (64, 64)])
def test_gathering_equals_slicing(count, slots):
    """Devices other than the CPU take the gather path."""
    flat = torch.randn(3, count)
    signs = sketch_module._signs(count, 9, torch.device("cpu"))
    offsets = sketch_module._offsets(count, 4, slots, torch.device("cpu"))
    sliced, gathered = torch.zeros(3, slots), torch.zeros(3, slots)
    sketch_module._fold_slices(sliced, flat, signs, offsets)
    sketch_module._fold_gather(gathered, flat, signs, offsets)
    torch.testing.assert_close(gathered, sliced, **LOOSE)


# --- invariances ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_module_order_does_not_matter(kind):
    blocks = {f"layer{i}": torch.randn(4, 6, 30 + i) for i in range(12)}
    sketch = Sketch(64, 1, kind)
    forward = project(sketch, blocks)
    backward = project(Sketch(64, 1, kind), dict(reversed(blocks.items())))
    error = torch.linalg.vector_norm(forward - backward, dim=1)
    assert (error <= 1e-6 * torch.linalg.vector_norm(forward, dim=1)).all()
    assert torch.equal(forward, project(sketch, blocks))


def test_an_example_does_not_depend_on_its_batch():
    blocks = {"a": torch.randn(9, 7, 50), "b": torch.randn(9, 300)}
    together = project(Sketch(128, 1), blocks)
    alone = project(Sketch(128, 1), {name: block[4:5] for name, block in blocks.items()})
    assert torch.equal(alone[0], together[4])


@pytest.mark.parametrize("kind", KINDS)
def test_name_shape_seed_and_width_all_matter(kind):
    block = torch.randn(2, 4, 64)
    base = project(Sketch(32, 1, kind), {"w": block})
    assert torch.equal(base, project(Sketch(32, 1, kind), {"w": block}))
    assert not torch.equal(base, project(Sketch(32, 1, kind), {"v": block}))
    assert not torch.equal(base, project(Sketch(32, 2, kind), {"w": block}))
    assert not torch.equal(base, project(Sketch(32, 1, kind), {"w": block.view(2, 64, 4)}))
    assert not torch.equal(base, project(Sketch(64, 1, kind), {"w": block})[:, :32])


def test_checkpoint_seeds():
    own = [checkpoint_seed(3, checkpoint, shared=False) for checkpoint in range(5)]
    assert len(set(own)) == 5
    assert own == [checkpoint_seed(3, checkpoint, shared=False) for checkpoint in range(5)]
    assert {checkpoint_seed(3, checkpoint, shared=True) for checkpoint in range(5)} == {3}
    assert checkpoint_seed(4, 0, shared=False) not in own


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_stays_in_its_row(kind):
    block = torch.randn(3, 200)
    clean = project(Sketch(16, 1, kind), {"w": block})
    block[1, 3] = float("nan")
    found = project(Sketch(16, 1, kind), {"w": block})
    assert torch.equal(found[[0, 2]], clean[[0, 2]])
    assert unusable_rows(found) == [1]


# --- statistics -------------------------------------------------------------------------------

WIDTH, COUNT = 64, 512
CASES = ("gaussian", "one-hot pair", "hot column")


def vectors(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, COUNT, generator=draw)
    if case == "one-hot pair":
        # Two coordinates in different blocks, which share a slot under some seeds only.
        x, y = torch.zeros(COUNT), torch.zeros(COUNT)
        x[3] = x[3 + 5 * WIDTH // 2] = 1.0
        y[3], y[3 + 5 * WIDTH // 2] = 1.0, 2.0
    if case == "hot column":
        # As LoRA gradients are: the same few input columns are large in every row.
        hot = torch.ones(8, WIDTH)
        hot[:, [5, 40]] = 20.0
        x, y = x * hot.flatten(), y * hot.flatten()
    return x, y


def predicted_variance(kind: str, x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x.double(), y.double()
    pairs = torch.outer(x**2, y**2) + torch.outer(x * y, x * y)
    block = torch.arange(COUNT) // (1 if kind == "rademacher" else WIDTH // 2)
    return float(pairs[block[:, None] != block[None, :]].sum()) / WIDTH


def estimates(kind: str, seeds: int) -> dict[str, torch.Tensor]:
    """The scores of each case under many seeds, (seeds,); a seed's sketch is made once for all."""
    pairs = torch.cat([torch.stack(vectors(case)) for case in CASES])
    features = torch.stack(
        [project(Sketch(WIDTH, seed, kind), {"w": pairs}) for seed in range(seeds)]
    ).double()
    products = (features[:, ::2] * features[:, 1::2]).sum(dim=2)
    return dict(zip(CASES, products.T, strict=True))


@pytest.fixture(scope="module", params=KINDS)
def estimated(request):
    return request.param, estimates(request.param, seeds=2000)


@pytest.mark.parametrize("case", CASES)
def test_unbiased_and_of_the_predicted_variance(estimated, case):
    kind, found_by_case = estimated
    x, y = vectors(case)
    found = found_by_case[case]
    deviation = found[:200].std()
    assert abs(found[:200].mean() - float(x @ y)) < 4 * deviation / math.sqrt(200)
    assert abs(found.mean() - float(x @ y)) < 4 * found.std() / math.sqrt(len(found))
    assert float(found.var()) == pytest.approx(predicted_variance(kind, x, y), rel=0.15)


def test_never_noisier_than_a_dense_sketch():
    for case in CASES:
        x, y = vectors(case)
        assert predicted_variance("rotation", x, y) <= predicted_variance("rademacher", x, y)


def test_without_offsets_hot_columns_pile_up(monkeypatch):
    """The mutation that the offsets exist to prevent: folding a matrix over its own columns."""
    x, y = vectors("hot column")
    monkeypatch.setattr(
        sketch_module,
        "_offsets",
        lambda count, seed, slots, device: torch.zeros(-(-count // slots), dtype=torch.int64),
    )
    found = estimates("rotation", seeds=1000)["hot column"]
    assert float(found.var()) > 2 * predicted_variance("rotation", x, y)


def test_signs_and_offsets_are_balanced():
    cpu = torch.device("cpu")
    signs = sketch_module._signs(1 << 16, 12345, cpu)
    assert abs(float(signs.mean())) < 4 / 256
    assert abs(float((signs[:-1] * signs[1:]).mean())) < 4 / 256
    offsets = sketch_module._offsets(1 << 20, 12345, 64, cpu)
    counts = torch.bincount(offsets, minlength=64).double()
    expected = len(offsets) / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 63 + 5 * math.sqrt(2 * 63)


# --- rows and refusals ------------------------------------------------------------------------


def test_unit_rows_have_length_one():
    rows = unit_rows(torch.tensor([[3.0, 4.0], [1e-30, 0.0], [1e30, 1e30]]))
    torch.testing.assert_close(rows.double().norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert rows.dtype == torch.float32


@pytest.mark.parametrize("bad", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_rows_without_a_direction_are_named(bad):
    rows = torch.tensor([[1.0, 0.0], bad, bad])
    assert unusable_rows(rows) == [1, 2]
    with pytest.raises(InputError, match=r"feature row 1 .*2 such rows"):
        unit_rows(rows)


@pytest.mark.parametrize(
    ("width", "kind", "message"),
    [
        (1000, "rotation", "width is 1000"),
        (2, "rotation", "width is 2"),
        (0, "rademacher", "width is 0"),
        (64, "srht", "kind is 'srht'"),
    ],
)
def test_impossible_sketches_are_refused(width, kind, message):
    with pytest.raises(InputError, match=message):
        Sketch(width, 0, kind)


def test_the_spec_tells_sketches_apart():
    specs = [Sketch(64, 1).spec, Sketch(64, 2).spec, Sketch(32, 1).spec]
    specs.append(Sketch(64, 1, "rademacher").spec)
    assert len({tuple(spec.items()) for spec in specs}) == 4
