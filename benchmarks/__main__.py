"""Run the benchmarks: all of them, or those named by letter or name."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

BENCHMARKS = {
    "a": ("features", "LESS features ÷ plain batched passes: the shipped model, SmolLM2-135M"),
    "b": ("loop", "LESS features against the reference's loop with TRAK's projector"),
    "c": ("sketch", "the sketch alone against TRAK's projector"),
    "d": ("memory", "peak memory of featurising 1, 4 and 16 times as many rows"),
    "e": ("actors", "featurising with two actors against one, through Ray Data"),
    "f": ("ray_data", "one actor of Ray Data against a bare loop over the same shards"),
    "g": ("round_robin", "round robin against a masked argmax for each pick"),
    "h": ("selectors", "the other selectors against what they replace"),
    "i": ("study", "all selectors at five budgets against one selector at one, through Ray"),
    "j": ("scale", "100 queries x 20,000,000 candidates on disk (8 GB), through Ray"),
    "k": ("simulation", "10^9 candidates in 1,000 simulated shards: bytes and seconds"),
    "l": ("encoding", "rows as tokens and labels against apply_chat_template and prefixes"),
    "m": (
        "origins",
        "LESS without a warm-up, at an adapter, with estimated moments: what is chosen",
    ),
    "n": ("gpu", "LESS on a GPU beside its floors; --out DIR keeps the figures"),
    "o": ("growth", "what the driver of a study does for each row: CPU by stage, memory, files"),
    "p": ("pipeline", "a study of --rows N with a free featuriser: driver, memory, files"),
    "q": ("requests", "requests of a small study to a bucket, by kind and subject"),
    "r": ("on_paper", "what 10^7 to 10^9 rows take: actors, hours, requests, money"),
    "s": ("predict", "the price of a study against what it takes, with 1, 2 and 4 actors"),
    "t": ("ingest", "reading a pool by one and two workers against one reader"),
}
TAKES_OPTIONS = ("gpu", "pipeline", "requests", "predict")


def main() -> None:
    listing = "\n".join(f"  {key}  {name:<12} {told}" for key, (name, told) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "which",
        nargs="*",
        metavar="benchmark",
        help="letters or names, and options of the last; all if none",
    )
    # What follows a name with dashes is that benchmark's own.
    words = sys.argv[1:]
    end = next((i for i, word in enumerate(words) if i and word.startswith("--")), len(words))
    chosen, rest = parser.parse_args(words[:end]).which, words[end:]
    known = {alias: key for key, (name, _) in BENCHMARKS.items() for alias in (key, name)}
    for alias in chosen:
        if alias not in known:
            parser.error(f"no benchmark {alias!r}; choose from\n{listing}")
    for key in [known[alias] for alias in chosen] or BENCHMARKS:
        name, told = BENCHMARKS[key]
        start = time.monotonic()
        print(f"\n{key} {name}: {told}", flush=True)
        # In a process of its own: none finds the threads, the caches or the peak memory of another.
        code = f"from benchmarks.{name} import main; main()"
        further = rest if name in TAKES_OPTIONS else []
        subprocess.run([sys.executable, "-c", code, *further], check=True)
        print(f"  ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
