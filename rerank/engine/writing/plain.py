"""Writing text with a model that is not packed: transformers' own `generate`, one text after the other.

Which token comes next, and where a text ends, is decided as for packed models: generation asks a processor of ours,
which leaves it one token, and a criterion of ours, which says stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.engine.decoders.plan import Ids
from rerank.engine.plain import Counting, PlainLM
from rerank.engine.writing.choosing import picked
from rerank.engine.writing.requests import Generated, GenerationCost, Outcome, Request, Written, check
from rerank.engine.writing.stopping import Decoder, ends_of
from rerank.engine.writing.text import Draft
from rerank.errors import InputError, JudgeError

__all__ = ["PlainWriter"]


class PlainWriter:
    """A causal model of any architecture that writes.

    Args:
        engine: which runs the model. The model's own generation settings are put aside: a request says everything.
        tokenizer: of the checkpoint, to decode with.
    """

    def __init__(self, engine: PlainLM, tokenizer: Any = None) -> None:
        from transformers import GenerationConfig

        self.engine, self.tokenizer = engine, tokenizer
        self._ends = ends_of(engine.model)
        engine.model.generation_config = GenerationConfig()

    def write(self, requests: Sequence[Request]) -> Generated:
        """Write texts, in the order given; errors as of `rerank.engine.generation.Writer.write`."""
        limits = self.engine.limits
        if self.engine.labels:
            raise InputError(f"this {limits.name} has no head over the vocabulary, and writes nothing")
        paths = limits.paths([request.prompt for request in requests], "prompt of request")
        for index, (request, path) in enumerate(zip(requests, paths, strict=True)):
            check(index, request, path, limits, limits.context, decodes=self.tokenizer is not None)
        cost = GenerationCost()
        texts = [
            self._written(index, request, path, cost)
            for index, (request, path) in enumerate(zip(requests, paths, strict=True))
        ]
        return Generated(texts, cost)

    @torch.no_grad()
    def _written(self, index: int, request: Request, path: Sequence[Ids], cost: GenerationCost) -> Outcome:
        from transformers import GenerationConfig

        ids = torch.tensor([[token for segment in path for token in segment]], device=self.engine.model.device)
        writing = _Writing(self.engine, self._draft(index, request), cost)
        settings = GenerationConfig(max_new_tokens=request.max_tokens, do_sample=False, use_cache=True)
        counted = Counting()
        try:
            with counted:
                self.engine.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=settings,
                    logits_processor=[writing.choose],
                    stopping_criteria=[writing.stop],
                )
        except (InputError, JudgeError) as error:
            return error
        finally:
            cost.flops += counted.flops
            cost.prefill += ids.shape[1]
            cost.tokens += ids.shape[1] + max(writing.steps - 1, 0)
            cost.steps += max(writing.steps - 1, 0)
            cost.calls += writing.steps
        assert writing.text is not None
        return writing.text

    def _draft(self, index: int, request: Request) -> Draft:
        return Draft(
            index=index,
            request=request,
            ends=self._ends if request.stop_ids is None else frozenset(request.stop_ids),
            decoder=Decoder(self.tokenizer, request.stop) if self.tokenizer is not None else None,
            random=np.random.default_rng([request.seed, request.draw]),
        )


class _Writing:
    """A text while transformers writes it."""

    def __init__(self, engine: PlainLM, draft: Draft, cost: GenerationCost) -> None:
        self.text: Written | None = None
        self.steps = 0
        self._engine, self._draft, self._cost = engine, draft, cost

    def choose(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Leave the token that comes next: [1, vocab] -> [1, vocab]."""
        self.steps += 1
        allowed = self._draft.allowed(self._engine.limits)
        shown = logits.float() if allowed is None else logits[:, list(allowed)].float()
        [index] = picked([self._draft], shown)
        if isinstance(index, JudgeError):
            raise index
        token = index if allowed is None else allowed[index]
        self._cost.generated += 1
        self.text = self._draft.add(token)
        left = torch.full_like(logits, float("-inf"))
        left[0, token] = 0
        return left

    def stop(self, ids: Tensor, logits: Any, **_: Any) -> Tensor:
        """Whether the text has ended: [1]."""
        return torch.tensor([self.text is not None], device=ids.device)
