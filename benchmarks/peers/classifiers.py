"""Classifiers through torch: sentence-transformers, rerankers, and the two loops a careful user would write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest import Absent, Scores, Setting
from benchmarks.pairs import Item, by_query, rectangles

__all__ = ["hf_padded", "rerankers", "sentence_transformers", "varlen"]

Work = Sequence[Item]
Way = Callable[[Work, int], Scores]


def sentence_transformers(
    folder: Path, setting: Setting, *, backend: str = "torch", tuned: bool = True, max_tokens: int = 512
) -> Callable[[], Way]:
    """`CrossEncoder.predict`; tuned: in our dtype and with SDPA."""

    def make() -> Way:
        from sentence_transformers import CrossEncoder

        dtype = getattr(torch, setting.dtype if tuned else "float32")
        attention = {} if _model_type(folder) == "deberta-v2" else {"attn_implementation": "sdpa"}
        model = CrossEncoder(
            str(folder),
            max_length=max_tokens,
            device=setting.device,
            backend=backend,  # type: ignore[arg-type]
            activation_fn=torch.nn.Identity(),
            model_kwargs={"dtype": dtype, **(attention if tuned else {})} if backend == "torch" else {},
        )

        def run(work: Work, batch_size: int) -> Scores:
            pairs = [(item.query, item.document) for item in work]
            return [float(score) for score in model.predict(pairs, batch_size=batch_size, show_progress_bar=False)]

        return run

    return make


def rerankers(folder: Path, setting: Setting) -> Callable[[], Way]:
    """`Reranker(…).rank`, query by query."""

    def make() -> Way:
        from rerankers import Reranker

        ranker = Reranker(
            str(folder), model_type="cross-encoder", device=setting.device, dtype=setting.dtype, verbose=0
        )
        if ranker is None:
            raise Absent("rerankers could not load it")

        def run(work: Work, batch_size: int) -> Scores:
            scores: list[float] = []
            for query, documents in by_query(work):
                ranked = ranker.rank(query, documents, batch_size=batch_size)
                found = {result.document.doc_id: result.score for result in ranked.results}
                scores += [float(found[index]) for index in range(len(documents))]
            return scores

        return run

    return make


def hf_padded(folder: Path, setting: Setting, *, change: Callable[[Any], None] | None = None) -> Callable[[], Way]:
    """transformers alone, ids in: batches sorted by length, padded, one transfer back; `change` changes the model."""

    def make() -> Way:
        model = _classifier(folder, setting)
        if change is not None:
            change(model)

        def run(work: Work, batch_size: int) -> Scores:
            scores = torch.empty(len(work))
            with torch.inference_mode():
                for batch in rectangles([len(item.ids) for item in work], batch_size):
                    inputs = _rectangle([work[index] for index in batch], model)
                    scores[batch] = model(**inputs).logits[:, 0].float().cpu()
            return scores.tolist()

        return run

    return make


def varlen(folder: Path, setting: Setting) -> Callable[[], Way]:
    """The strong reference: transformers' own modules, packed by token budget, torch's varlen attention, ids in.

    It stands for what unpads elsewhere and cannot be installed beside us. The batch size is counted in texts of 512
    tokens. Where torch's kernel cannot run (on a CPU), attention goes text by text.
    """

    def make() -> Way:
        from transformers import AttentionInterface

        model = _classifier(folder, setting)
        if _model_type(folder) in ("deberta-v2", "mpnet"):
            raise Absent("this family does not use transformers' attention interface")
        AttentionInterface.register("bench_varlen", _attend)
        model.set_attn_implementation("bench_varlen")

        def run(work: Work, batch_size: int) -> Scores:
            scores = torch.empty(len(work))
            with torch.inference_mode():
                for batch in _packs([len(item.ids) for item in work], batch_size * 512):
                    scores[batch] = _packed(model, [work[index] for index in batch])
            return scores.tolist()

        return run

    return make


def _packed(model: Any, texts: Sequence[Item]) -> torch.Tensor:
    """Scores of texts in one row: the head on first tokens (or on means, as ModernBERT has it)."""
    config = model.config
    lengths = [len(item.ids) for item in texts]
    first = config.pad_token_id + 1 if config.model_type == "xlm-roberta" else 0
    row = {
        "input_ids": [token for item in texts for token in item.ids],
        "position_ids": [first + place for length in lengths for place in range(length)],
    }
    if config.model_type == "bert":
        row["token_type_ids"] = [kind for item in texts for kind in item.types]
    inputs = {name: torch.tensor([values], device=model.device) for name, values in row.items()}
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=model.device)
    hidden = model.base_model(**inputs, bench_starts=starts, bench_longest=max(lengths)).last_hidden_state[0]
    if config.model_type == "modernbert":
        pooled = hidden[starts[:-1]]
        if config.classifier_pooling == "mean":
            pooled = torch.stack([part.mean(0) for part in hidden.split(lengths)])
        return model.classifier(model.head(pooled))[:, 0].float().cpu()
    if config.model_type == "bert":
        return model.classifier(model.bert.pooler(hidden[starts[:-1], None]))[:, 0].float().cpu()
    return model.classifier(hidden[starts[:-1], None])[:, 0].float().cpu()


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
    """[1, heads, tokens, dim] -> [1, tokens, heads, dim]."""
    starts, longest = options["bench_starts"], options["bench_longest"]
    window = options.get("sliding_window")
    if query.device.type == "cuda":
        from torch.nn.attention.varlen import varlen_attn

        rows = [part[0].transpose(0, 1).contiguous() for part in (query, key, value)]
        local = {"window_size": (window - 1, window - 1)} if window else {}
        return varlen_attn(*rows, starts, starts, longest, longest, **local)[None], None
    parts = zip(*(part.split(starts.diff().tolist(), 2) for part in (query, key, value)), strict=True)
    attended = [_within(*part, window) for part in parts]
    return torch.cat(attended, 2).transpose(1, 2), None


def _within(query: Any, key: Any, value: Any, window: int | None) -> Any:
    places = torch.arange(query.shape[2], device=query.device)
    near = (places[:, None] - places).abs() < window if window and len(places) > window else None
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=near)


def _packs(lengths: Sequence[int], budget: int) -> list[list[int]]:
    packs: list[list[int]] = [[]]
    full = 0
    for index, length in enumerate(lengths):
        if packs[-1] and full + length > budget:
            packs.append([])
            full = 0
        packs[-1].append(index)
        full += length
    return packs


def _rectangle(texts: Sequence[Item], model: Any) -> dict[str, torch.Tensor]:
    longest = max(len(item.ids) for item in texts)
    padding = model.config.pad_token_id or 0
    inputs = {
        "input_ids": [item.ids + [padding] * (longest - len(item.ids)) for item in texts],
        "attention_mask": [[1] * len(item.ids) + [0] * (longest - len(item.ids)) for item in texts],
    }
    if model.config.model_type == "bert":
        inputs["token_type_ids"] = [item.types + [0] * (longest - len(item.types)) for item in texts]
    return {name: torch.tensor(rows).to(model.device) for name, rows in inputs.items()}


def _classifier(folder: Path, setting: Setting) -> Any:
    from transformers import AutoModelForSequenceClassification

    attention = "eager" if _model_type(folder) == "deberta-v2" else "sdpa"
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=getattr(torch, setting.dtype), attn_implementation=attention
    )
    return model.eval().to(setting.device)


def _model_type(folder: Path) -> str:
    from transformers import AutoConfig

    return str(AutoConfig.from_pretrained(folder).model_type)
