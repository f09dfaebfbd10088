"""Files: TREC runs and qrels, BEIR folders, JSONL requests, ledgers.

Readers are generators that hold one line at a time, know gzip by its first bytes, and name path and line in every
error. Writers are atomic: the file is there whole or not at all. Nothing here imports torch.
"""

from rerank.io.atomic import atomic_write
from rerank.io.beir import read_corpus, read_queries, write_beir
from rerank.io.ledgers import read_ledger, write_ledger
from rerank.io.qrels import read_qrels, write_qrels
from rerank.io.requests import read_requests, write_requests
from rerank.io.runs import read_run, run_scores, write_run, written_lines

__all__ = [
    "atomic_write",
    "read_corpus",
    "read_ledger",
    "read_qrels",
    "read_queries",
    "read_requests",
    "read_run",
    "run_scores",
    "write_beir",
    "write_ledger",
    "write_qrels",
    "write_requests",
    "write_run",
    "written_lines",
]
