"""Texts to weights of the vocabulary's terms: by a masked language model, or by looking up the tokens of a query."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rerank import checkpoints
from rerank.checkpoints.layouts import read_sparse_layout, sparse_modules
from rerank.cost import Ledger
from rerank.engine import batches, packing
from rerank.engine.encoder import usual_budget
from rerank.engine.encoders.embed import Embedded, Embedder
from rerank.engine.loading import Loading, explained, load, longest_input, quiet
from rerank.engine.texts.single_texts import SingleTexts, lower_texts
from rerank.engine.texts.text_tokens import TextTokens, unreadable
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError
from rerank.judges.separate import checked_tokens
from rerank.kernels.splade_pool import splade_pool
from retrievers.postings import Rows

__all__ = ["QueryTokens", "TermEncoder", "key_of", "static_weights"]

TERMS = 32_768
"""Terms of the vocabulary that are computed at once: more would be gigabytes for a long text of many languages."""

TRANSFORMS: Mapping[str, Callable[[Any], nn.Module]] = {
    "bert": lambda model: model.cls.predictions.transform,
    "distilbert": lambda model: nn.Sequential(model.vocab_transform, model.activation, model.vocab_layer_norm),
    "electra": lambda model: model.generator_predictions,
    "modernbert": lambda model: model.head,
    "mpnet": lambda model: _of_roberta(model),
    "roberta": lambda model: _of_roberta(model),
    "xlm-roberta": lambda model: _of_roberta(model),
}
"""What a family's masked models do to a token's state before it is multiplied with the vocabulary."""


class TermEncoder:
    """SPLADE's encoder (Formal et al., 2021, https://arxiv.org/abs/2109.10086).

    A term weighs max over the text's tokens of log(1 + ReLU(logit)); "sum" instead of the max is version 1.

    Args:
        folder: sentence-transformers' `SparseEncoder`, or a plain masked language model.
        pooling: "max" or "sum"; "" for what the model says.
        max_tokens: the most tokens of a document; 0 for as many as the model says.
        query_prompt, document_prompt: put in front of texts; None for what the model says.
        top_terms: a document keeps so many weights, the greatest; 0 for all.
        device: of the model.
        side: "query" or "document", where a `Router` reads the two by different models.

    Raises:
        CheckpointError: when the folder holds no such model.
        InputError: when an option does not fit the model.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pooling: str = "",
        max_tokens: int = 0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        top_terms: int = 0,
        device: str | None = None,
        side: str = "document",
    ) -> None:
        self.folder, self.top_terms = folder, top_terms
        layout = read_sparse_layout(folder, side)
        self.pooling = _pooling(pooling, layout.pooling, folder)
        loaded = load(sparse_modules(folder, side)[0][1], "masked", Loading(device))
        model, tokenizer = loaded.model, loaded.tokenizer
        if layout.lower_case:
            lower_texts(tokenizer)
        longest, texts = longest_input(model, tokenizer), TextTokens(tokenizer)
        most = checked_tokens("max_tokens", max_tokens or None, layout.document_tokens, longest, folder)
        of_query = min(layout.query_tokens or longest, longest)
        prompts = (_said(query_prompt, layout.query_prompt), _said(document_prompt, layout.document_prompt))
        self.queries = SingleTexts(texts, prompt=prompts[0], max_tokens=of_query)
        self.documents = SingleTexts(texts, prompt=prompts[1], max_tokens=most)
        transform, self.vocabulary = _head(model, folder)
        self.device: torch.device = model.device
        self.budget = batches.Budget(usual_budget(model.device.type))
        size = sum(part.weight.numel() for part in transform.modules() if isinstance(part, nn.Linear))
        self.embedder = Embedder(model.base_model, pooling="none", head=transform, head_size=size)

    @property
    def terms(self) -> int:
        """Of the vocabulary."""
        return len(self.vocabulary.weight)

    def rows(self, texts: Sequence[str], *, queries: bool = False) -> Rows:
        """The weights of documents, or of queries.

        Raises:
            InputError: when a text cannot be read.
            CheckpointError: when a weight is not finite.
        """
        pairs = [_readable(pair) for pair in (self.queries if queries else self.documents).of(texts)]
        found: list[tuple[Any, Any]] = [(None, None)] * len(texts)
        for batch, embedded in self._run(pairs):
            for place, terms in zip(batch, self._pooled(embedded), strict=True):
                found[place] = terms
        kept = [_top(*terms, 0 if queries else self.top_terms) for terms in found]
        held = sum(len(terms) for terms, _ in found)
        return _joined(kept, held, sum(pair.cut > 0 for pair in pairs))

    def documents_in(self, shards: Iterable[tuple[Path, list[str]]]) -> Iterator[tuple[Path, Rows]]:
        """(name, texts) to (name, weights), in order."""
        for name, texts in shards:
            yield name, self.rows(texts)

    def _run(self, pairs: Sequence[Pair]) -> Iterator[tuple[list[int], Embedded]]:
        pack = packing.in_order if self.embedder.packs else packing.by_length
        lengths = [len(pair.ids) for pair in pairs]
        return batches.run(
            lengths, self.budget, pack, lambda batch: self.embedder.run([pairs[place] for place in batch]), Ledger()
        )

    def _pooled(self, embedded: Embedded) -> Iterator[tuple[Any, Any]]:
        """(terms, weights) of each text of a batch: what they are depends on that text alone."""
        ends = np.cumsum([0, *embedded.lengths])
        for start in range(0, len(embedded.lengths), 64):
            stop = min(start + 64, len(embedded.lengths))
            states = embedded.states[ends[start] : ends[stop]].to(self.device)
            places = torch.from_numpy(ends[start : stop + 1] - ends[start]).to(self.device, torch.int32)
            weights = self._weights(states, places).cpu()
            if not torch.isfinite(weights).all():
                raise CheckpointError(f"{self.folder} gives weights that are not finite")
            for row in weights.numpy():
                terms = np.flatnonzero(row).astype(np.int32)
                yield terms, row[terms]

    def _weights(self, states: Tensor, places: Tensor) -> Tensor:
        """[tokens, dim] -> [texts, terms]"""
        head, bias, pooling = self.vocabulary.weight, self.vocabulary.bias, self.pooling[0]
        with torch.inference_mode():
            parts = [
                splade_pool(
                    states,
                    places,
                    head[start : start + TERMS],
                    None if bias is None else bias[start : start + TERMS],
                    pooling=pooling,
                )
                for start in range(0, len(head), TERMS)
            ]
            weights = torch.cat(parts, 1)
            return weights.log1p() if "log1p" in self.pooling else weights


class QueryTokens:
    """The tokens of queries, each once and without special tokens, for which no model is needed.

    Args:
        folder: of the checkpoint.
        query_prompt: put in front of queries; None for what the model says.

    Raises:
        CheckpointError: when there is no tokenizer.
    """

    def __init__(self, folder: Path, query_prompt: str | None = None) -> None:
        import transformers

        layout, place = read_sparse_layout(folder, "query"), sparse_modules(folder, "query")[0][1]
        with quiet(), explained(place):
            tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        if layout.lower_case:
            lower_texts(tokenizer)
        self.prompt, self.texts = _said(query_prompt, layout.query_prompt), TextTokens(tokenizer)

    def terms(self, text: str) -> list[int]:
        """The ids of a query's tokens, rising.

        Raises:
            InputError: when it cannot be read.
        """
        if (error := unreadable(text)) is not None:
            raise error
        [ids] = self.texts.encode([self.prompt + self.texts.special.plain(text).text])
        return [int(term) for term in np.unique(ids)]


def key_of(folder: Path, options: Mapping[str, Any]) -> str:
    """What makes weights the same: the model's files and the options; no model is loaded to say it."""
    places = {side: sparse_modules(folder, side)[0] for side in ("document", "query")}
    identity = f"{read_sparse_layout(folder).identity} {sorted(options.items())}"
    if places["document"] != places["query"]:  # the files of a static embedding are its layout's
        model = "" if static_weights(folder) is not None else checkpoints.fingerprint(places["query"][1])
        identity += f" {read_sparse_layout(folder, 'query').identity} {model}"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"splade 1 {checkpoints.fingerprint(places['document'][1])} {digest}"


def static_weights(folder: Path) -> Any | None:
    """What each token weighs in a query, float32 [terms], where the model says so instead of reading queries; or None.

    Raises:
        CheckpointError: when the weights cannot be read.
    """
    kind, place = sparse_modules(folder, "query")[0]
    if kind != "SparseStaticEmbedding":
        return None
    try:
        weights: Any = load_file(place / "model.safetensors")["weight"].float().numpy()
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{place} has no weights of tokens: {error}") from error
    return weights


def _head(model: Any, folder: Path) -> tuple[nn.Module, nn.Linear]:
    """What stands behind the backbone: on its states, and then the vocabulary's matrix."""
    kind = model.config.model_type
    if kind not in TRANSFORMS:
        raise CheckpointError(f"{folder} is a {kind}; SPLADE can be computed of {', '.join(TRANSFORMS)}")
    vocabulary: nn.Linear = model.get_output_embeddings()
    return TRANSFORMS[kind](model).float(), vocabulary


def _pooling(asked: str, usual: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """What is asked for, with what the model does behind it."""
    if asked == "sum" and "log1p" in usual:
        raise InputError(f"pooling 'sum', but the weights of {folder} are damped twice, which is known for 'max' alone")
    return (asked, *usual[1:]) if asked else usual


def _of_roberta(model: Any) -> nn.Module:
    return nn.Sequential(model.lm_head.dense, nn.GELU(), model.lm_head.layer_norm)


def _said(asked: str | None, usual: str) -> str:
    return usual if asked is None else asked


def _readable(pair: Pair | InputError) -> Pair:
    if isinstance(pair, InputError):
        raise pair
    return pair


def _top(terms: Any, weights: Any, most: int) -> tuple[Any, Any]:
    """The greatest weights; of equal ones those of the smaller ids."""
    if not most or len(terms) <= most:
        return terms, weights
    kept = np.sort(np.argsort(-weights, kind="stable")[:most])
    return terms[kept], weights[kept]


def _joined(rows: Sequence[tuple[Any, Any]], held: int, cut: int) -> Rows:
    counts = np.array([len(terms) for terms, _ in rows], np.int64)
    terms = np.concatenate([np.empty(0, np.int32), *(terms for terms, _ in rows)])
    weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
    return Rows(counts, terms, weights, held - len(terms), cut)
