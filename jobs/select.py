"""The selection of a study as a job of a Ray cluster: what `tis-ray select` does, with its options.

ray job submit --address http://127.0.0.1:8265 --working-dir . -- python jobs/select.py --config examples/quickstart.yaml \
  --set runs=s3://bucket/runs --set artifacts=s3://bucket/artifacts
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: libraries have the names of its files, too (`select`)
    from tis_ray.cli import main

    sys.argv.insert(1, "select")
    main()
