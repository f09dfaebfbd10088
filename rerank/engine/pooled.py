"""Encoder-decoders of Gemmas whose decoder reads a passage as means of neighbouring states (KaLM-Reranker-V1).

The encoder reads the passage and nothing else, so that what it makes of one is kept, for every query to come. `chunk`
neighbouring states become their mean; the decoder reads the query and attends to these means. transformers' own layers
are run, nothing is packed: on the CPU one text at a time, so that no bit depends on a neighbour; elsewhere rectangles
of texts of similar lengths.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from rerank.engine import packing
from rerank.engine.decoders.answers import Scored, finite
from rerank.engine.decoders.run import Cost
from rerank.engine.kept import Kept, KeptTensors
from rerank.engine.plain import Counting

__all__ = ["PooledPassages"]

BUDGETS = {"cpu": 2048, "cuda": 16_384}


class PooledPassages:
    """A `T5Gemma2ForConditionalGeneration`, of which texts alone are read. For one thread at a time.

    Args:
        model: in evaluation mode, on its device.
        chunk: how many neighbouring states of a passage become one, the last of it perhaps fewer; 1 leaves them be.
        kept: where what was made of passages is kept from call to call.

    Attributes:
        longest: tokens that encoder and decoder can read each.
        budget: the most tokens of a rectangle, padding included.
    """

    def __init__(self, model: Any, *, chunk: int, kept: KeptTensors) -> None:
        self.model, self.chunk, self.kept = model, chunk, kept
        self.device: torch.device = model.device
        self.budget = BUDGETS.get(self.device.type, BUDGETS["cpu"])
        decoder = model.config.decoder
        self.longest = int(
            min(model.config.encoder.text_config.max_position_embeddings, decoder.max_position_embeddings)
        )
        self._cap: float | None = decoder.final_logit_softcapping
        self._alone = self.device.type == "cpu"

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        how = "one text at a time" if self._alone else "texts of similar lengths padded"
        return f"not packed: {how}, {self.chunk} passage states in one, kept for other queries"

    @torch.inference_mode()
    def score(
        self, passages: Sequence[Sequence[int]], asked: Sequence[Sequence[int]], targets: Sequence[int]
    ) -> Scored:
        """Logits of the next token behind what is asked of each passage.

        Args:
            passages: what the encoder reads; a passage that is there twice, or was in an earlier call, is read once.
            asked: what the decoder reads of each.
            targets: ids whose logits are wanted.

        Raises:
            JudgeError: when the model gives NaN or an infinity.
        """
        work = _Work()
        states = self._passages([array("q", ids).tobytes() for ids in passages], passages, work)
        head = self.model.lm_head.out_proj.weight[list(targets)].float()
        logits = torch.empty(len(asked), len(targets))
        for part in self._parts([len(ids) + len(state) for ids, state in zip(asked, states, strict=True)]):
            hidden = self._decoded([states[index] for index in part], [asked[index] for index in part], work)
            work.flops += 2 * len(part) * head.numel()
            logits[part] = finite(self._capped(hidden.float() @ head.T).cpu(), part)
        return Scored(logits, work.cost)

    def _passages(self, keys: Sequence[bytes], passages: Sequence[Sequence[int]], work: _Work) -> list[Tensor]:
        """The pooled states of each: [chunks, dim]."""
        recalled = dict(zip(keys, self.kept.recall(keys), strict=True))
        found = {key: kept.tensor for key, kept in recalled.items() if kept is not None}
        texts = dict(zip(keys, passages, strict=True))
        missing = [key for key in texts if key not in found]
        for part in self._parts([len(texts[key]) for key in missing]):
            batch = [missing[index] for index in part]
            pooled = self._encoded([texts[key] for key in batch], work)
            made = dict(zip(batch, pooled, strict=True))
            self.kept.keep({key: Kept(state, len(texts[key])) for key, state in made.items()})
            found.update(made)
        work.reused += sum(map(len, passages)) - sum(len(texts[key]) for key in missing)
        return [found[key] for key in keys]

    def _parts(self, lengths: Sequence[int]) -> list[list[int]]:
        if self._alone:
            return [[index] for index in range(len(lengths))]
        return packing.by_length(lengths, self.budget)

    def _encoded(self, texts: Sequence[Sequence[int]], work: _Work) -> list[Tensor]:
        ids, mask = self._rectangle(texts)
        with Counting() as counted:
            states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        work.add(sum(map(len, texts)), ids.numel(), counted.flops)
        return [self._pooled(row[: len(text)]) for row, text in zip(states, texts, strict=True)]

    def _pooled(self, states: Tensor) -> Tensor:
        """[tokens, dim] -> [chunks, dim]; the last chunk is the mean of what is left."""
        filled = pad(states, (0, 0, 0, -len(states) % self.chunk)).view(-1, self.chunk, states.shape[-1])
        counts = torch.full((len(filled), 1), self.chunk, device=states.device)
        counts[-1] -= filled.shape[0] * self.chunk - len(states)
        return filled.sum(1) / counts.to(states.dtype)

    def _decoded(self, states: Sequence[Tensor], texts: Sequence[Sequence[int]], work: _Work) -> Tensor:
        """The decoder's state at each text's last token: [texts, dim]."""
        ids, mask = self._rectangle(texts)
        memory = pad_sequence(list(states), batch_first=True)
        seen = torch.tensor([len(state) for state in states], device=self.device)[:, None]
        with Counting() as counted:
            hidden = self.model.get_decoder()(
                input_ids=ids,
                attention_mask=mask,
                encoder_hidden_states=memory,
                encoder_attention_mask=(torch.arange(memory.shape[1], device=self.device) < seen).long(),
                use_cache=False,
            ).last_hidden_state
        work.add(sum(map(len, texts)), ids.numel(), counted.flops)
        last: Tensor = hidden[torch.arange(len(texts)), [len(text) - 1 for text in texts]]
        return last

    def _rectangle(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask, [texts, longest], filled up on the right."""
        rows = [torch.tensor(list(text), dtype=torch.int64) for text in texts]
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return pad_sequence(rows, batch_first=True).to(self.device), mask.to(self.device)

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)


class _Work:
    """What was executed so far."""

    def __init__(self) -> None:
        self.tokens = self.padded = self.reused = self.flops = self.calls = 0

    def add(self, tokens: int, rows: int, flops: int) -> None:
        """One more pass."""
        self.tokens += tokens
        self.padded += rows - tokens
        self.flops += flops
        self.calls += 1

    @property
    def cost(self) -> Cost:
        """As the causal engine says it."""
        return Cost(self.tokens, self.reused, 0, self.padded, self.flops, self.calls)
