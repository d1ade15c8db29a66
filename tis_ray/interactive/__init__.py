"""Studies in Python, as in a notebook: ask for what you want to see; what is missing is made.

`Study` is the way in (`tis_ray.Study`). What it returns shows itself in a notebook and becomes Arrow,
pandas or a data set of Hugging Face.
"""

from tis_ray.interactive.progress import quiet_notebook

quiet_notebook()  # before anything is imported that has something to say

from tis_ray.interactive.figures import Figures
from tis_ray.interactive.scores import ScoreTable
from tis_ray.interactive.study import Study
from tis_ray.interactive.table import Table

__all__ = ["Figures", "ScoreTable", "Study", "Table"]
