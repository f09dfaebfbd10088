"""ReasonRank's published data: all of it by ids, and the rows for reinforcement learning.

https://huggingface.co/datasets/liuwenhan/reasonrank_data_13k and
https://huggingface.co/datasets/liuwenhan/reasonrank_data_rl. What is for fine-tuning `training.examples.traces` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank.errors import FileError
from training.examples.permutations import ordered
from training.examples.record import BadExample, Example
from training.examples.records import records
from training.examples.stream import Read
from training.examples.traces import asked_of, text_of

__all__ = ["reasonrank", "reasonrank_rl"]


def reasonrank_rl(path: str | Path) -> Read:
    """verl's rows: prompt, the order as label, initial_list and relevant_docids; Parquet or JSON."""
    for where, values in records(path):
        if isinstance(values, BadExample):
            yield values
            continue
        try:
            yield from _rewarded(values, where)
        except BadExample as error:
            yield error
        except (KeyError, TypeError, AttributeError) as error:
            yield _malformed(error, values, where)


def reasonrank(path: str | Path) -> Read:
    """`training_data_all.jsonl`: initial_list, final_list, reasoning and relevant_docids by ids.

    Texts are in `id_query/DATASET.json` and `id_doc/DATASET.json` beside it, id -> text, two of each held at a time.
    """
    texts = lru_cache(maxsize=4)(_texts)
    for where, values in records(path):
        if isinstance(values, BadExample):
            yield values
            continue
        try:
            queries, documents = (
                texts(Path(path).parent / kind / f"{values['dataset']}.json") for kind in ("id_query", "id_doc")
            )
            yield _reasoned(values, queries, documents, where)
        except BadExample as error:
            yield error
        except (KeyError, TypeError, AttributeError) as error:
            yield _malformed(error, values, where)


def _rewarded(values: Mapping[str, Any], where: str) -> Read:
    questions = [turn["content"] for turn in values["prompt"] if turn["role"] == "user"]
    if len(questions) != 1:
        raise BadExample("malformed line", f"{len(questions)} questions in 'prompt'; one is wanted", where)
    label = values.get("label") or values["reward_model"]["ground_truth"]
    asked, ids = asked_of(questions[0], where), tuple(map(str, values["initial_list"]))
    if len(ids) != len(asked.documents):
        detail = f"{len(ids)} in initial_list for {len(asked.documents)} documents"
        raise BadExample("other number of labels", detail, where)
    known = {"query": asked.query, "documents": asked.documents, "doc_ids": ids}
    relevance = _relevance(ids, values["relevant_docids"], where)
    yield from ordered(label, asked.names, where, relevance=relevance, **known)


def _reasoned(
    values: Mapping[str, Any], queries: Mapping[str, str], documents: Mapping[str, str], where: str
) -> Example:
    query_id, ids = str(values["qid"]), tuple(map(str, values["initial_list"]))
    if query_id not in queries:
        raise BadExample("unknown query", f"{query_id!r} is not in id_query/{values['dataset']}.json", where)
    if missing := [doc_id for doc_id in ids if doc_id not in documents]:
        raise BadExample("unknown document", f"{missing[0]!r} is not in id_doc/{values['dataset']}.json", where)
    final = tuple(map(str, values["final_list"]))
    if sorted(final) != sorted(ids):
        raise BadExample("order is no permutation", f"{len(final)} in final_list of {len(ids)} documents", where)
    order = tuple(ids.index(doc_id) for doc_id in final)
    said = " > ".join(f"[{place + 1}]" for place in order)
    thought = text_of(values["reasoning"], "reasoning", where).strip()
    if not thought:
        raise BadExample("empty completion", f"query {query_id!r} has no reasoning", where)
    return Example(
        queries[query_id],
        tuple(documents[doc_id] for doc_id in ids),
        relevance=_relevance(ids, values["relevant_docids"], where),
        order=order,
        query_id=query_id,
        doc_ids=ids,
        where=where,
        completion=f"<think> {thought} </think> <answer> {said} </answer>",
    )


def _relevance(ids: Sequence[str], relevant: Sequence[Any], where: str) -> tuple[float, ...]:
    good = set(map(str, relevant))
    if missing := sorted(good - set(ids)):
        raise BadExample("unknown document", f"{missing[0]!r} is relevant and not in initial_list", where)
    return tuple(float(doc_id in good) for doc_id in ids)


def _texts(path: Path) -> dict[str, str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        said = "ReasonRank's id_query and id_doc stand beside its training_data_all.jsonl"
        raise FileError(f"cannot read {path}: {error.strerror or error}; {said}") from error
    except ValueError as error:
        raise FileError(f"{path} is no JSON ({error}); ids and their texts are wanted") from error
    if not isinstance(values, dict):
        raise FileError(f"{path} is no object of ids and their texts")
    return values


def _malformed(error: Exception, values: Mapping[str, Any], where: str) -> BadExample:
    said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return BadExample("malformed line", f"{said}; it has {', '.join(map(repr, values))}", where)
