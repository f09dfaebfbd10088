"""What is learnt from texts: answers that are given (fine-tuning), or one's own and what they are worth (GRPO)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rerank.errors import InputError
from rerank.registry import unknown
from training.rewards import REWARDS

__all__ = ["Completions", "Rollouts"]

AVERAGES = ("grpo", "bnpo", "dr_grpo", "dapo")
SCALES = ("group", "batch", "none")


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Supervised fine-tuning on what a teacher wrote.

    Args:
        agreement: leave out lists whose order has an nDCG@10 below this against their labels; they are counted. None
            takes all. ReasonRank takes 0.4 (https://arxiv.org/abs/2508.07050).

    Raises:
        InputError: when it is out of range.
    """

    agreement: float | None = None

    def __post_init__(self) -> None:
        if self.agreement is not None and not 0 <= self.agreement <= 1:
            raise InputError(f"agreement={self.agreement}; it is an nDCG, from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """GRPO (https://arxiv.org/abs/2402.03300): answers to one prompt are compared by what they are worth.

    Args:
        reward: a name in `training.rewards.REWARDS`.
        weights: of its parts, where they are not the usual ones.
        rollouts: answers to each prompt.
        temperature, top_p: how they are drawn.
        kl: β, of the distance to the model at the start; 0 leaves it out.
        clip: ε, how far a token's probability may move in a step.
        average: "grpo" is the mean over answers, the others are over tokens; as trl's `loss_type`.
        scale: advantages are divided by the standard deviation of rewards in a "group", in a "batch", or not ("none").
        drop_cut: learn nothing from answers that were cut off.

    Raises:
        UnknownName: when there is no such reward, part, average or scale.
        InputError: when a number is out of range.
    """

    reward: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    rollouts: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    kl: float = 0.0
    clip: float = 0.2
    average: str = "dapo"
    scale: str = "group"
    drop_cut: bool = False

    def __post_init__(self) -> None:
        chosen = (("reward", self.reward, REWARDS), ("average", self.average, AVERAGES), ("scale", self.scale, SCALES))
        for what, name, known in chosen:
            if name not in known:
                raise unknown(what, name, known)
        for part in self.weights:
            if part not in (parts := REWARDS[self.reward].parts):
                raise unknown(f"part of reward {self.reward!r}", part, parts)
        if self.rollouts < 2:
            raise InputError(f"rollouts={self.rollouts}; answers are compared, and there must be at least 2")
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"temperature={self.temperature}, top_p={self.top_p}; the first is above 0, the second a probability"
            )
        if self.kl < 0 or self.clip <= 0:
            raise InputError(f"kl={self.kl}, clip={self.clip}; the first is 0 or more, the second above 0")
