"""A small made-up study, with names and texts that try to break out of the page."""

from dataclasses import replace

import numpy as np
import pytest

from tis_ray.analysis import Cell, Legend, Method, StageCost
from tis_ray.analysis.study_values import POOL, QUERIES, Part
from tis_ray.report import StudyRecord
from tis_ray.report.lengths_section import length_facts
from tis_ray.representations import REPRESENTATIONS
from tis_ray.selectors import SELECTORS
from tis_ray.study.labels import known_metrics

LEGEND = Legend(
    {found.name: found.label for found in REPRESENTATIONS},
    {found.name: found.label for found in SELECTORS} | {"knn": "KNN"},
    known_metrics(()),
)
HOSTILE = '<script>alert(1)</script> $x_1$ & "q" \x00\x1b'


def make_distances(methods, budgets, seeds):
    """Distances of one representation: its subsets, random's by seed, the pool thinned."""

    def measured(value, method="network simplex", **names):
        w1 = {"value": value, "upper": value + 0.002 * (method == "sinkhorn")}
        w1 |= {"method": method, "reg": None}
        plain = {"assignment": value, "query_to_subset": 0.1, "subset_to_query": 0.2}
        more = {"chamfer": 0.3, "mmd": {"linear": 0.4, "rbf": 0.5, "bandwidth": 1.0}}
        terms = {"sampling": 1.5, "deviation": 0.1, "chord": w1, "w1": w1}
        return {"queries": 2, "candidates": 100, **plain, **more, **terms, **names}

    return {
        "representation": "less",
        "columns": 200,
        "pool": measured(0.9, "sinkhorn"),
        "dimension": {"intrinsic": 4.25, "participation": 7.5, "neighbours": 10, "rows": 100},
        "subsets": [
            measured(0.8 + 0.01 * seed, representation="random", selector="random")
            | {"budget": budget, "seed": seed, "digest": f"{seed} {budget}", "rows": budget}
            for seed in seeds
            for budget in budgets
        ]
        + [
            measured(0.405, representation="less", selector=selector, budget=budget, seed=seed)
            | {"digest": selector, "rows": 100}
            for representation, selector in methods
            if representation == "less"
            for budget in budgets
            for seed in seeds
        ],
    }


def make_stages(methods, pool):
    """Features of 300 s a representation, made by an earlier run, and an ordering of 2 s a method."""
    features = [
        StageCost(f"features {r}", "features", f"features-{r}", 300.0, True, pool, 0)
        for r in dict.fromkeys(r for r, _ in methods)
    ]
    orderings = [
        StageCost(f"{r} {s}", "ordering", f"ordering-{r}-{s}", 2.0, False, pool, 3, "cpu", 120.0)
        for r, s in methods
    ]
    return [
        replace(stage, needed_by=(Method(stage.stage.split()[1]),), computed=pool)
        for stage in features
    ] + [
        replace(stage, needed_by=(Method(*method),))
        for stage, method in zip(orderings, methods, strict=True)
    ]


def make_texts(pool):
    """A hostile text, source, id and file for each row of the pool, and one query."""
    rows = [
        {"index": k, "id": f"r{k} {HOSTILE}", "source": HOSTILE, "file": "p.jsonl", "line": k + 1}
        | {"text": f"{HOSTILE} number{k} long " * 40}
        for k in range(pool)
    ]
    return {"rows": rows, "queries": [{"query": 0, "id": "q0", "text": HOSTILE}]}


def make_answers(budgets, methods):
    """Answers to four test rows: LESS is right where random is not in two, and wrong in one."""
    shares = {"random": [0.0, 1 / 3, 1.0, 1.0], "less": [1.0, 1.0, 1 / 3, 1.0]}
    return [
        {
            "name": "test rows",
            "metric": "exact_match",
            "left_out": 0,
            "rows": [{"id": f"t{i}", "prompt": HOSTILE, "label": f"label {i}"} for i in range(4)],
            "methods": [
                {"representation": representation, "selector": selector, "budget": budget}
                | {"models": 3, "values": shares.get(representation, shares["random"])}
                | {"answers": [[[HOSTILE, 2], ["", 1]] for _ in range(4)]}
                for representation, selector in [("random", "random"), *methods]
                for budget in budgets
            ],
        }
    ]


def make_record(pool=200, budgets=(100, 500), seeds=(0, 1, 2), gain=0.2, methods=None):
    rng = np.random.default_rng(0)
    sources = [HOSTILE, "gsm8k", "code", *(f"s{i}" for i in range(13))]
    source = rng.choice(len(sources), pool)
    methods = methods or [("less", "round_robin"), ("embed", "uot")]
    noise = rng.normal(0, 0.02, len(seeds))
    cells = [
        {"representation": "zero_shot", "selector": None, "budget": 0, "seed": None}
        | {"test_loss": 0.7, "query_loss": 0.65, "exact_match": 0.2}
    ]
    for i, (representation, selector) in enumerate([("random", "random"), *methods]):
        for budget in budgets:
            better = gain * (i == 1)
            for j, seed in enumerate(seeds):
                loss = 0.5 - better + noise[j] + rng.normal(0, 0.005)
                cells.append(
                    {"representation": representation, "selector": selector, "budget": budget}
                    | {"seed": seed, "test_loss": loss, "query_loss": loss - 0.05}
                    | {"exact_match": round(0.4 + better / 2 + rng.normal(0, 0.02), 3)}
                    | {"train_rows": budget - (i == 2), "optimizer_steps": budget // 8}
                    | {"seconds_train": budget / 50}
                )
    selecting = [Method(*method) for method in methods]
    return StudyRecord(
        name=f"study {HOSTILE}",
        created="2026-01-01T00:00:00Z",
        config={"name": "s", "budget": list(budgets)},
        cells=[Cell.from_json(cell) for cell in cells],
        legend=LEGEND,
        orderings=[
            {
                "representation": representation,
                "selector": selector,
                "budget": max(budgets),
                "scores": {"rows": max(budgets), "tied": 4, "tied_outside": 1}
                | {"lowest": 0.016, "median": 0.05, "highest": 1.0},
                "rows": [
                    {"index": (k + 7 * i) % pool, "score": 1 / (k + 1), "query": 0}
                    | {"margin": -0.25 + k, "duplicates": k % 3}
                    | {"nearest_rank": 9, "nearest_cosine": 0.97}
                    for k in range(min(max(budgets), pool))
                ],
            }
            for i, (representation, selector) in enumerate(methods)
        ],
        texts=make_texts(pool),
        answers=make_answers(budgets, methods),
        agreement={
            "names": selecting,
            "pairs": [
                {"left": i, "right": j, "jaccard": 0.12, "rank_biased": 0.34}
                for j in range(len(methods))
                for i in range(j)
            ],
            "rows": max(budgets),
            "candidates": pool,
            "random": 0.111,
            "p": 0.99,
        },
        map={
            "representation": "less",
            "pool_xy": rng.normal(size=(pool, 2)).round(3).tolist(),
            "pool_source": [sources[k] for k in source],
            "query_xy": [[0.0, 0.0], [0.5, 0.5]],
            "selected": {method: list(range(20)) for method in selecting},
        },
        certificates=[
            {"representation": "less", "projection": True, "kind": "stored features"}
            | {"noise": 0.011, "noise_within_query": 0.0104, "spread": 0.057, "columns": 200}
            | {"predicted_overlap": {"0.01": 0.85, "0.05": 0.9}, "queries": 2}
            | {
                "cascade": {"by": "bm25", "kept": 40, "pool": 200, "sample": 60}
                | {"recall": [{"share": 0.05, "rows": 10, "kept": 7, "low": 0.4, "high": 0.89}]}
            },
            {"representation": "bm25", "projection": False, "kind": "words"},
        ],
        distances=[
            make_distances(methods, budgets, seeds),
            {"representation": "bm25", "reason": "its scores are not cosines"},
        ],
        composition={POOL: {s: int((source == k).sum()) for k, s in enumerate(sources)}}
        | {Part(method=m, budget=100): {"gsm8k": 90, HOSTILE: 10} for m in selecting},
        lengths={
            part: length_facts(rng.integers(20, 90, 100), rng.integers(1, 20, 100))
            for part in (POOL, QUERIES, *(Part(method=m, budget=100) for m in selecting))
        },
        stages=[
            StageCost("pool", "tokens", "tokens-1", 1.5, True, 0, 0),
            *make_stages(methods, pool),
        ],
        quarantined=[
            {"side": "pool", "id": HOSTILE, "reason": "no assistant turn", "file": "p", "line": 1},
            {"side": "pool", "id": "b", "reason": "no assistant turn", "file": "p", "line": 2},
            {"side": "query", "id": "", "reason": "not valid JSON", "file": "q", "line": 9},
        ],
        command="tis-ray run study.yaml",
    )


def with_two_zero_shots(record):
    """Add a zero-shot without template, better on test loss and worse on exact match."""
    (template,) = [c for c in record.cells if c.method.is_zero_shot]
    plain = {"representation": "zero_shot (no template)", "test_loss": 0.6, "exact_match": 0.1}
    record.cells.insert(1, Cell.from_json(template.to_json() | plain))
    return record


def changed(record, change):
    """Return the record's cells after `change` has edited each as a flat dict."""
    cells = [cell.to_json() for cell in record.cells]
    for cell in cells:
        change(cell)
    return [Cell.from_json(cell) for cell in cells]


@pytest.fixture(scope="session")
def make():
    return make_record


@pytest.fixture(scope="session")
def hostile():
    return HOSTILE


@pytest.fixture(scope="session")
def record():
    return make_record()
