"""PE-Rank's ranking stage: passages as vectors of an encoder, whose order is decoded over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rerank import checkpoints, prompts
from rerank.engine.decoders.families import context_limit
from rerank.engine.decoders.vectors import Vectors
from rerank.engine.translated import tensors
from rerank.errors import InputError
from rerank.judges.passage_tokens import PLACEHOLDER, as_tokens
from rerank.judges.separate import checked_tokens
from training.examples import Example
from training.students.causal import answer_rows, row_states, try_packed
from training.students.listwise import order_of
from training.students.passage_layout import Encoder, loaded, rewritten, written_as
from training.students.prompts import PassageReader
from training.students.student import Lora, Student, with_lora

__all__ = ["PassageEmbedding"]


class PassageEmbedding(Student):
    """PE-Rank's second stage (Liu et al., 2024, https://arxiv.org/abs/2406.14848): orders over passages' vectors.

    Each list is read twice: once with passages as vectors alone, as it is ranked, and once with their words behind
    them. Behind either prompt the vectors of the true order are read one after the other, and the loss, `pe-rank`, is
    over which comes next of those that are left. The language model and the projector are trained; the encoder never.

    Args:
        name: a Llama or a Mistral, with a new projector; or what the first stage (`passage-alignment`) wrote.
        encoder: whose vectors stand for passages: name, hub id or folder; the one that the checkpoint names by default.
        pooling: of the encoder: "mean", "cls" or "last_token"; "mean" where the checkpoint does not say.
        prompt: of the toolkit, that shows passages as vectors and asks for an order.
        max_tokens: of the prompt with words; documents are cut at their ends. By default 4,096, or what the model
            reads.
        document_tokens: the most of a passage that the encoder reads; all that it can by default.
        packed: without padding; None: where that gives the same.
        lora: train adapters and the projector alone.
        dtype: of the language model's weights; the projector's are float32.

    Raises:
        CheckpointError: when the encoder cannot be had, or is none.
        InputError: when no encoder is named, another one than the projector was trained with, the model or the prompt
            is of another kind, or the model reads fewer tokens.
    """

    wants: ClassVar[str] = "steps"
    measured: ClassVar[bool] = False

    def __init__(
        self,
        name: str | Path,
        *,
        encoder: str | None = None,
        pooling: str | None = None,
        prompt: str = "pe-rank",
        max_tokens: int | None = None,
        document_tokens: int | None = None,
        packed: bool | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        folder = checkpoints.fetch(name)
        if (asked := prompts.find(prompt)).judge != "passage-embedding":
            raise InputError(f"prompt {prompt!r} shows no passage as a vector; 'pe-rank' does")
        reads = Encoder(folder, encoder, pooling, document_tokens)
        model, tokenizer = loaded(folder, reads.size, dtype, lora)
        super().__init__(with_lora(model, _beside_projector(model, lora), heads=("projector",)), tokenizer)
        self.encoder = reads
        shared = {"max_tokens": checked_tokens("max_tokens", max_tokens, 4096, context_limit(model.config), folder)}
        self.reader = PassageReader(folder, tokenizer, asked, as_places=True, **shared)
        shown = asked.document.replace("{text}", PLACEHOLDER) + " {text}"  # the words stand behind the vector
        self.full_reader = PassageReader(folder, tokenizer, replace(asked, document=shown), as_places=False, **shared)
        self.placeholder = int(tokenizer.convert_tokens_to_ids(PLACEHOLDER))
        self.why_padded = try_packed(model, packed)

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        how = f"padded ({self.why_padded})" if self.why_padded else "packed"
        return f"{how}, encoder {self.encoder.name} frozen"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks: in windows, its passages as long as they were."""
        read = self.encoder.document_tokens
        return {
            "judge": "passage-embedding",
            "algorithm": "sliding-windows",
            "prompt": self.reader.prompt.name,
            "max_tokens": self.config.max_position_embeddings,  # of vectors alone, of which none can be cut
            "options": {"window": 20, "step": 10, **({"document_tokens": read} if read else {})},
        }

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Both prompts of each list with the vectors of its order behind them, all in one row."""
        vectors, cut = self.encoder.read([text for example in examples for text in example.documents])
        starts = [sum(len(each) for each in examples[:place]) for place in range(len(examples))]
        rows = []
        for reader in (self.reader, self.full_reader):
            for example, start in zip(examples, starts, strict=True):
                prompt = reader.read(example.query, example.documents, room=len(example))
                order = [self.number(start + index) for index in order_of(example, self.target)]
                rows.append((self.placed(prompt.ids, start), order))
                cut += len(prompt.cut or ())
        return {
            **answer_rows(rows),
            "vectors": vectors,
            "counts": torch.tensor([len(example) for example in examples]),
            "cut": torch.tensor(cut),
        }

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """`logits` and `full_logits`: of each document at each step of the true order, [lists, steps, docs]."""
        at, counts = inputs.pop("at"), inputs.pop("counts").tolist()
        del inputs["written"], inputs["token_mask"]
        tokens, states = self.states(**inputs)
        lists = pad_sequence(list(torch.split(tokens, counts)), batch_first=True)  # [lists, docs, dim]
        with torch.autocast(states.device.type, enabled=False):  # as it ranks: products in float32
            logits = states[at].float() @ torch.cat([lists, lists]).float().mT
        alone, full = torch.split(logits, len(counts))
        return {"logits": alone, "full_logits": full}

    def states(self, *, ids: Tensor, vectors: Tensor, **rows: Tensor) -> tuple[Tensor, Tensor]:
        """The passages' tokens [passages, dim], and the last hidden states of a row [tokens, dim]."""
        model = self.core
        table = Vectors(model.get_input_embeddings())
        tokens = as_tokens(model.base_model.projector, vectors).to(model.dtype)
        table.extra = tokens
        return tokens, row_states(model, ids, **rows, packed=not self.why_padded, embed=table)

    def number(self, vector: int) -> int:
        """What a vector of the batch is called: it stands behind the vocabulary."""
        return int(self.core.get_input_embeddings().num_embeddings) + vector

    def placed(self, ids: Sequence[int], start: int) -> list[int]:
        """A prompt whose placeholders are the vectors of the batch from `start` on, in their order."""
        numbers = iter(range(self.number(start), self.number(start) + len(ids)))
        return [next(numbers) if token == self.placeholder else token for token in ids]

    def save(self, folder: str | Path, state: dict[str, Tensor] | None = None) -> None:
        """In the layout of the method's own code; adapters as peft does."""
        super().save(folder, state)
        if not self.adapted:
            rewritten(folder, written_as(self.config, self.encoder))

    def restore(self, folder: str | Path) -> None:
        """Take over the weights that `save` wrote."""
        if self.adapted:
            super().restore(folder)
            return
        read = self.core.load_state_dict(tensors(folder, ""), strict=False)
        assert not read.unexpected_keys
        assert set(read.missing_keys) <= {"lm_head.weight"}  # which is not stored where it is the embeddings' table

    def finish(self, folder: str | Path) -> None:
        """Write what users load."""
        settings = written_as(self.config, self.encoder)
        super().finish(folder)
        rewritten(folder, settings)


def _beside_projector(model: Any, lora: Lora | None) -> Lora | None:
    """Adapters for the linear layers of the language model; the projector is trained whole."""
    if lora is None or lora.targets != ("all-linear",):
        return lora
    layers = model.base_model.layers.named_modules()
    names = {name.rpartition(".")[2] for name, module in layers if isinstance(module, nn.Linear)}
    return replace(lora, targets=tuple(sorted(names)))
