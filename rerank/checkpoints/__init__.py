"""Checkpoints: which ones there are, where their weights come from, and what kind of model they are.

>>> folder = fetch("cross-encoder/ms-marco-MiniLM-L12-v2")
>>> kind(folder)
'cross-encoder'
"""

from rerank.checkpoints.fetch import fetch, where
from rerank.checkpoints.folder import fingerprint, kind, origin, settings, weight_files
from rerank.checkpoints.load import ENTRY_FILE, Checkpoint, Located, find, names

__all__ = [
    "ENTRY_FILE",
    "Checkpoint",
    "Located",
    "fetch",
    "find",
    "fingerprint",
    "kind",
    "names",
    "origin",
    "settings",
    "weight_files",
    "where",
]
