"""A sweep as a job of a Ray cluster: `tis-ray run` for each combination of some settings, and one page over all.

ray job submit --address http://127.0.0.1:8265 --working-dir . -- python jobs/sweep.py --config examples/quickstart.yaml \
  --set runs=s3://bucket/runs --set artifacts=s3://bucket/artifacts \
  --over finetune.learning_rate=[1.0e-3,2.0e-3] --over seed=[0,1,2]

`--over` is what a list in the file says (docs/studies.md): methods, budgets and seeds vary within a study, any other
setting makes a study of its own for each value. What they have in common is computed once.
"""

import argparse
import sys

WITHIN = ("representation", "selector", "budget", "seed")
"""What varies within a study; the rest is its `grid`."""

if __name__ == "__main__":
    del sys.path[0]  # this folder: libraries have the names of its files, too (`select`)
    from tis_ray.cli import main

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--over", action="append", default=[])
    named, options = parser.parse_known_args()
    axes = [axis.partition("=") for axis in named.over]
    if not axes and not {"-h", "--help"} & {*options}:
        sys.stderr.write(
            "error: nothing varies; give --over KEY=[VALUE,VALUE], or use jobs/run.py\n"
        )
        sys.exit(2)
    inside = [f"{key}={values}" for key, _, values in axes if key in WITHIN]
    grid = ", ".join(f"{key}: {values}" for key, _, values in axes if key not in WITHIN)
    for change in [*inside, *([f"grid={{{grid}}}"] if grid else [])]:
        options += ["--set", change]
    sys.argv[1:] = ["run", *options]
    main()
