"""Teachers: labels from any reranker, pairs to ask about, several teachers as one, and queries that a model writes."""

from training.teacher.averaging import NORMALISE, averaged
from training.teacher.label import label, scored_by
from training.teacher.pairs import PairSampler
from training.teacher.queries import best_scored, write_queries, writing

__all__ = ["NORMALISE", "PairSampler", "averaged", "best_scored", "label", "scored_by", "write_queries", "writing"]
