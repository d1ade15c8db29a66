"""How close sketched scores come to exact ones, on real gradients, for each width and storage type.

    python -m benchmarks.fidelity --config study.yaml --warmup artifacts/warmup-... [--rows 512]

Uses the pool, the queries and the model of a study, and a finished warm-up of it. Each row's gradient is made once and goes to every sketch and, whole, to the exact
products, so all figures are of the same gradients.
"""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from tis_ray.analysis.certificate import certificate, top_overlap
from tis_ray.config import Config, load_config
from tis_ray.data import Row, UnusableError
from tis_ray.gradients import Sketch, checkpoint_seed, unit_rows
from tis_ray.models.loading import load_model
from tis_ray.representations.less.features import Gradients, checkpoint_weights
from tis_ray.representations.similarity import QuerySide
from tis_ray.stages.tokens import Tokenise, read_side
from tis_ray.store.codec import decode, encode
from tis_ray.store.sides import SideName, row_dicts
from tis_ray.training.checkpoints import checkpoints

WIDTHS = (1024, 2048, 4096, 8192, 16384, 32768)
TYPES = ("float32", "float16", "int8", "int4", "int2")
SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--warmup", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--queries", type=int, default=32)
    options = parser.parse_args()
    config = load_config(options.config)
    torch.set_num_threads(config.batch.threads)
    kept = checkpoints(options.warmup)
    weights_C = checkpoint_weights(kept[-1].steps())
    model = config.less.model or config.model
    paths = [checkpoint.path for checkpoint in kept]
    gradients = Gradients(load_model(model), config.less, config.batch, paths)
    pool = _tokens(config, "pool", options.rows)
    queries = _tokens(config, "query", options.queries)
    epochs = [checkpoint.epoch for checkpoint in kept]
    sketches = {
        (width, shared): [Sketch(width, checkpoint_seed(0, epoch, shared)) for epoch in epochs]
        for width, shared in [*((width, False) for width in WIDTHS), (8192, True)]
    }
    start = time.monotonic()
    exact_MN, query_features, pool_features = _measure(
        gradients, sketches, queries, pool, weights_C
    )
    print(
        f"{len(pool)} pool rows, {len(queries)} queries, {len(kept)} checkpoints, "
        f"{_parameters(gradients):,} trainable parameters; {time.monotonic() - start:.0f} s"
    )
    print(
        f"exact scores: spread within a query {exact_MN.std(axis=1).mean():.4f}; top {SHARE:.0%} = "
        f"{max(1, round(SHARE * len(pool)))} rows"
    )
    print(
        "width  type     bytes/row/ckpt  top 5%  (predicted)  noise: estimated  true  ratio   "
        "within a query: estimated  true  ratio"
    )
    for (width, shared), values in pool_features.items():
        for dtype in TYPES if not shared else ("float16",):
            print(
                _line(
                    width, shared, dtype, query_features[width, shared], values, exact_MN, weights_C
                )
            )


def _line(
    width: int,
    shared: bool,
    dtype: str,
    query_MCK: np.ndarray,
    pool_NCK: np.ndarray,
    exact_MN: np.ndarray,
    weights_C: np.ndarray,
) -> str:
    encoded = encode(pool_NCK, dtype)
    rows, checkpoints_ = pool_NCK.shape[:2]
    size = encoded.data.nbytes + (0 if encoded.scales is None else encoded.scales.nbytes)
    found = QuerySide(query_MCK, weights_C, halves=True).score(decode(encoded))
    noise_MN = found.noise_ME.astype(float)
    told = certificate(
        found.scores_ME,
        noise_MN.sum(axis=1),
        np.square(noise_MN).sum(axis=1),
        rows,
        shares=[SHARE],
        noise_Ms=noise_MN,
    )
    error_MN = found.scores_ME - exact_MN
    true = float(np.sqrt(np.mean(error_MN**2)))
    within = float(np.sqrt(np.mean((error_MN - error_MN.mean(axis=1, keepdims=True)) ** 2)))
    overlap = top_overlap(found.scores_ME, exact_MN, SHARE)
    name = f"{dtype}{' shared seed' if shared else ''}"
    return (
        f"{width:<6} {name:<8} {size / rows / checkpoints_:>14.0f}  {overlap:>6.3f}  "
        f"{told.predicted_overlap[f'{SHARE:g}']:>11.3f}  {told.noise:>16.5f}  {true:.5f}  "
        f"{told.noise / true:>5.2f}   {told.noise_within_query:>25.5f}  {within:.5f}  "
        f"{told.noise_within_query / within:>5.2f}"
    )


def _measure(
    gradients: Gradients,
    sketches: dict[tuple[int, bool], list[Sketch]],
    queries: list[dict[str, Any]],
    pool: list[dict[str, Any]],
    weights_C: np.ndarray,
) -> tuple[np.ndarray, dict[Any, np.ndarray], dict[Any, np.ndarray]]:
    """Return exact scores (M, N), and unit features (rows, C, K) of both sides for each sketch."""
    exact_MN = np.zeros((len(queries), len(pool)))
    sides = {"query": queries, "pool": pool}
    features = {
        side: {key: np.zeros((len(rows), len(weights_C), key[0]), np.float32) for key in sketches}
        for side, rows in sides.items()
    }
    for c, weight in enumerate(weights_C.tolist()):
        exact_MN += weight * _cosines(gradients, c, sketches, sides, features)
    return exact_MN, features["query"], features["pool"]


def _cosines(
    gradients: Gradients,
    c: int,
    sketches: dict[tuple[int, bool], list[Sketch]],
    sides: dict[str, list[dict[str, Any]]],
    features: dict[str, dict[tuple[int, bool], np.ndarray]],
) -> np.ndarray:
    """Return the cosines of whole gradients (M, N) at one checkpoint; fill in its features."""
    whole: dict[str, torch.Tensor] = {}  # the queries' gradients
    squares = {side: torch.zeros(len(rows), dtype=torch.float64) for side, rows in sides.items()}
    products_MN = torch.zeros(len(sides["query"]), len(sides["pool"]), dtype=torch.float64)

    def work(side: str, members: list[int]) -> None:
        rows = sides[side]
        sums = {key: found[c].new(len(members)) for key, found in sketches.items()}

        def sink(name: str, block_E: torch.Tensor) -> None:
            flat_EP = block_E.reshape(len(members), -1)
            for key, total in sums.items():
                sketches[key][c].add(total, name, block_E)
            squares[side][members] += flat_EP.double().square().sum(dim=1)
            if side == "pool":
                products_MN[:, members] += whole[name] @ flat_EP.T
                return
            if name not in whole:
                whole[name] = flat_EP.new_zeros(len(rows), flat_EP.shape[1])
            whole[name][members] = flat_EP

        gradients.directions([rows[i] for i in members], c, side, sink)
        for key, total in sums.items():
            unit = unit_rows(sketches[key][c].finish(total))
            features[side][key][members, c] = unit.numpy()

    for side, rows in sides.items():  # queries first
        gradients.each_batch(rows, c, partial(work, side))
    return (products_MN / (squares["query"].sqrt()[:, None] * squares["pool"].sqrt())).numpy()


def _tokens(config: Config, side: SideName, count: int) -> list[dict[str, Any]]:
    """Return the first encoded rows of one side of the study."""
    rows = read_side(config, side)
    encoder = Tokenise.for_side(config, rows.path, side)
    found: list[dict[str, Any]] = []
    for path in sorted(rows.path.glob("rows-*.parquet")):
        for row in row_dicts(path):
            with suppress(UnusableError):
                if len(found) < count:
                    found.append({**encoder.encode(cast(Row, row)).encoded()})
    return found


def _parameters(gradients: Gradients) -> int:
    return sum(p.numel() for p in gradients.model.parameters() if p.requires_grad)


if __name__ == "__main__":
    main()
