"""What a model that writes is rewarded for, by name: pure functions of a text and of what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from training.rewards import choices, grades, orders
from training.rewards.reward import Reward, Shown

__all__ = ["REWARDS", "Reward", "Shown"]

REWARDS: Mapping[str, Reward] = MappingProxyType(
    {
        "interank": Reward({"grade": grades.interank}, {"grade": 1.0}, "grade", ("scores",)),
        "iranker": Reward(
            {"exclusion": choices.exclusion, "form": choices.form}, {"exclusion": 1.0, "form": 0.1}, "pick",
            ("relevance",), wants=(1, 1), worst=True,
        ),
        "rank-r1": Reward({"choice": choices.rank_r1}, {"choice": 1.0}, "pick", ("relevance",), wants=(1, 0)),
        "rearank": Reward(
            {"improvement": orders.improvement, "form": orders.form}, {"improvement": 1.0, "form": 1.0}, "permute",
            ("relevance",), wants=(1, 0),
        ),
        "reasonrank": Reward(
            {"order": orders.reasonrank}, {"order": 1.0}, "permute", ("order", "relevance"), wants=(1, 0)
        ),
        "tfrank": Reward(
            {"ranking": grades.tfrank, "form": grades.form}, {"ranking": 1.0, "form": 0.5}, "grade", ("relevance",)
        ),
    }
)  # fmt: skip
"""By the name of the method. The reward is the sum of the parts, each times its weight."""
