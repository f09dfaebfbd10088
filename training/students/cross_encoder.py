"""Cross-encoders: a classifier reads the query and one document together, all documents of all lists in one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from rerank import checkpoints
from rerank.engine.encoders.padded import rectangle
from rerank.engine.loading import explained, longest_input, quiet
from rerank.engine.tokens import Pair, PairTokens
from rerank.errors import InputError
from training.examples import Example
from training.students.packed import register, rows_of, run_packed
from training.students.student import Lora, Student, kept_randomness, quantized, with_lora

__all__ = ["CrossEncoder", "packed_logits"]


def _bert(model: Any, first: Tensor) -> Tensor:
    return cast(Tensor, model.classifier(model.dropout(model.base_model.pooler(first[:, None]))))


def _first_token(model: Any, first: Tensor) -> Tensor:
    return cast(Tensor, model.classifier(first[:, None]))


def _distilbert(model: Any, first: Tensor) -> Tensor:
    return cast(Tensor, model.classifier(model.dropout(model.pre_classifier(first).relu())))


def _modernbert(model: Any, pooled: Tensor) -> Tensor:
    return cast(Tensor, model.classifier(model.drop(model.head(pooled))))


HEADS: Mapping[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": _bert,
    "electra": _first_token,
    "roberta": _first_token,
    "camembert": _first_token,
    "xlm-roberta": _first_token,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
}
"""How a family reads logits off pooled states, dropout included. What is not here is trained padded."""

AGREES = 1e-3
"""How far packed logits may be from the model's own, in float32, before the model is trained padded."""


class CrossEncoder(Student):
    """A transformers `…ForSequenceClassification` with one logit, or two whose difference is the score.

    Args:
        name: a checkpoint's name, hub id or folder; one without a head gets a new one with one logit.
        max_tokens: of query, document and special tokens together; documents are cut at their ends.
        layers: keep the first so many; all by default.
        packed: without padding; None: where the family allows it. False pads to a rectangle.
        dropout: the share of hidden states and of attention that is dropped while it trains, everywhere alike; the
            checkpoint's own by default. Small data and small bodies learn sooner with 0.
        lora: train adapters and the head alone.
        dtype: of the weights; "float32" by default, to which `bf16` training casts for itself.

    Raises:
        CheckpointError: when transformers cannot load it.
        InputError: when it cannot be trained packed as asked, or reads fewer tokens.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        max_tokens: int | None = None,
        layers: int | None = None,
        packed: bool | None = None,
        dropout: float | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        if dropout is not None and not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout}, but a share is at least 0 and below 1")
        folder = checkpoints.fetch(name)
        model, tokenizer = _loaded(folder, layers, dropout, dtype, lora)
        super().__init__(with_lora(model, lora, heads=("classifier",)), tokenizer)
        longest = longest_input(model, tokenizer)
        if max_tokens is not None and not 1 <= max_tokens <= longest:
            raise InputError(f"max_tokens={max_tokens}, but {folder.name} reads from 1 to {longest} tokens")
        self.max_tokens = max_tokens or longest
        self.pairs = PairTokens(tokenizer, self.max_tokens)
        self.why_padded = "packed=False" if packed is False else self._try_packed()
        if packed and self.why_padded:
            raise InputError(f"packed=True, but {folder.name} must be padded: {self.why_padded}")

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return f"padded ({self.why_padded})" if self.why_padded else "packed"

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """One text a document; raises InputError for a query that leaves no room."""
        queries = [example.query for example in examples for _ in example.documents]
        read = self.pairs.pairs(queries, [text for example in examples for text in example.documents])
        pairs = [_readable(pair, query) for pair, query in zip(read, queries, strict=True)]
        cut = torch.tensor(sum(pair.cut > 0 for pair in pairs))
        if self.why_padded:
            padded = rectangle(self.core, pairs)
            return {**{name: tensor.long().cpu() for name, tensor in padded.items()}, "cut": cut}
        return {**rows_of([pair.ids for pair in pairs], [pair.types for pair in pairs]).as_inputs(), "cut": cut}

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> Any:
        """float [texts]."""
        model = self.core
        if "slots" not in inputs:
            return _score(model(**inputs).logits)
        return _score(packed_logits(model, **inputs))

    def _try_packed(self) -> str:
        """Why it must be padded, or ""."""
        model = self.core
        family = model.config.model_type
        if family not in HEADS:
            return f"{family} is not known packed"
        usual, training = model.config._attn_implementation, self.training
        model.eval()
        model.set_attn_implementation(register())
        difference = _difference(model, usual)
        model.train(training)
        if difference <= AGREES * (100 if model.dtype != torch.float32 else 1):
            return ""
        model.set_attn_implementation(usual)
        return f"packed attention changes its logits by {difference:.1e}"


def _loaded(folder: Path, layers: int | None, dropout: float | None, dtype: str, lora: Lora | None) -> tuple[Any, Any]:
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    if "ForSequenceClassification" not in str(config.architectures):
        config.num_labels = 1
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise InputError(f"layers={layers}, but {folder.name} has {config.num_hidden_layers}")
        config.num_hidden_layers = layers
    if dropout is not None:
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, int | float):
                setattr(config, key, dropout)
    with quiet(), explained(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=getattr(torch, dtype), **quantized(lora, dtype)
        )
    return model, tokenizer


def packed_logits(model: Any, ids: Tensor, types: Tensor, places: Tensor, lengths: Tensor, slots: Tensor) -> Tensor:
    """In the order of the texts given: [texts, labels]."""
    config = model.config
    first_place = config.pad_token_id + 1 if config.model_type in ("roberta", "camembert", "xlm-roberta") else 0
    typed = getattr(config, "type_vocab_size", 0) > 1
    states = run_packed(model.base_model, ids, types, places + first_place, lengths, typed=typed)
    if getattr(config, "classifier_pooling", "cls") == "mean":
        pooled = torch.stack([text.mean(0) for text in torch.split(states, lengths.tolist())])
    else:
        pooled = states[lengths.cumsum(0) - lengths]
    logits = HEADS[config.model_type](model, pooled)
    return logits[slots.argsort()]


def _score(logits: Tensor) -> Tensor:
    """The logit, or the second less the first, whose sigmoid is P(relevant)."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def _difference(model: Any, usual: str) -> float:
    """How far packed logits are from the model's own, on three short texts."""
    room = model.config.vocab_size - 5
    several = [Pair.of([7 * index % room + 5 for index in range(length)], [0] * length) for length in (5, 3, 40)]
    with torch.no_grad(), kept_randomness():
        inputs = {
            name: tensor.to(model.device)
            for name, tensor in rows_of([pair.ids for pair in several]).as_inputs().items()
        }
        got = packed_logits(model, **inputs)
        model.set_attn_implementation(usual)
        own = torch.cat([model(**rectangle(model, [pair])).logits for pair in several])
        model.set_attn_implementation(register())
    return float((got - own).abs().max())


def _readable(pair: Pair | InputError, query: str) -> Pair:
    if isinstance(pair, InputError):
        raise InputError(f"query {query[:60]!r}: {pair}")
    return pair
