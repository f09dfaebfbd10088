"""Layer-wise rerankers: the score is read behind a layer in the middle, by that layer's own head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank import checkpoints
from rerank.engine.compressed import CompressedPass, Compression
from rerank.engine.loading import Loading
from rerank.engine.texts.prompt_tokens import Slot
from rerank.engine.translated import layer_wise
from rerank.errors import CheckpointError, InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.causal_text import CausalText
from rerank.judges.prompted import PromptedJudge
from rerank.judges.scored_text import ScoredText
from rerank.judges.text_models import TextModel
from rerank.prompts.prompt import Prompt
from rerank.questions import Grade, Graded

__all__ = ["LayerWise"]


class LayerWise(PromptedJudge):
    """bge-reranker-v2-minicpm-layerwise and bge-reranker-v2.5-gemma2-lightweight (https://arxiv.org/abs/2409.15700
    describes the family; https://huggingface.co/BAAI): the last token's state after `layer` layers, normed, times that
    layer's head. The layers behind are not even loaded, so that half the layers cost half as much.

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        layer: after how many layers the score is read; the last by default.
        head_of: the layer whose head reads it; its own by default. FlagEmbedding's code for the Gemma reads the first
            head (that of layer 8) whenever one layer is asked for: `head_of=8` gives its scores.
        compress_ratio: of the Gemma alone: 2, 4 or 8 neighbouring tokens of a document become one on the way up.
        compress_layers: in front of which layers, counted from 0, that happens; each time again.

    Raises:
        CheckpointError: when the checkpoint is no layer-wise reranker.
        InputError: when a layer has no head, or the checkpoint cannot be compressed.
    """

    answers = frozenset({Grade})
    scoring = "layer-wise 1"
    scale = "logit"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt,
        layer: int | None = None,
        head_of: int | None = None,
        compress_ratio: int = 1,
        compress_layers: Sequence[int] = (),
        **options: Any,
    ) -> None:
        if (kind := checkpoints.kind(folder)) != "layer-wise":
            raise CheckpointError(f"{folder} is of kind {kind}; heads behind layers have layer-wise rerankers alone")
        self.layer, self.head_of = layer, head_of
        self.softcap: float | None = None
        self.compression = _checked(folder, compress_ratio, tuple(compress_layers))
        self.compressed: CompressedPass | None = None
        super().__init__(folder, prompt=prompt, **options)

    @property
    def options(self) -> dict[str, str]:
        """The layer, its head, and how documents are compressed."""
        said = {"layer": str(self.layer)} | ({} if self.head_of is None else {"head of layer": str(self.head_of)})
        if self.compression is not None:
            places = ", ".join(map(str, self.compression.layers))
            said["compression"] = f"{self.compression.ratio} tokens into one in front of layers {places}"
        return said

    def _loaded(self, loading: Loading) -> TextModel:
        """The model up to the layer."""
        made = layer_wise(self.folder, loading, layer=self.layer, head_of=self.head_of)
        self.layer, self.softcap = made.layer, made.softcap
        if self.compression is None:
            return CausalText(made.loaded)
        if late := [place for place in self.compression.layers if not 0 < place < made.layer]:
            raise InputError(
                f"compress_layers={late}: documents are compressed in front of layers 1 to {made.layer - 1}"
            )
        self.compressed = CompressedPass(made.loaded.model, self.compression)
        return ScoredText(made.loaded, "one by one, documents compressed")

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One pass over the prompts."""
        prompts = [each.prompt for each in asked]
        if self.compressed is None:
            assert isinstance(self.model, CausalText)
            logits, work = self.model.classify(prompts)
        else:
            rows, done = self.compressed.classify([prompt.ids for prompt in prompts], [self._span(e) for e in asked])
            tokens = sum(map(len, prompts))
            logits, work = list(rows), Work(tokens, done.rows - tokens, done.flops, calls=len(asked))
        return Given([Graded(self._bounded(row[0].item())) for row in logits], work)

    def _bounded(self, score: float) -> float:
        return score if self.softcap is None else self.softcap * math.tanh(score / self.softcap)

    def _span(self, asked: Asked) -> tuple[int, int]:
        """Where the document's line lies in the prompt: (first token, token behind the last)."""
        texts, _ = self.templates(1).plain(self.texts(asked.question))
        parts = self.templates(1).template.parts
        place = next(index for index, part in enumerate(parts) if isinstance(part, Slot) and part.cut)
        before = "".join(texts[part.name] if isinstance(part, Slot) else part for part in parts[:place])
        behind = "".join(texts[part.name] if isinstance(part, Slot) else part for part in parts[place + 1 :])
        ids, front = asked.prompt.ids, self._ids(before[: before.rfind("\n") + 1], special=True)
        back = self._ids(behind, special=False)
        if ids[: len(front)] != front or ids[len(ids) - len(back) :] != back:
            raise InputError("the tokenizer reads the document together with its neighbours; ask without compression")
        return len(front), len(ids) - len(back)

    def _ids(self, text: str, *, special: bool) -> list[int]:
        ids = list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        return ids[:-1] if special and ids[-1:] == [self.tokenizer.eos_token_id] else ids


def _checked(folder: str | Path, ratio: int, layers: tuple[int, ...]) -> Compression | None:
    """How documents are compressed, None when they are not.

    Raises:
        InputError: when ratio and layers do not fit together, or the checkpoint was not trained for it.
    """
    if ratio < 1 or (ratio > 1) != bool(layers):
        raise InputError(
            f"compress_ratio={ratio} with compress_layers={list(layers)}; give both (2 and [24, 40]) or neither"
        )
    if ratio == 1:
        return None
    if checkpoints.settings(folder).get("model_type") != "cost_wise_gemma":
        raise InputError(f"compress_ratio={ratio}, but {Path(folder).name} was not trained to read merged tokens")
    return Compression(ratio, layers)
