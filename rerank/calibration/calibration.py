"""Fitting a curve to judged scores, judging it on queries it has not seen, storing it, and applying it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.calibration.curves import Curve, Values, curve_of, fit_curve
from rerank.calibration.examples import Examples
from rerank.calibration.quality import Quality, Threshold, quality, threshold_for
from rerank.errors import FileError, InputError
from rerank.io import atomic_write
from rerank.types import Candidate, Qrels, Ranking, Run, Scores

__all__ = ["FOLDS", "Calibration", "Fit", "check_threshold", "fit", "quality_of"]

FOLDS = 5
FORMAT = "rerank-toolkit calibration 1"


@dataclass(frozen=True)
class Calibration:
    """Scores of one reranker into probabilities.

    Args:
        method: how the curve was fitted.
        curve: the curve.
        scores_of: whose scores they are, as `Reranker.scores_key` says; empty when nobody said.
        fitted_to: counts of what it was fitted to, and how good it was; kept beside it, not used.
    """

    method: str
    curve: Curve
    scores_of: str = ""
    fitted_to: dict[str, Any] | None = None

    def probabilities(self, scores: Values) -> Values:
        """P(relevant) of each score."""
        return self.curve(np.asarray(scores, np.float64))

    def probability(self, score: float) -> float:
        """P(relevant) of one score."""
        return float(self.probabilities(np.array([score]))[0])

    def apply(self, ranking: Ranking, *, threshold: float | None = None) -> Ranking:
        """The same order with probabilities in place of scores.

        Args:
            ranking: its scored candidates get probabilities, the others stay unscored.
            threshold: keep only candidates of at least this probability; unscored ones, whose probability nobody
                knows, are not kept either. None keeps all.

        Raises:
            InputError: when no candidate is scored, or the threshold is not between 0 and 1.
        """
        check_threshold(threshold)
        scored = [candidate for candidate in ranking if candidate.score is not None]
        if ranking and not scored:
            raise InputError(
                f"the ranking of query {ranking.query.query_id!r} has an order and no scores; "
                "probabilities need an algorithm that gives scores, such as pointwise"
            )
        found = self.probabilities(np.array([candidate.score for candidate in scored], np.float64))
        falling = np.minimum.accumulate(found)  # a last digit of the curve must not break the order
        best = tuple(
            Candidate(candidate.document, probability)
            for candidate, probability in zip(scored, falling.tolist(), strict=True)
            if threshold is None or probability >= threshold
        )
        return Ranking(ranking.query, best + (ranking.candidates[len(scored) :] if threshold is None else ()))

    def check(self, scores_of: str) -> None:
        """Refuse scores of another reranker than the one that was calibrated.

        Raises:
            InputError: when both are known and differ.
        """
        if self.scores_of and self.scores_of != scores_of:
            raise InputError(
                f"the calibration is of scores by {self.scores_of}, and these are by {scores_of}; calibrate this "
                "checkpoint with these options, or rerank with those"
            )

    def save(self, path: str | Path) -> None:
        """Write it as JSON.

        Raises:
            FileError: when it cannot be written.
        """
        values = {
            "format": FORMAT,
            "method": self.method,
            "scores_of": self.scores_of,
            "curve": self.curve.as_dict(),
            "fitted_to": self.fitted_to or {},
        }
        with atomic_write(path) as file:
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            FileError: when there is no such file, or it is no calibration.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"cannot read the calibration {path}: {error}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise FileError(f"{path} is no calibration; `rerank calibrate` writes one")
        try:
            return cls(values["method"], curve_of(values["curve"]), values["scores_of"], values["fitted_to"])
        except (KeyError, InputError) as error:
            raise FileError(f"{path} is no whole calibration: {error}") from error


@dataclass(frozen=True, eq=False)
class Fit:
    """A calibration, and what was seen while it was fitted.

    Args:
        calibration: fitted to all examples.
        examples: what it was fitted to.
        held_out: of each example, the probability by a curve that was fitted without its query.
        before: quality of the scores' plain sigmoid.
        fitted: quality on the examples that it was fitted to.
        unseen: quality of `held_out`.
    """

    calibration: Calibration
    examples: Examples
    held_out: Values
    before: Quality
    fitted: Quality
    unseen: Quality

    def threshold_for(self, *, precision: float) -> Threshold:
        """The lowest threshold whose precision on held-out queries is at least the one asked for.

        Raises:
            InputError: when no threshold reaches it.
        """
        return threshold_for(self.held_out, self.examples.labels, precision=precision)


def fit(
    qrels: Qrels,
    run: Run | Scores,
    method: str = "platt",
    *,
    scores_of: str = "",
    relevant_from: int = 1,
    unjudged: str = "irrelevant",
    folds: int = FOLDS,
    seed: int = 0,
) -> Fit:
    """Fit a curve to the scores of judged queries, and judge it on queries held out (cross-validation by query).

    Args:
        qrels: query_id -> doc_id -> relevance.
        run: query_id -> ranking, or query_id -> doc_id -> score; the scores of one reranker.
        method: a name in `METHODS`.
        scores_of: whose scores: `Reranker.scores_key`.
        relevant_from: the least relevance that counts as relevant.
        unjudged: what a document without a judgment is: "irrelevant" or "left-out".
        folds: into how many parts the queries are dealt; each is held out once.
        seed: of the dealing.

    Raises:
        UnknownName: when there is no such method.
        InputError: when examples are too few, all of one kind, or scores do not rise with relevance.
    """
    examples = Examples.of(qrels, run, relevant_from=relevant_from, unjudged=unjudged)
    curve = fit_curve(method, examples.scores, examples.labels)
    if not curve.rises:
        raise InputError(
            f"the {len(examples)} scores do not rise with relevance, so no probability can be made of them; are they "
            "scores of these queries, higher for better?"
        )
    held_out = _held_out(method, examples, examples.folds(folds, seed))
    before = _plain(examples.scores, examples.labels)
    fitted, unseen = (quality(part, examples.labels) for part in (curve(examples.scores), held_out))
    facts = {
        "examples": len(examples),
        "relevant": examples.relevant,
        "queries": examples.query_count,
        "relevant_from": relevant_from,
        "unjudged": f"{examples.unjudged} {unjudged}",
        "folds": folds,
        "seed": seed,
        **{name: asdict(one) for name, one in (("before", before), ("fitted", fitted), ("held_out", unseen))},
    }
    calibration = Calibration(method, curve, scores_of, facts)
    return Fit(calibration, examples, held_out, before, fitted, unseen)


def _plain(scores: Values, labels: Values) -> Quality:
    """Quality of the plain sigmoid of scores, which is what a logit claims."""
    from scipy.special import expit

    return quality(expit(scores), labels)


def quality_of(qrels: Qrels, run: Run | Scores, *, relevant_from: int = 1, unjudged: str = "irrelevant") -> Quality:
    """How good the probabilities of a run are, as they stand: ECE and Brier score.

    Args:
        qrels, run, relevant_from, unjudged: as of `Examples.of`; the run's scores are probabilities.

    Raises:
        InputError: when a score is no probability, or no scored document is of a judged query.
    """
    examples = Examples.of(qrels, run, relevant_from=relevant_from, unjudged=unjudged)
    return quality(examples.scores, examples.labels)


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold that is no probability.

    Raises:
        InputError: when it is none.
    """
    if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
        raise InputError(f"the threshold is {threshold}; it is a probability, from 0 to 1")


def _held_out(method: str, examples: Examples, folds: NDArray[np.int64]) -> Values:
    found = np.empty(len(examples))
    for fold in np.unique(folds):
        held = folds == fold
        found[held] = fit_curve(method, examples.scores[~held], examples.labels[~held])(examples.scores[held])
    return found
