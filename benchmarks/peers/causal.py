"""Causal language models through transformers: what a careful user writes. Scores are logit(yes) − logit(no)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest import Scores, Setting

__all__ = ["Prompt", "generate", "load", "one_by_one", "padded", "shared_prefix", "targets_of"]

Prompt = tuple[tuple[int, ...], ...]
"""Its segments, token ids each."""

Work = Sequence[Prompt]
Way = Callable[[Work, int], Scores]


def targets_of(count: int) -> list[int]:
    """Ids that stand for the answers: which they are changes nothing."""
    return list(range(100, 100 + count))


def load(folder: Path, setting: Setting, *, dtype: str | None = None) -> Any:
    """The model, in evaluation mode, with SDPA."""
    from transformers import AutoModelForCausalLM

    wanted = getattr(torch, dtype or setting.dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted, attn_implementation="sdpa")
    return model.eval().to(setting.device)


def one_by_one(folder: Path, setting: Setting, targets: int = 2, *, dtype: str | None = None) -> Callable[[], Way]:
    """A loop: one prompt a forward pass, logits of its last position alone."""

    def make() -> Way:
        model = load(folder, setting, dtype=dtype)
        ids = targets_of(targets)

        def run(work: Work, batch_size: int) -> Scores:
            with torch.inference_mode():
                rows = [model(_row(prompt, model), logits_to_keep=1).logits[0, -1, ids].float() for prompt in work]
            return _scores(torch.stack(rows))

        return run

    return make


def padded(folder: Path, setting: Setting, targets: int = 2) -> Callable[[], Way]:
    """Batches sorted by length, padded on the left, logits of the last position alone."""

    def make() -> Way:
        model = load(folder, setting)
        ids = targets_of(targets)

        def run(work: Work, batch_size: int) -> Scores:
            rows = torch.empty(len(work), targets)
            order = sorted(range(len(work)), key=lambda index: -sum(map(len, work[index])))
            with torch.inference_mode():
                for start in range(0, len(order), batch_size):
                    batch = order[start : start + batch_size]
                    inputs = _rectangle([_flat(work[index]) for index in batch], model)
                    rows[batch] = model(**inputs, logits_to_keep=1).logits[:, -1, ids].float().cpu()
            return _scores(rows)

        return run

    return make


def shared_prefix(folder: Path, setting: Setting, targets: int = 2) -> Callable[[], Way]:
    """The first segment once into a `DynamicCache`, which is repeated for batches of what follows it."""

    def make() -> Way:
        from transformers import DynamicCache

        model = load(folder, setting)
        ids = targets_of(targets)

        def run(work: Work, batch_size: int) -> Scores:
            rows: list[torch.Tensor] = []
            with torch.inference_mode():
                for first, prompts in groupby(work, key=lambda prompt: prompt[0]):
                    cache = DynamicCache(config=model.config)
                    model(_row((first,), model), past_key_values=cache, logits_to_keep=1)
                    rows += _behind(model, cache, first, [_flat(prompt[1:]) for prompt in prompts], batch_size, ids)
            return _scores(torch.stack(rows))

        return run

    return make


def generate(folder: Path, setting: Setting, targets: int, written: int) -> Callable[[], Way]:
    """RankGPT's loop: one prompt, so many tokens are written; the scores are those of the first one's logits."""

    def make() -> Way:
        model = load(folder, setting)
        ids = targets_of(targets)

        def run(work: Work, batch_size: int) -> Scores:
            rows = []
            for prompt in work:
                out = model.generate(
                    _row(prompt, model),
                    attention_mask=torch.ones_like(_row(prompt, model)),
                    min_new_tokens=written,
                    max_new_tokens=written,
                    do_sample=False,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
                rows.append(out.logits[0][0, ids].float())
            return _scores(torch.stack(rows))

        return run

    return make


def _behind(model: Any, cache: Any, first: Sequence[int], rest: list[list[int]], size: int, ids: list[int]) -> Any:
    """Logits behind a cached beginning, in the order given: rows [targets]."""
    import copy

    rows: list[torch.Tensor] = [torch.empty(0)] * len(rest)
    order = sorted(range(len(rest)), key=lambda index: -len(rest[index]))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        longest = max(len(rest[index]) for index in batch)
        # padded on the right: the cached beginning lies on the left of every row
        rows_filled = [rest[index] + [0] * (longest - len(rest[index])) for index in batch]
        rows_seen = [[1] * (len(first) + len(rest[index])) + [0] * (longest - len(rest[index])) for index in batch]
        filled, mask = (torch.tensor(each, device=model.device) for each in (rows_filled, rows_seen))
        own = copy.deepcopy(cache)
        own.batch_repeat_interleave(len(batch))
        hidden = model.base_model(filled, attention_mask=mask, past_key_values=own).last_hidden_state
        ends = torch.tensor([len(rest[index]) - 1 for index in batch], device=model.device)
        logits = model.lm_head(hidden[torch.arange(len(batch), device=model.device), ends])[:, ids].float()
        for place, index in enumerate(batch):
            rows[index] = logits[place]
    return rows


def _scores(rows: torch.Tensor) -> Scores:
    """Of two targets their difference; of more, each of them: [prompts, targets] -> a flat list."""
    rows = rows.float().cpu()
    return (rows[:, 0] - rows[:, 1]).tolist() if rows.shape[1] == 2 else rows.flatten().tolist()


def _flat(prompt: Sequence[Sequence[int]]) -> list[int]:
    return [token for segment in prompt for token in segment]


def _row(prompt: Sequence[Sequence[int]], model: Any) -> torch.Tensor:
    return torch.tensor([_flat(prompt)], device=model.device)


def _rectangle(rows: list[list[int]], model: Any) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    return {
        "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=model.device),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
    }
