"""Ratios against named peers, each pair timed in one process, interleaved; medians and spreads."""

import os

# Read when torch, tqdm and Ray are imported, so before any benchmark is.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
