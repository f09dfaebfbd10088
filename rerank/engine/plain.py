"""Causal language models of any architecture, run as transformers has them: one prompt at a time, nothing shared.

For what `causal.CausalLM` cannot run over packed rows: linear attention, experts, rotary embeddings that change with a
prompt's length, quantised layers. It is slower, and it answers alike: the same calls, the same checks, and the same
bits whatever the neighbours, because a prompt never has any.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rerank.engine.decoders.answers import Likelihoods, Scored, finite
from rerank.engine.decoders.families import context_limit, vocabulary
from rerank.engine.decoders.prompts import Limits, Prompt, Targets
from rerank.engine.decoders.run import Cost
from rerank.errors import CheckpointError

__all__ = ["Counting", "PlainLM", "Tally"]

BUDGETS = {"cpu": 2048, "cuda": 16_384}
"""Tokens that judges ask about at once; every prompt is a pass of its own all the same."""


@dataclass
class Tally:
    """What was executed so far."""

    tokens: int = 0
    flops: int = 0
    calls: int = 0

    @property
    def cost(self) -> Cost:
        """As the packed engine says it: nothing is shared, nothing is filled up."""
        return Cost(self.tokens, 0, 0, 0, self.flops, self.calls)


class PlainLM:
    """A causal model of transformers that scores prompts by its own forward. For one thread at a time.

    Args:
        model: a `…ForCausalLM`, a `…ForConditionalGeneration` whose text alone is read, or a
            `…ForSequenceClassification`, in evaluation mode, on its device. Its padding token is taken away: a prompt
            may end with it.
        why: why it is not packed, for the ledger.

    Attributes:
        limits: what the model can read.
        labels: whether it has a score head, and none over the vocabulary.

    Raises:
        CheckpointError: when the model is in training mode.
    """

    def __init__(self, model: Any, *, why: str) -> None:
        if model.training:
            raise CheckpointError(f"this {type(model).__name__} is in training mode; call .eval()")
        self.model, self.why = model, why
        self.budget = BUDGETS.get(model.device.type, BUDGETS["cpu"])
        self.limits = Limits(type(model).__name__, vocabulary(model.config), context_limit(model.config))
        self.labels = hasattr(model, "score")
        if self.labels:
            model.config.get_text_config().pad_token_id = None  # else the head reads what stands in front of it
        self._cuts = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"not packed: {self.why}"

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], targets: Targets) -> Scored:
        """The logits of target tokens behind each prompt; args and errors as of `CausalLM.score`."""
        wanted = self.limits.targets(targets, len(prompts))
        logits = torch.full((len(prompts), max(map(len, wanted), default=0)), float("-inf"))
        tally = Tally()
        for index, (ids, own) in enumerate(zip(self._flat(prompts), wanted, strict=True)):
            last = self.logits(ids, 1, tally)
            logits[index, : len(own)] = finite(last[:, list(own)].cpu(), [index])[0]
        return Scored(logits, tally.cost)

    @torch.no_grad()
    def classify(self, prompts: Sequence[Prompt]) -> Scored:
        """What the model's own score head says of each prompt's last token; as of `CausalLM.classify`."""
        if not self.labels:
            raise CheckpointError(f"this {self.limits.name} has no score head; ask it for the logits of target tokens")
        tally = Tally()
        rows = [self._run(ids, tally) for ids in self._flat(prompts)]
        logits = torch.cat(rows).float().cpu() if rows else torch.empty(0, self.model.config.num_labels)
        return Scored(finite(logits, range(len(rows))), tally.cost)

    @torch.no_grad()
    def likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[int]]) -> Likelihoods:
        """How likely each continuation is behind its prompt; args and errors as of `CausalLM.likelihood`."""
        paths = self.limits.paths([[ids] for ids in continuations], "continuation")
        tally, found = Tally(), []
        for index, (ids, [[*said]]) in enumerate(zip(self._flat(prompts), paths, strict=True)):
            whole = [*ids, *said[:-1]]
            self.limits.check_lengths([[tuple(whole)]])
            log_probs = self.logits(whole, len(said), tally).log_softmax(-1)
            chosen = log_probs.gather(-1, torch.tensor(said, device=log_probs.device)[:, None])[:, 0]
            found.append(finite(chosen.cpu(), [index] * len(said)))
        return Likelihoods(found, tally.cost)

    def logits(self, ids: Sequence[int], last: int, tally: Tally) -> Tensor:
        """Of the last so many tokens, over the vocabulary: float32 [last, vocab] on the device.

        Raises:
            CheckpointError: when the model has a score head instead.
        """
        if self.labels:
            raise CheckpointError(f"this {self.limits.name} has no head over the vocabulary; ask it to classify")
        cut = {"logits_to_keep": last} if self._cuts else {}
        return self._run(ids, tally, **cut)[0, -last:].float()

    def _run(self, ids: Sequence[int], tally: Tally, **options: Any) -> Tensor:
        """Run the model once, and count what it did."""
        row = torch.tensor([list(ids)], dtype=torch.int64, device=self.model.device)
        with Counting() as counted:
            logits: Tensor = self.model(row, use_cache=False, **options).logits
        tally.tokens += len(ids)
        tally.calls += 1
        tally.flops += counted.flops
        return logits

    def _flat(self, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
        """Each prompt as one row of tokens, checked before any of them is read."""
        paths = self.limits.paths(prompts)
        self.limits.check_lengths(paths)
        return ([token for segment in path for token in segment] for path in paths)


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the floating-point operations of matrix products that torch executes in the block, on this thread.

    Attributes:
        flops: so far, by the formulas of torch's own counter; attention is the whole rectangle, as there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it."""
        output = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:  # which torch's counter leaves out
            packet = torch.ops.aten._scaled_dot_product_flash_attention
        if "grouped_mm" in func.name():  # experts: each row of the first operand meets one of their matrices
            self.flops += 2 * output.numel() * args[0].shape[-1]
        elif (formula := flop_registry.get(packet)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=output)
        return output
