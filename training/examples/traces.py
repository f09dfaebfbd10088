"""What reasoning models wrote about documents, as it is published: prompts are read back into queries and documents.

LLaMA-Factory's records (https://github.com/hiyouga/LLaMA-Factory) are alpaca, with instruction, input and output, or
sharegpt, with a conversation. So are published Rank1's training data
(https://huggingface.co/datasets/jhu-clsp/rank1-training-data), ReasonRank's for fine-tuning
(https://huggingface.co/datasets/liuwenhan/reasonrank_data_sft), and the orders of RankVicuna, RankZephyr
(https://huggingface.co/datasets/castorini/rank_zephyr_training_data) and FIRST, which do not think. Prompts in Rank-K's
words are read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rerank.prompts.prompt import identifiers
from training.examples.permutations import ordered, passages_of, searched
from training.examples.record import BadExample, Example
from training.examples.records import records
from training.examples.stream import Read

__all__ = ["Asked", "asked_of", "completion_of", "llama_factory", "text_of"]

ONE = re.compile(r"^Query: ?(.*?)\n+Passage: ?(.*?)\s*(?:<think>\s*)?\Z", re.DOTALL | re.MULTILINE)
SEVERAL = re.compile(r"^Query: ?(.*?)\n\n(?=\[1\] )", re.DOTALL | re.MULTILINE)
COUNTED = re.compile(r"I will provide you with (\d{1,4}) passages")
ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
VERDICTS = {"true": 1.0, "false": 0.0}


class Asked(NamedTuple):
    """What a prompt asks about.

    Args:
        query: its words.
        documents: in the order shown.
        names: what they are called; nothing of a single one that is to be judged.
    """

    query: str
    documents: tuple[str, ...]
    names: Sequence[str] = ()


def llama_factory(path: str | Path) -> Read:
    """A prompt that ranks and what was answered: a verdict about one document, or an order of several.

    An answer that thinks first is the completion, from `<think>` on. A verdict is the teacher's score, 1 or 0.
    """
    for where, values in records(path):
        if isinstance(values, BadExample):
            yield values
            continue
        try:
            question, answer = _turns(values, where)
            yield from _trace(asked_of(question, where), answer, where, str(values.get("id", "")))
        except BadExample as error:
            yield error


def completion_of(answer: str) -> str | None:
    """An answer from `<think>` on, which a prompt may have begun; None when it does not think."""
    said = answer.strip()
    if "</think>" not in said:
        return None
    return said if said.startswith("<think>") else f"<think>\n{said}"


def _turns(values: Mapping[str, Any], where: str) -> tuple[str, str]:
    """What was asked and what was answered."""
    if "instruction" in values:
        if values.get("history"):
            raise BadExample(
                "malformed line", "earlier turns in 'history'; one question and one answer are wanted", where
            )
        parts = (text_of(values.get(name) or "", name, where) for name in ("instruction", "input"))
        question = "\n".join(filter(None, parts))
        return question, text_of(values.get("output"), "output", where)
    spoken = list(_spoken(values, where))
    asked = [text for who, text in spoken if who in ("human", "user")]
    answers = [text for who, text in spoken if who in ("gpt", "assistant")]
    if (len(asked), len(answers)) != (1, 1):
        detail = f"no conversation of a human's question and one answer: {len(asked)} questions, {len(answers)} answers"
        raise BadExample("malformed line", detail, where)
    return asked[0], answers[0]


def _spoken(values: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    turns = values.get("conversations", values.get("messages"))
    if not isinstance(turns, list):
        found = ", ".join(map(repr, values))
        detail = f"neither 'instruction', nor 'conversations' or 'messages' with turns; it has {found}"
        raise BadExample("malformed line", detail, where)
    for turn in turns:
        if not isinstance(turn, dict):
            raise BadExample("malformed line", f"no turn: {str(turn)[:60]!r}", where)
        who = turn.get("from", turn.get("role"))
        yield str(who), text_of(turn.get("value", turn.get("content")), f"what {who!r} says", where)


def text_of(value: Any, what: str, where: str) -> str:
    """The value.

    Raises:
        BadExample: when it is no text.
    """
    if not isinstance(value, str):
        raise BadExample("malformed line", f"{what} is no text: {str(value)[:60]!r}", where)
    return value


def asked_of(question: str, where: str) -> Asked:
    """Query and documents of a prompt, by the wordings of those who publish traces.

    Raises:
        BadExample: when it is none of theirs, or announces another number of passages than it shows.
    """
    if (found := searched(question)) is not None:
        query, shown = found
        letters, documents = passages_of(shown)
        stated = COUNTED.search(question)
        if stated is not None and int(stated[1]) != len(documents):
            raise BadExample("malformed line", f"{stated[1]} passages are announced, {len(documents)} found", where)
        return Asked(query, documents, identifiers("letters" if letters else "numbers", len(documents)))
    if one := ONE.search(question):
        return Asked(one[1].strip(), (one[2],))
    if several := SEVERAL.search(question):
        _, documents = passages_of(question[several.end() :])
        return Asked(several[1].strip(), documents, identifiers("numbers", len(documents)))
    detail = f"no prompt of Rank1, Rank-K, ReasonRank or RankZephyr: {question[:60]!r}"
    raise BadExample("malformed line", detail, where)


def _trace(asked: Asked, answer: str, where: str, query_id: str) -> Read:
    completion, said = completion_of(answer), answer.rpartition("</think>")[2]
    if asked.names:
        found = ANSWER.search(said)
        known = {"query": asked.query, "documents": asked.documents, "query_id": query_id, "completion": completion}
        yield from ordered(found[1] if found else said, asked.names, where, **known)
        return
    verdict = said.strip().strip(".*\"'").lower()
    if verdict not in VERDICTS:
        raise BadExample("answer without a verdict", f"{said.strip()[:60]!r}; 'true' or 'false' is wanted", where)
    scores = (VERDICTS[verdict],)
    yield Example(asked.query, asked.documents, scores=scores, query_id=query_id, completion=completion, where=where)
