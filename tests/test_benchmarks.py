"""The benchmarks of the selectors still run: at sizes that say nothing about speed."""

from __future__ import annotations

import importlib

import pytest

SIZES = {
    "simulation": {"QUERIES": 6, "SHARDS": 4, "SIZE": 1009, "GROUPS": 3, "BUDGET": 50},
    "selectors": {
        "SHAPE": (4, 6000),
        "LARGE": (4, 7000),
        "DENSITY_POOL": 1000,
        "BUDGET": 100,
        "REPEATS": 1,
    },
}
SAID = {
    "simulation": [" round_robin: 1 rounds", " doubly_greedy: 2 rounds", " uot: "],
    "selectors": [
        "UOT: 100.00%",
        "UOT, 4 x 7000",
        "KNN-Uniform: 100.00%",
        "KNN-KDE: 100 of",
        "all 6000 in order",
    ],
}


@pytest.mark.parametrize("name", SIZES)
def test_a_benchmark_runs_and_says_that_both_sides_agree(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    for constant, value in SIZES[name].items():
        assert hasattr(module, constant)
        monkeypatch.setattr(module, constant, value)
    module.main()
    said = capsys.readouterr().out
    assert [line for line in SAID[name] if line not in said] == []
