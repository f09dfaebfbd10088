"""Retrieve, rerank and evaluate. The names a user starts with; torch is imported when the first model is.

>>> from rerank import Reranker
>>> ranking = Reranker("cross-encoder/ms-marco-MiniLM-L12-v2").rank("what is a reranker?", ["one", "two"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rerank.engine.products import ask_for_reproducible
from rerank.errors import RerankError
from rerank.types import Candidate, Document, Qrels, Query, Ranking, Run

if TYPE_CHECKING:
    from rerank.datasets import Dataset
    from rerank.pipeline import Pipeline
    from rerank.rerankers.remote import RemoteReranker
    from rerank.rerankers.reranker import Reranker

__version__ = "0.1.0"
__all__ = [
    "Candidate",
    "Dataset",
    "Document",
    "Pipeline",
    "Qrels",
    "Query",
    "Ranking",
    "RemoteReranker",
    "RerankError",
    "Reranker",
    "Run",
]

ask_for_reproducible()  # here, because it is of no use once torch has computed anything

# no name of a module may stand here: importing the module would put it in the name's place, so that
# `rerank.evaluate` would be a function or a module by the order of imports
_LAZY = {
    "Dataset": "rerank.datasets",
    "Pipeline": "rerank.pipeline",
    "RemoteReranker": "rerank.rerankers.remote",
    "Reranker": "rerank.rerankers.reranker",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'rerank' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
