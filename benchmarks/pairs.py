"""Work for classifiers: pairs with their texts and their ids, and our ways of scoring them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.contest import Absent, Outcome, Scores, Setting

__all__ = [
    "Item",
    "by_query",
    "calibration",
    "ids_in",
    "int8_judge",
    "items",
    "judge_of",
    "kept_tokens",
    "real_items",
    "rectangles",
    "reference",
    "text_in",
]

Work = Sequence["Item"]


@dataclass(frozen=True)
class Item:
    """A pair as texts, and as the ids that its tokenizer makes of them."""

    query: str
    document: str
    ids: list[int]
    types: list[int]


def items(folder: Path, totals: Sequence[int], *, queries: int = 1, seed: int = data.SEED) -> list[Item]:
    """As many pairs for each query as there are totals, which are the tokens of each pair."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    writer = data.Writer(tokenizer.backend_tokenizer, seed=seed)
    made = []
    for _ in range(queries):
        collection = writer.collection(totals, query=min(10, min(totals) - 4), extra=3)
        texts = [collection.query] * len(totals)
        encoded = tokenizer(texts, collection.documents)
        types = encoded.get("token_type_ids") or [[0] * len(ids) for ids in encoded["input_ids"]]
        made += map(Item, texts, collection.documents, encoded["input_ids"], types)
    assert [len(item.ids) for item in made] == [*totals] * queries
    return made


def real_items(folder: Path, *, queries: int, documents: int) -> list[Item]:
    """NovelEval's last queries with their judged documents: real texts, which ship with the library.

    Its first queries are what our int8 is calibrated on.
    """
    from transformers import AutoTokenizer

    from rerank import Dataset

    dataset = Dataset.load("noveleval")
    texts = {document.doc_id: document.full_text for document in dataset.documents()}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.no_padding()
    made = []
    for query in list(dataset.queries)[-queries:]:
        judged = [texts[doc_id] for doc_id in list(dataset.qrels[query.query_id])[:documents]]
        encoded = tokenizer([query.text] * len(judged), judged, truncation=True, max_length=512)
        for text, ids, types in zip(judged, encoded["input_ids"], encoded["token_type_ids"], strict=True):
            made.append(Item(query.text, text, ids, types))
    return made


def by_query(work: Work) -> Iterator[tuple[str, list[str]]]:
    """Queries with their documents, in order."""
    for query, group in groupby(work, key=lambda item: item.query):
        yield query, [item.document for item in group]


def rectangles(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches, by descending length."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def judge_of(folder: Path, setting: Setting, *, dtype: str | None = None, max_tokens: int = 512) -> Any:
    """Our cross-encoder judge for a checkpoint."""
    from rerank.judges.cross_encoder import CrossEncoder

    return CrossEncoder(folder, device=setting.device, dtype=dtype or setting.dtype, max_tokens=max_tokens)


def int8_judge(folder: Path, setting: Setting) -> Any:
    """The same judge in int8.

    Raises:
        Absent: when OpenVINO, which runs it, is not installed.
    """
    from rerank.errors import MissingExtra

    try:
        return judge_of(folder, setting, dtype="int8")
    except MissingExtra as error:
        raise Absent(str(error)) from error


def calibration(folder: Path) -> list[Item]:
    """Texts on which a peer's static int8 is calibrated; none of them is measured on."""
    return items(folder, data.lengths("marco", 64, seed=1), seed=1)


def text_in(judge: Any) -> Callable[[Work], Outcome]:
    """The public path, texts in and scores out: tokens, scheduler, judge, ledger; nothing is kept from pass to pass."""

    def run(work: Work) -> Outcome:
        _forget_tokens(judge)
        return _ranked(judge, work)

    return run


def kept_tokens(judge: Any, other: str) -> Callable[[Work], Outcome]:
    """The same with documents whose tokens are kept from another query that was asked of them before, untimed."""
    from rerank.engine.texts.token_store import MemoryTokens

    stores: dict[int, MemoryTokens] = {}

    def run(work: Work) -> Outcome:
        if len(work) not in stores:
            _forget_tokens(judge)
            _ranked(judge, [Item(other, item.document, [], []) for item in work])
            stores[len(work)] = judge.tokens.texts.store
        judge.tokens.texts.store = stores[len(work)]
        return _ranked(judge, work)

    return run


def ids_in(judge: Any) -> Callable[[Work], Outcome]:
    """The engine alone, ids in and scores out, in the judge's own batches."""
    from rerank.engine import packing
    from rerank.engine.tokens import Pair

    def run(work: Work) -> Outcome:
        pack = packing.in_order if judge.encoder.packs else packing.by_length
        scores = [0.0] * len(work)
        padded = flops = 0
        for batch in pack([len(item.ids) for item in work], judge.token_budget):
            scored = judge.encoder.score([Pair.of(work[index].ids, work[index].types) for index in batch])
            padded, flops = padded + scored.padded, flops + scored.flops
            for index, logits in zip(batch, scored.logits.tolist(), strict=True):
                scores[index] = logits[0]
        real = sum(len(item.ids) for item in work)
        amounts = {"tokens_real": real, "tokens_padded": padded, "flops": flops}
        return Outcome(scores, amounts, _notes(judge))

    return run


def reference(folder: Path, setting: Setting) -> Callable[[Work], Scores]:
    """The model's own forward in float32, one pair at a time."""
    import torch

    model: Any = None

    def run(work: Work) -> Scores:
        nonlocal model
        if model is None:
            from transformers import AutoModelForSequenceClassification

            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
            model.eval().to(setting.device)
        typed = model.config.model_type == "bert"
        scores = []
        with torch.inference_mode():
            for item in work:
                types = {"token_type_ids": torch.tensor([item.types], device=model.device)} if typed else {}
                inputs = torch.tensor([item.ids], device=model.device)
                scores.append(float(model(input_ids=inputs, **types).logits[0, 0]))
        return scores

    return run


def _ranked(judge: Any, work: Work) -> Outcome:
    from rerank import Document, Query, Ranking, Reranker

    reranker = Reranker(judge=judge)  # a new one has no memory of answers
    rankings = [
        Ranking.unscored(Query(str(number), query), [Document(str(index), text) for index, text in enumerate(texts)])
        for number, (query, texts) in enumerate(by_query(work))
    ]
    scores: list[float] = []
    for ranking in reranker.rerank(rankings):
        found = {candidate.document.doc_id: candidate.score for candidate in ranking}
        scores += [float(found[str(index)] or 0.0) for index in range(len(found))]
    reranker.close()
    return Outcome(scores, reranker.ledger.total, _notes(judge))


def _forget_tokens(judge: Any) -> None:
    """Empty what the judge keeps of texts it has tokenised."""
    from rerank.engine.texts.token_store import MemoryTokens

    judge.tokens.texts.store = MemoryTokens()


def _notes(judge: Any) -> dict[str, str]:
    kept = ("execution", "dtype", "token budget", "tokens", "budget")
    return {name: value for name, value in judge.choices.items() if name in kept}
