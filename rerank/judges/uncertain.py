"""Cross-encoders that say how sure they are: several scores a document, under dropout in the last layers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rerank.cost import Ledger
from rerank.engine.encoders.dropout import Dropout, DropoutEncoder
from rerank.engine.encoders.modular import Readout
from rerank.errors import CheckpointError, InputError
from rerank.judges.cross_encoder import CrossEncoder, score_of
from rerank.questions import Answer, Grade, Graded
from rerank.types import Document, Query

__all__ = ["Spread", "UncertainCrossEncoder", "conditional_value_at_risk"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The scores of one document.

    Args:
        mean: of the samples.
        deviation: their standard deviation; 0 for a single sample.
        samples: each thinned network's score.
    """

    mean: float
    deviation: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Of samples, at least one."""
        deviation = statistics.stdev(samples) if len(samples) > 1 else 0.0
        return cls(statistics.fmean(samples), deviation, tuple(samples))


class UncertainCrossEncoder(CrossEncoder):
    """A cross-encoder with a distribution of scores for each document, and an order that minds the risk.

    Dropout stays on in the last layers, and what lies before them is computed once (Cohen et al., 2021, Not All
    Relevance Scores are Equal, https://arxiv.org/abs/2105.04651). The score is

    - mean − risk · standard deviation, by default with risk 0, the mean; a risk below 0 seeks what is uncertain;
    - with `tail` below 1 the conditional value at risk: the mean of the lowest such share of the samples.

    Args:
        folder, options: as of `CrossEncoder`; dtype="int8" and compile are not for it.
        samples: scores of each document.
        layers: how many of the last layers are thinned; each sample costs as much as these.
        dropout: the share of channels that is dropped; by default as the checkpoint was trained.
        seed: of what is dropped. The same seed gives the same bits whatever the batch.
        risk: standard deviations that are taken off the mean.
        tail: the share of the lowest samples that counts, above 0 to 1.

    Raises:
        CheckpointError, InputError: as `CrossEncoder`; also when the model is not run in one row here, or both `risk`
            and `tail` are given.
    """

    scoring: ClassVar[str] = "uncertain-cross-encoder 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        samples: int = 20,
        layers: int = 2,
        dropout: float | None = None,
        seed: int = 0,
        risk: float = 0.0,
        tail: float = 1.0,
        **options: Any,
    ) -> None:
        if options.get("dtype") == "int8" or options.get("compile") or options.get("deterministic"):
            raise InputError("uncertainty is computed by passes of its own; leave out int8, compile and deterministic")
        if not 0 < tail <= 1:
            raise InputError(f"tail={tail}; it is a share of the samples above 0 and at most 1")
        if risk and tail < 1:
            raise InputError(f"risk={risk} and tail={tail}: the score is one or the other; leave one out")
        self.sampling = Dropout(samples, layers, dropout, seed)
        self.risk, self.tail = risk, tail
        super().__init__(folder, **options)

    def made(self, model: Any, readout: Readout | None, compile: bool, deterministic: bool) -> Any:
        """What scores a batch of pairs, several times each."""
        if readout is not None:
            raise CheckpointError(f"{self.folder} is saved in modules, for which there is no uncertainty")
        encoder = DropoutEncoder(model, self.sampling, longest=self.max_tokens)
        self.notes = {
            "samples": str(self.sampling.samples),
            "dropout": f"{encoder.share} in the last {self.sampling.layers} layers, seed {self.sampling.seed}",
            "risk": f"CVaR of {self.tail}" if self.tail < 1 else f"mean - {self.risk} standard deviations",
        }
        return encoder

    def said(self, logits: list[float]) -> Answer:
        """The score that minds the risk."""
        spread = self._spread(logits)
        if self.tail < 1:
            return Graded(conditional_value_at_risk(spread.samples, self.tail))
        return Graded(spread.mean - self.risk * spread.deviation)

    def spreads(self, query: Query, documents: Sequence[Document]) -> list[Spread]:
        """The distribution of each document's score.

        Raises:
            InputError, JudgeError: when a document cannot be read or scored.
        """
        grades = [Grade(query, document) for document in documents]
        found = dict(self.logits(grades, Ledger()))
        for logits in found.values():
            if isinstance(logits, Exception):
                raise logits
        return [self._spread(logits) for _, logits in sorted(found.items()) if not isinstance(logits, Exception)]

    def _spread(self, logits: Sequence[float]) -> Spread:
        each = len(logits) // self.sampling.samples
        return Spread.of([score_of(list(logits[at : at + each])) for at in range(0, len(logits), each)])


def conditional_value_at_risk(samples: Sequence[float], tail: float) -> float:
    """The mean of the lowest share of samples; where that is no whole number, the last one counts in part.

    >>> conditional_value_at_risk([4.0, 1.0, 2.0, 3.0], 0.375)
    1.3333333333333333
    """
    count = tail * len(samples)
    weights = [min(1.0, max(0.0, count - place)) for place in range(len(samples))]
    return sum(weight * score for weight, score in zip(weights, sorted(samples), strict=True)) / count
