"""sentence-transformers: `predict` and `rank` of its CrossEncoder, over any reranker that scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from rerank.errors import InputError
from rerank.integrations.texts import best_first, check_count
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking

__all__ = ["CrossEncoder"]

Pair = Sequence[str]


class CrossEncoder:
    """A reranker where `sentence_transformers.CrossEncoder` is expected: its evaluators, other people's code.

    Args:
        model: a checkpoint's name or folder, a server, or a `Reranker`.
        max_length: the most tokens of query and document together, as `max_tokens` of `Reranker`.
        device: as of `Reranker`.
        activation_fn: what scores go through; by default what the checkpoint's config says
            (`sentence_transformers.activation_fn`), and where it says nothing, a sigmoid for one logit.
        options: further arguments of `Reranker`.

    Raises:
        InputError: when there are options for a reranker that is already made, or it drops documents.

    `model_card_data.metrics` holds what evaluators of sentence-transformers measured.
    """

    def __init__(
        self,
        model: str | Path | Reranker,
        *,
        max_length: int | None = None,
        device: str | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        said = {"max_tokens": max_length, "device": device, **options}
        given = {name: value for name, value in said.items() if value is not None}
        if isinstance(model, Reranker):
            if given:
                raise InputError(f"{', '.join(given)} cannot change a reranker that is already made; give them to it")
            self.reranker = model
        else:
            self.reranker = Reranker(model, **given)
        if self.reranker.threshold is not None:
            raise InputError(f"threshold={self.reranker.threshold} drops documents, and each pair wants its score")
        self.activation_fn = activation_fn or _usual_activation(self.reranker)
        self.model_card_data = _Evaluations()

    def predict(
        self,
        inputs: Sequence[Pair] | Pair,
        prompt_name: None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> np.ndarray[Any, Any] | Tensor | list[Tensor]:
        """A score for each pair, in the order given.

        Pairs of one query are asked together, as a list; for models that read documents one by one that changes
        nothing.

        Args:
            inputs: (query, document) pairs, or one pair.
            prompt_name: None; prompts by name stand in checkpoints that sentence-transformers saves.
            prompt: what kind of relevance is meant, for models that read an instruction.
            batch_size: at least so many pairs are worked on at a time, and no query is divided; all by default, which
                is the fastest. Forward passes are packed by `token_budget` whatever it is.
            show_progress_bar: a bar over answers.
            activation_fn: in place of the model's own.
            convert_to_numpy, convert_to_tensor: an array of float32 (usual), a tensor, or, with neither, a list.

        Raises:
            InputError: when an input is no pair of texts, or the method measures an order and no scores.
        """
        check_count("batch_size", batch_size)
        if prompt_name is not None:
            raise InputError(f"prompt_name={prompt_name!r}; prompts have no names here, say prompt= as a text")
        one = bool(inputs) and isinstance(inputs[0], str)
        pairs = [_pair(pair) for pair in ([inputs] if one else inputs)]
        scores = np.empty(len(pairs), dtype=np.float64)
        with tqdm(total=len(pairs), unit="pairs", disable=not show_progress_bar) as bar:
            for part in _parts(_by_query(pairs, prompt or ""), batch_size):
                for index, score in self._scores(part):
                    scores[index] = score
                    bar.update()
        found = self._activated(torch.from_numpy(scores), activation_fn)
        if convert_to_tensor:
            return found[0] if one else found
        if convert_to_numpy:
            return found.numpy()[0] if one else found.numpy()
        return found[0] if one else list(found)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Documents best first, as {"corpus_id", "score"} and perhaps "text".

        Args:
            query: what they are ranked for.
            documents: texts.
            top_k: only the best so many.
            return_documents: with their texts.
            activation_fn: in place of the model's own.

        A method that measures an order alone gives no "score".
        """
        found = best_first(self.reranker, query, documents, top=top_k)
        known = [score for _, score in found if score is not None]
        scores = self._activated(torch.tensor(known, dtype=torch.float64), activation_fn).tolist()
        return [
            {"corpus_id": index}
            | ({"score": scores[at]} if at < len(scores) else {})
            | ({"text": documents[index]} if return_documents else {})
            for at, (index, _) in enumerate(found)
        ]

    def _scores(self, rankings: list[tuple[Ranking, list[int]]]) -> Iterator[tuple[int, float]]:
        ranked = self.reranker.rerank([ranking for ranking, _ in rankings])
        for best, (ranking, places) in zip(ranked, rankings, strict=True):
            for candidate in best:
                if candidate.score is None:
                    raise InputError(
                        f"{self.reranker.name} measures an order and gives {ranking.query.text[:40]!r} no scores; use "
                        "rank, or a method that scores"
                    )
                yield places[int(candidate.document.doc_id)], candidate.score

    def _activated(self, scores: Tensor, activation: Callable[[Tensor], Tensor] | None) -> Tensor:
        """In float64, and float32 at the end: two scores that differ stay apart as long as they can."""
        return (activation or self.activation_fn)(scores).float()


class _Evaluations:
    """Where evaluators of sentence-transformers leave what they measured, by evaluator."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Any]] = {}

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0) -> None:
        """What an evaluator calls; epoch and step are those of a training, and there is none."""
        self.metrics[str(getattr(evaluator, "name", "") or type(evaluator).__name__)] = dict(metrics)


def _pair(pair: object) -> tuple[str, str]:
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise InputError(f"{pair!r} is no pair of a query and a document")
    query, document = pair
    if not (isinstance(query, str) and isinstance(document, str)):
        raise InputError(f"({query!r}, {document!r}) is no pair of texts")
    return query, document


def _by_query(pairs: Sequence[tuple[str, str]], instruction: str) -> list[tuple[Ranking, list[int]]]:
    """A ranking for each query, and where each of its documents stood among the pairs."""
    places: dict[str, list[int]] = {}
    for place, (query, _) in enumerate(pairs):
        places.setdefault(query, []).append(place)
    return [
        (
            Ranking.unscored(
                Query(str(number), query, instruction),
                [Document(str(n), pairs[place][1]) for n, place in enumerate(found)],
            ),
            found,
        )
        for number, (query, found) in enumerate(places.items())
    ]


def _parts(
    rankings: Iterable[tuple[Ranking, list[int]]], least: int | None
) -> Iterator[list[tuple[Ranking, list[int]]]]:
    """Whole queries, until they are `least` pairs."""
    part: list[tuple[Ranking, list[int]]] = []
    for each in rankings:
        part.append(each)
        if least is not None and sum(len(places) for _, places in part) >= least:
            yield part
            part = []
    if part:
        yield part


def _usual_activation(reranker: Reranker) -> Callable[[Tensor], Tensor]:
    """As sentence-transformers chooses it: by the config, and else a sigmoid for models of one logit."""
    if reranker.calibration is not None or not isinstance(reranker.recipe.folder, Path):
        return nn.Identity()
    file = reranker.recipe.folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    named = (config.get("sentence_transformers") or {}).get("activation_fn")
    named = named or config.get("sbert_ce_default_activation_function")  # as versions before 4 wrote it
    if named:
        known = {"Identity": nn.Identity, "Sigmoid": nn.Sigmoid}
        if (name := str(named).rpartition(".")[2]) not in known:
            raise InputError(f"the checkpoint's activation is {named}; give activation_fn= to say what it is")
        return known[name]()
    one = len(config.get("id2label") or {}) == 1 or config.get("num_labels") == 1
    return nn.Sigmoid() if one else nn.Identity()
