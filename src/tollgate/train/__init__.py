"""From labelled features to a model: fitting, in one process or several, and what it takes."""

from tollgate.train.candidate import Candidate, TreeSearch, columns_of, fit_candidate, title_of
from tollgate.train.descent import Epoch
from tollgate.train.fit import Circumstances, Trained, fit, score

__all__ = [
    "Candidate",
    "Circumstances",
    "Epoch",
    "Trained",
    "TreeSearch",
    "columns_of",
    "fit",
    "fit_candidate",
    "score",
    "title_of",
]
