"""PE-Rank's first stage: a projector through which a frozen language model writes a passage out of its vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rerank import prompts
from rerank.engine.decoders.families import context_limit
from rerank.errors import InputError
from rerank.judges.separate import checked_tokens
from rerank.judges.target_words import continuation
from training.examples import Example
from training.students.causal import answer_log_probs, answer_rows
from training.students.passage_embedding import PassageEmbedding
from training.students.prompts import PassageReader
from training.students.student import Lora

__all__ = ["PassageAlignment"]


class PassageAlignment(PassageEmbedding):
    """PE-Rank's alignment (Liu et al., 2024, https://arxiv.org/abs/2406.14848): a text out of its one vector.

    Every document of every list is a text by itself; queries and labels are not read. The loss, `reconstruction`, is
    the language model's over the text behind a prompt that shows its vector. The projector is trained, and nothing
    else. What is written goes on with `passage-embedding`.

    Args:
        name: a Llama or a Mistral, or a model whose projector shall be trained further.
        prompt: of the toolkit, that shows one document and has something written.
        max_tokens: of prompt and text together; longer texts are cut, and then do not end. By default 512, or what the
            model reads.
        encoder, pooling, document_tokens, packed, dtype: as of `PassageEmbedding`.
        lora: not for this stage.

    Raises:
        CheckpointError, InputError: as of `PassageEmbedding`; also when adapters are asked for.
    """

    wants: ClassVar[str] = "texts"

    def __init__(
        self,
        name: str | Path,
        *,
        encoder: str | None = None,
        pooling: str | None = None,
        prompt: str = "pe-rank-alignment",
        max_tokens: int | None = None,
        document_tokens: int | None = None,
        packed: bool | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        asked = prompts.find(prompt)
        if (asked.asks, asked.shows) != ("write", 1):
            raise InputError(f"prompt {prompt!r} does not ask to write about one document; 'pe-rank-alignment' does")
        if lora is not None:
            raise InputError("alignment trains the projector and nothing else; leave out lora")
        read: dict[str, Any] = {"encoder": encoder, "pooling": pooling, "document_tokens": document_tokens}
        super().__init__(name, **read, packed=packed, dtype=dtype)
        folder = self.reader.folder
        most = checked_tokens("max_tokens", max_tokens, 512, context_limit(self.config), folder)
        self.max_tokens = most
        self.writer = PassageReader(folder, self.tokenizer, asked, max_tokens=most, as_places=True)
        self.model.requires_grad_(False)
        self.model.base_model.projector.requires_grad_(True)

    def use(self, name: str) -> str:
        """What comes next, for the card."""
        return f'# It writes texts out of vectors, and does not rank yet:\n# rerank train pe-rank --model "{name}" …'

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A prompt and its text for each document, in one row."""
        pairs = [(example.query, text) for example in examples for text in example.documents]
        vectors, cut = self.encoder.read([text for _, text in pairs])
        rows = []
        for place, (query, text) in enumerate(pairs):
            prompt = self.placed(self.writer.read(query, [text]).ids, place)
            whole = continuation(self.tokenizer, text, behind=self.writer.tail(1))
            ids = [*whole, self.tokenizer.eos_token_id][: self.max_tokens - len(prompt)]
            if not ids:
                raise InputError(f"the prompt takes {len(prompt)} tokens; max_tokens={self.max_tokens} leaves no text")
            cut += len(ids) <= len(whole)
            rows.append((prompt, ids))
        return {**answer_rows(rows), "vectors": vectors, "cut": torch.tensor(cut)}

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """`log_probs` of the texts' tokens, and `token_mask`: [texts, tokens]."""
        at, written, mask = (inputs.pop(name) for name in ("at", "written", "token_mask"))
        _, states = self.states(**inputs)
        return {"log_probs": answer_log_probs(self.core, states, at, written, mask), "token_mask": mask}
