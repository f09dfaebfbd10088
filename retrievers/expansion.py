"""Queries expanded by what a language model writes about them, in front of any retriever: query2doc and HyDE.

>>> judge = Writer(folder, prompt="query2doc")
>>> pipeline = Expansion(BM25.of(dataset), judge) % 100 >> reranker
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank import checkpoints, registry, stages
from rerank.cost import Ledger
from rerank.datasets import Dataset
from rerank.engine.journal import Journal
from rerank.engine.scheduler import Scheduler
from rerank.errors import ConfigError, InputError, JudgeError
from rerank.judges.hosting.providers import is_hosted
from rerank.pipeline import NO_EXCLUSIONS, Retriever, Stage, check_cutoff
from rerank.questions import Judge, Plan, Write, Written
from rerank.types import Document, Query, Ranking

__all__ = ["WAYS", "Expansion"]

WAYS = ("append", "mean", "replace")
"""What becomes of the texts: they stand behind the query; their vectors and the query's are averaged; or they stand in
place of the query."""

REPEAT = 5
"""Times that query2doc says the query in front of a passage, which is so much longer."""


class Expansion(Stage):
    """Has texts written about each query, and lets a retriever search by them.

    "append" is query2doc (Wang et al., 2023, https://arxiv.org/abs/2303.07678): the query, `repeat` times, and every
    text behind it. "mean" is HyDE (Gao et al., 2022, https://arxiv.org/abs/2212.10496): the mean of the query's vector
    and of those of the texts, read as documents; for dense retrievers. "replace" searches by the texts alone. A text
    that a model leaves empty is counted in the ledger as a repair, and leaves the query as it was.

    Args:
        retriever: whose queries are expanded.
        judge: who writes: one that answers `Write`.
        way: one of `WAYS`.
        texts: how many are written for a query; a judge writes different ones with a temperature alone.
        repeat: "append": how often the query stands in front of the texts.
        journal: a file that every text is appended to and read from, so that an interrupted run can be resumed.

    `ledger` holds what was written and read.

    Raises:
        UnknownName: when there is no such way.
        InputError: when a number is below 1, the judge writes nothing, or "mean" meets a retriever without vectors.
    """

    def __init__(
        self,
        retriever: Retriever,
        judge: Judge,
        *,
        way: str = "append",
        texts: int = 1,
        repeat: int = REPEAT,
        journal: str | Path | None = None,
    ) -> None:
        _check(way, texts, repeat)
        if Write not in judge.answers:
            raise InputError(f"{type(judge).__name__} writes no texts; give a judge that answers Write, like Writer")
        if way == "mean" and not hasattr(retriever, "nearest"):
            raise InputError(f"way='mean' averages vectors, and {_name(retriever)} has none; use 'append', or dense")
        self.retriever, self.judge, self.way, self.texts, self.repeat = retriever, judge, way, texts, repeat
        self.name = f"expansion({_name(retriever)})"
        self.journal = None if journal is None else Journal(journal)
        self.ledger = Ledger()
        if self.journal is not None:
            self.ledger.note("journal", self.journal.history)
        self._scheduler = Scheduler(judge, ledger=self.ledger, journal=self.journal)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        over: Mapping[str, Any],
        model: str,
        prompt: str = "query2doc",
        way: str = "append",
        texts: int = 1,
        repeat: int = REPEAT,
        new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float | None = None,
        seed: int = 0,
        device: str | None = None,
        dtype: str | None = None,
        options: Mapping[str, Any] | None = None,
        journal: str | Path | None = None,
    ) -> Expansion:
        """From a pipeline file: `over = {retriever = "bm25"}`.

        Args:
            dataset: what is searched.
            over: the retriever, a table as of a `[[stage]]`.
            model: a T5 or a causal language model that writes: a name, a hub id, a folder; or a hosted one.
            prompt: "query2doc", "hyde", or any other that has something written.
            way, texts, repeat, journal: as of the class.
            new_tokens, temperature, top_p, seed, device, dtype: of the judge "writer".
            options: of that judge, further ones.

        Raises:
            ConfigError, UnknownName, InputError: when options do not fit together; before anything is loaded or built.
            CheckpointError: when the model cannot be had, or does not write.
        """
        cls.check(over=over, way=way, texts=texts, repeat=repeat, temperature=temperature)
        retriever = stages.make(over, dataset, "the retriever under the expansion")[0]
        if way == "mean" and not hasattr(retriever, "nearest"):
            raise InputError(f"way='mean' averages vectors, and {_name(retriever)} has none; use 'append', or dense")
        said = {"new_tokens": new_tokens, "temperature": temperature, "top_p": top_p, "device": device, "dtype": dtype}
        given = {key: value for key, value in said.items() if value is not None} | {"seed": seed, **(options or {})}
        if is_hosted(model):
            judge = registry.load("judge", "hosted")(model, prompt=prompt, **given)
        else:
            judge = registry.load("judge", "writer")(checkpoints.fetch(model), prompt=prompt, **given)
        return cls(retriever, judge, way=way, texts=texts, repeat=repeat, journal=journal)

    @staticmethod
    def check(
        *,
        over: Mapping[str, Any],
        way: str = "append",
        texts: int = 1,
        repeat: int = REPEAT,
        temperature: float = 0.0,
        **others: Any,
    ) -> None:
        """Refuse what no model could make good; nothing is loaded or built for it.

        Raises:
            ConfigError, UnknownName, InputError: as `of` does.
        """
        _check(way, texts, repeat)
        if not isinstance(over, Mapping) or "retriever" not in over:
            raise ConfigError(f'over is {over!r}; write {{retriever = "bm25"}}, with its options')
        registry.load("retriever", str(over["retriever"]))
        if texts > 1 and not temperature:
            raise InputError(f"texts={texts} without a temperature would be the same; say temperature=0.7")

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The best `cutoff` documents of each query as it was expanded; see `rerank.pipeline.Retriever`.

        Raises:
            JudgeError: when a text cannot be written; all others are in the journal then.
        """
        check_cutoff(self.name, cutoff)
        if not queries:
            return []
        written = self.written(queries)
        if self.way == "mean":
            return self._by_mean(queries, written, cutoff, exclude)
        asked = [replace(query, text=self._text(query, texts)) for query, texts in zip(queries, written, strict=True)]
        found = self.retriever.retrieve(asked, cutoff, exclude=exclude)
        return [Ranking(query, tuple(ranking)) for query, ranking in zip(queries, found, strict=True)]

    def written(self, queries: Sequence[Query]) -> list[list[str]]:
        """The texts of each query that say something, in the order in which they were asked for."""
        told = self._scheduler.run([_plan(query, self.texts) for query in queries])
        return [[document.text for document in ranking.documents if document.text.strip()] for ranking in told]

    def close(self) -> None:
        """Let go of the journal, and of the connections to a server."""
        self._scheduler.close()
        if (close := getattr(self.judge, "close", None)) is not None:
            close()
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Expansion:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Expansion of {_name(self.retriever)}: {self.texts} × {self.way} by {type(self.judge).__name__}>"

    def _text(self, query: Query, texts: Sequence[str]) -> str:
        if not texts:
            return query.text
        return " ".join([*([query.text] * self.repeat if self.way == "append" else []), *texts])

    def _by_mean(
        self,
        queries: Sequence[Query],
        written: Sequence[Sequence[str]],
        cutoff: int,
        exclude: Mapping[str, Collection[str]],
    ) -> list[Ranking]:
        retriever: Any = self.retriever
        own = retriever.encoder.queries([query.text for query in queries])
        of_texts = iter(retriever.encoder.texts([text for texts in written for text in texts]))
        means = [
            np.mean([vector, *(next(of_texts) for _ in texts)], axis=0)
            for vector, texts in zip(own, written, strict=True)
        ]
        found: list[Ranking] = retriever.nearest(queries, np.stack(means).astype(np.float32), cutoff, exclude=exclude)
        return found


def _plan(query: Query, texts: int) -> Plan:
    """Asks for the texts of a query, all at once; they come back as documents, called by their numbers."""
    answers = yield [Write(query, draw=draw) for draw in range(texts)]
    for answer in answers:
        if not isinstance(answer, Written):
            raise JudgeError(
                f"a judge answered a Write of query {query.query_id!r} with {answer!r}, and not with Written"
            )
    told = [answer.text for answer in answers if isinstance(answer, Written)]
    return Ranking.unscored(query, [Document(str(draw), text) for draw, text in enumerate(told)])


def _check(way: str, texts: int, repeat: int) -> None:
    if way not in WAYS:
        raise registry.unknown("way to expand", way, WAYS)
    if texts < 1 or repeat < 1:
        raise InputError(f"texts={texts} and repeat={repeat}; both are at least 1")


def _name(retriever: object) -> str:
    return str(getattr(retriever, "name", type(retriever).__name__))
