"""What a causal model is asked, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rerank.engine.decoders.plan import Ids
from rerank.errors import InputError

__all__ = ["Keep", "Limits", "Prompt", "Targets"]

Prompt: TypeAlias = Sequence[Sequence[int]]
"""A prompt's segments, in order: token ids each."""

Keep: TypeAlias = int | Sequence[int]
"""How many of a prompt's first segments stay for later calls: one number for all prompts, or one each."""

Targets: TypeAlias = Sequence[int] | Sequence[Sequence[int]]
"""Token ids for all prompts, or for each its own."""


@dataclass(frozen=True)
class Limits:
    """What a model can read.

    Args:
        name: of the model, for messages.
        vocab: its tokens are 0 … vocab − 1.
        context: the most tokens of a prompt.
    """

    name: str
    vocab: int
    context: int

    def paths(self, prompts: Sequence[Prompt], what: str = "prompt") -> list[list[Ids]]:
        """The segments that are not empty.

        Raises:
            InputError: when a prompt has no tokens, or one that is not in the vocabulary.
        """
        paths = [[tuple(segment) for segment in prompt if len(segment)] for prompt in prompts]
        for index, path in enumerate(paths):
            if not path:
                raise InputError(f"{what} {index} has no tokens")
            for segment in path:
                self.check_ids(f"{what} {index}", segment)
        return paths

    def check_ids(self, what: str, ids: Sequence[int]) -> None:
        """Refuse tokens that are not in the vocabulary, and none at all."""
        if not len(ids):
            raise InputError(f"{what}: there are none")
        for token in (min(ids), max(ids)):
            if not 0 <= token < self.vocab:
                raise InputError(f"{what}: there is no token {token} in a vocabulary of {self.vocab}")

    def check_lengths(self, paths: Sequence[Sequence[Ids]]) -> None:
        """Refuse prompts that are longer than the model's context."""
        for index, path in enumerate(paths):
            if (length := sum(map(len, path))) > self.context:
                raise InputError(
                    f"prompt {index} has {length} tokens, and the context of this {self.name} is {self.context}; "
                    "shorten its documents or ask about fewer at once"
                )

    def targets(self, targets: Targets, prompts: int) -> list[Ids]:
        """Each prompt's target tokens."""
        each = [tuple(own) for own in targets if isinstance(own, Sequence)]
        shared = tuple(token for token in targets if not isinstance(token, Sequence))
        if shared or not each:
            self.check_ids("targets", shared)
            return [shared] * prompts
        if len(each) != prompts:
            raise InputError(f"there are {len(each)} lists of targets for {prompts} prompts")
        for index, ids in enumerate(each):
            self.check_ids(f"targets of prompt {index}", ids)
        return each


def kept(keep: Keep, paths: Sequence[Sequence[Ids]]) -> list[int]:
    """How many segments of each path stay."""
    each = [keep] * len(paths) if isinstance(keep, int) else list(keep)
    if len(each) != len(paths) or min(each, default=0) < 0:
        raise InputError(f"keep={keep}: say one number for all {len(paths)} prompts, or one each, none below 0")
    return [min(count, len(path)) for count, path in zip(each, paths, strict=True)]
