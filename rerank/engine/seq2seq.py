"""T5 and its kin, run for ranking: many texts encoded in one row, one decoder step, a few rows of the output head.

Two ways of running a model, chosen by its device:

- `packed` (CPU): texts of a batch in one row without padding (`t5_encoder`), the decoder over `HEAD_ROWS` rows at a
  time, each of which attends to its own states. In float32 the bits of a score do not depend on its batch, its order,
  its neighbours, or on one or two threads.
- `padded` (CUDA): transformers' own encoder over a rectangle of texts.

Both fold the decoder's cross-attention into its queries (`t5_decoder`), and the output head is float32 in both.
Fusion-in-decoder is the same thing with several texts under one decoder row: the states of a group follow each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rerank.engine.encoder import HEAD_ROWS
from rerank.engine.t5_decoder import FoldedDecoder, PaddedMemory, Past, RaggedMemory
from rerank.engine.t5_encoder import PackedEncoder, PaddedEncoder, Work, rectangle
from rerank.engine.t5_model import check_t5, head_scale, quicken
from rerank.errors import CheckpointError, InputError, JudgeError

__all__ = ["EncoderDecoder", "Scored", "Written"]

Groups = Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Scored:
    """What one decoder step gave.

    Attributes:
        logits: raw, float32 [texts or groups, targets], on the CPU.
        tokens: encoder tokens of the texts.
        padded: encoder rows that were computed for nothing.
        flops: floating-point operations that were executed, two for each multiply-add.
    """

    logits: Tensor
    tokens: int
    padded: int
    flops: int


@dataclass(frozen=True)
class Written:
    """What the decoder wrote.

    Attributes:
        texts: the ids written for each group, after the prefix; the last is an end token if `max_tokens` was enough.
        tokens, padded, flops: as in `Scored`.
    """

    texts: list[list[int]]
    tokens: int
    padded: int
    flops: int

    @property
    def generated(self) -> int:
        """Tokens written, end tokens included."""
        return sum(len(text) for text in self.texts)


class EncoderDecoder:
    """A T5, mT5, Flan-T5 or UMT5 that scores and writes.

    Args:
        model: a transformers `…ForConditionalGeneration` in evaluation mode, on its device.
        mode: `packed` or `padded`; by default chosen by the device.

    Raises:
        CheckpointError: when the model is of another family, in float16, in training, or its layers are not plain; or
            when it scores two texts otherwise than its own forward does, which is tried at load.
    """

    def __init__(self, model: Any, *, mode: str | None = None) -> None:
        check_t5(model)
        self.model = model
        self.device: torch.device = model.device
        self.mode = mode or ("packed" if self.device.type == "cpu" else "padded")
        probes = [[5, 6, 7, 8, 9], [9, 8, 7]]
        expected = self._stock(probes)
        quicken(model)
        self._encoder = PackedEncoder(model) if self.packs else PaddedEncoder(model)
        self._decoder = FoldedDecoder(model, fused=self._encoder.fused)
        self._scale = head_scale(model.config)
        self._compare(self.score(probes, range(10), prefix=[0]).logits, expected)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"{self.mode}, fused linear layers" if self._encoder.fused else self.mode

    @property
    def packs(self) -> bool:
        """True when a batch costs what its tokens cost, whatever their lengths."""
        return self.mode == "packed"

    def score(
        self, texts: Sequence[Sequence[int]], targets: Sequence[int], *, prefix: Sequence[int] | None = None
    ) -> Scored:
        """Logits of the next token after a decoder prefix, for each text.

        Args:
            texts: encoder ids of each, end token included where the template wants one.
            targets: ids whose logits are wanted, for instance those of "true" and "false".
            prefix: decoder ids read before, the start token first; by default the start token alone.

        Raises:
            InputError: when a text is empty or an id is not in the vocabulary.
        """
        return self.score_groups([[text] for text in texts], targets, prefix=prefix)

    @torch.inference_mode()
    def score_groups(self, groups: Groups, targets: Sequence[int], *, prefix: Sequence[int] | None = None) -> Scored:
        """The same where one decoder reads a whole group of texts, each encoded on its own (fusion in decoder)."""
        prefix = self._prefix(prefix)
        self._check_ids("targets", targets)
        work = Work()
        states = self._encode(groups, work)
        head = self._head(targets)
        logits = [torch.empty(0, len(targets), device=self.device)]
        for part in self._parts(states):
            memory, rows = self._memory(part)
            hidden = self._decoder.after(prefix, rows, memory, work)
            logits.append(self._read(hidden, head, work)[: len(part)])
        tokens = sum(len(state) for state in states)
        return Scored(torch.cat(logits).cpu(), tokens, work.rows - tokens, work.flops)

    @torch.inference_mode()
    def generate(
        self,
        groups: Groups,
        *,
        max_tokens: int,
        allowed: Sequence[int] | None = None,
        prefix: Sequence[int] | None = None,
    ) -> Written:
        """Write the most likely token after the other, until an end token, for each group of texts.

        Args:
            groups: encoder ids of the texts under each decoder; a group of one text is a plain T5.
            max_tokens: the most to write, at least 1; meant for up to about 100.
            allowed: the only ids that may be written, an end token among them if the text shall end; all by default.
            prefix: decoder ids read before, the start token first; by default the start token alone.

        Raises:
            InputError: when a text is empty, an id is not in the vocabulary, or nothing may be written.
            JudgeError: when the model gives NaN or an infinity.
        """
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens} leaves nothing to write; choose at least 1")
        choices = self._choices(allowed)
        prefix = self._prefix(prefix)
        work = Work()
        states = self._encode(groups, work)
        head = self._head(choices)
        texts: list[list[int]] = []
        for part in self._parts(states):
            texts += self._write(part, head, choices, prefix, max_tokens, work)
        tokens = sum(len(state) for state in states)
        return Written(texts, tokens, work.rows - tokens, work.flops)

    # -- encoder ---------------------------------------------------------------------------------------------------

    def _encode(self, groups: Groups, work: Work) -> list[Tensor]:
        """The states of each group: [tokens, dim]."""
        texts = [text for group in groups for text in group]
        if not texts:
            return []
        if not all(groups):
            raise InputError(f"group {[*map(len, groups)].index(0)} has no texts; leave it out")
        for index, text in enumerate(texts):
            if not text:
                raise InputError(f"text {index} has no tokens; its template should give at least one")
        self._check_ids("texts", [*itertools.chain.from_iterable(texts)])
        hidden = self._encoder.encode(texts, work)
        return list(torch.split(hidden, [sum(map(len, group)) for group in groups]))

    # -- decoder ---------------------------------------------------------------------------------------------------

    def _parts(self, states: list[Tensor]) -> Iterator[list[Tensor]]:
        """Groups that one pass of the decoder serves."""
        size = HEAD_ROWS if self.packs else max(1, len(states))
        for start in range(0, len(states), size):
            yield states[start : start + size]

    def _memory(self, states: Sequence[Tensor]) -> tuple[RaggedMemory | PaddedMemory, int]:
        """What a part of the groups attends to, and the rows that the decoder computes for it."""
        return (RaggedMemory(states), HEAD_ROWS) if self.packs else (PaddedMemory(states), len(states))

    def _write(
        self, states: Sequence[Tensor], head: Tensor, choices: Tensor, prefix: list[int], limit: int, work: Work
    ) -> list[list[int]]:
        memory, rows = self._memory(states)
        past: Past = []
        texts: list[list[int]] = [[] for _ in states]
        live = set(range(len(states)))
        ids = torch.tensor([prefix] * rows, device=self.device)
        for _ in range(limit):
            best, place = self._read(self._decoder.step(ids, memory, past, work), head, work).max(-1)
            if not best[sorted(live)].isfinite().all():
                raise JudgeError(
                    f"{type(self.model).__name__} gave a logit that is no finite number; try dtype='float32'"
                )
            ids = choices[place][:, None]  # [rows, 1]
            written = ids[:, 0].tolist()
            for row in sorted(live):
                texts[row].append(written[row])
                if written[row] in self._ends():
                    live.remove(row)
                    memory.forget(row)
            if not live:
                break
        return texts

    def _choices(self, allowed: Sequence[int] | None) -> Tensor:
        """The ids that may be written, ascending, so that a tie goes to the lowest."""
        ids = range(self.model.lm_head.out_features) if allowed is None else sorted(set(allowed))
        if not ids:
            raise InputError("allowed=[] lets nothing be written; name at least one id, or None for all")
        self._check_ids("allowed", ids)
        return torch.tensor(ids, device=self.device)

    def _head(self, targets: Sequence[int] | Tensor) -> Tensor:
        """The rows of the output head that are wanted: float32 [targets, dim]."""
        weight: Tensor = self.model.lm_head.weight[torch.as_tensor(targets, device=self.device)]
        return weight.float()

    def _read(self, hidden: Tensor, head: Tensor, work: Work) -> Tensor:
        work.flops += 2 * len(hidden) * head.numel()
        return nn.functional.linear(hidden.float() * self._scale, head)

    def _ends(self) -> set[int]:
        end = self.model.config.eos_token_id
        return set(end) if isinstance(end, list) else {end}

    def _prefix(self, prefix: Sequence[int] | None) -> list[int]:
        start: int | None = getattr(self.model.config, "decoder_start_token_id", None)
        if prefix is None:
            if start is None:
                raise InputError("this checkpoint names no decoder_start_token_id; give the decoder's prefix")
            prefix = [start]
        ids = list(prefix)
        if not ids:
            raise InputError("prefix=[] gives the decoder nothing to read; it begins with the start token")
        self._check_ids("prefix", ids)
        return ids

    def _check_ids(self, name: str, ids: Sequence[int]) -> None:
        size = self.model.shared.num_embeddings
        for token in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token < size:
                raise InputError(
                    f"{name}: there is no token {token} in a vocabulary of {size}; do they belong together?"
                )

    # -- at load ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _stock(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Logits of the first ten ids after id 0, from the model's own forward."""
        start = torch.zeros(len(texts), 1, dtype=torch.long, device=self.device)
        ids, mask = rectangle(texts, self.device)
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, decoder_input_ids=start).logits
        return logits[:, -1, :10].float().cpu()

    def _compare(self, got: Tensor, expected: Tensor) -> None:
        exact = self.model.dtype == torch.float32
        size = float(expected.abs().max())
        if not float((got - expected).abs().max()) <= (1e-3 if exact else 1e-1) * max(1.0, size):  # NaN is not either
            raise CheckpointError(
                f"the folded decoder changes the scores of this {type(self.model).__name__} "
                f"({got[0, :3].tolist()} for {expected[0, :3].tolist()}); "
                "please report it with the version of transformers"
            )
