"""Fast but not late: an encoder reads the passage alone, a decoder the query and means of the passage's states."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from rerank import checkpoints
from rerank.engine.kept import KeptTensors
from rerank.engine.loading import Loading, Shaped, load
from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.engine.texts.prompt_tokens import PromptTokens
from rerank.errors import CheckpointError, InputError
from rerank.judges.passage_text import PassageText
from rerank.judges.target_token import TargetToken
from rerank.judges.text_models import TextModel
from rerank.prompts.prompt import Prompt
from rerank.questions import Grade

__all__ = ["PooledPassage"]

IMAGES = ("model.encoder.vision_tower.", "model.encoder.multi_modal_projector.")


class PooledPassage(TargetToken):
    """KaLM-Reranker-V1 (Zhao et al., 2026, https://arxiv.org/abs/2606.22807), a T5Gemma 2.

    The encoder reads the passage and nothing of the query; means of its neighbouring states are kept, so that a passage
    is read once, whatever is asked of it later. The decoder reads instruction and query; a grade is log P("yes") over
    "yes" and "no" behind them, the logarithm of what the published code gives. Queries are read whole, of which that
    code keeps 512 tokens.

    Args:
        folder, prompt, options: as of `TargetToken`; `max_tokens` is of what the encoder reads, 1024 by default.
        chunk: how many neighbouring states of a passage become their mean; 1 leaves them as they are.
        kept_megabytes: how much of what was made of passages is kept in memory, in MiB.

    Raises:
        CheckpointError: when the checkpoint is of another kind.
        InputError: when an option does not fit, or the prompt is not of an encoder and a decoder.
    """

    answers = frozenset({Grade})
    scoring = "pooled-passage 1"
    divides = True

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "kalm-reranker",
        chunk: int = 4,
        kept_megabytes: int = 1024,
        **options: Any,
    ) -> None:
        if (kind := checkpoints.kind(folder)) != "t5gemma2":
            raise CheckpointError(f"{folder} is of kind {kind}, and pooled passages are read by a T5Gemma 2 alone")
        if chunk < 1:
            raise InputError(f"chunk={chunk}; give 1 to leave a passage's states as they are, or more to pool them")
        self.chunk, self._kept = chunk, KeptTensors(kept_megabytes)
        super().__init__(folder, prompt=prompt, **options)

    @property
    def options(self) -> dict[str, str]:
        """The targets, and how many states become one."""
        return {**super().options, "chunk": str(self.chunk)}

    @property
    def choices(self) -> dict[str, str]:
        """As of `TargetToken`, and how much is kept."""
        return {**super().choices, "kept": f"what was made of passages, at most {self._kept.most // 2**20} MiB"}

    def _loaded(self, loading: Loading) -> TextModel:
        loaded = load(self.folder, "encoder-decoder", loading, Shaped(unread=IMAGES))
        return PassageText(loaded, chunk=self.chunk, kept=self._kept)

    def _template(self, documents: int) -> PromptTokens:
        """What the encoder reads, of which alone documents are cut."""
        return PromptTokens(self._borders, self.model.template(self.prompt.render(documents)[:1]))

    @cached_property
    def _asking(self) -> PromptTokens:
        """What the decoder reads."""
        return PromptTokens(self._borders, self.model.template(self.prompt.render(1)[1:]))

    def _rendered(
        self, texts: Mapping[str, str], documents: int, most: int, whole: Mapping[str, str] | None = None
    ) -> Rendered:
        """Both texts."""
        passage = self.templates(documents).render(
            texts, max_tokens=most, document_tokens=self.document_tokens, whole=whole
        )
        asked = self._asking.render(texts, max_tokens=self.model.longest)
        return Rendered(
            (tuple(passage.ids), tuple(asked.ids)),
            merged=passage.merged + asked.merged,
            cut=passage.cut,
            recalled=passage.recalled + asked.recalled,
            defused=passage.defused + asked.defused,
            fused=True,
        )
