"""Test collections: a BEIR folder, a name of the catalogue, or an ir_datasets id, all as one `Dataset`."""

from rerank.datasets.catalogue import Counts, Listed, names
from rerank.datasets.dataset import Dataset, Source

__all__ = ["Counts", "Dataset", "Listed", "Source", "names"]
