"""The small causal language model that ships with the package; `PATH` is its folder.

It loads offline with `AutoModelForCausalLM.from_pretrained(PATH)`; the README beside it says how
it was trained and what it can do.
"""

from pathlib import Path

PATH: Path = Path(__file__).resolve().parent
