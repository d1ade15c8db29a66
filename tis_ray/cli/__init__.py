"""The command line: one verb per job, each a few lines over the public API.

Exit codes: 0 done, 1 failed, 2 bad input.
"""

from tis_ray.cli import making, reading, rows
from tis_ray.cli.options import app
from tis_ray.cli.program import main

__all__ = ["app", "main", "making", "reading", "rows"]
