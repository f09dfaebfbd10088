"""What a run is worth: measures by ir-measures name, per query and as means.

The mean is over *all* queries with judgments, those missing from the run counted as zero (trec_eval's `-c`).

ir-measures asks a different program for each measure, and they break ties in different ways (pytrec_eval compares
float32 and puts the later doc_id first, the programs behind RR@10 and Judged@10 compare float64 and put the earlier
one first). So the order is settled here, once, as trec_eval does it, and every program receives whole numbers that
say that order and nothing else.
"""

from __future__ import annotations

import math
import operator
import re
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank.errors import InputError, UnknownName
from rerank.registry import unknown
from rerank.significance import LEVEL, RESAMPLES, SEED, Comparison, Interval, holm, interval, paired
from rerank.types import LARGEST_RELEVANCE, Qrels, Ranking, Run, Scores

__all__ = ["Comparison", "Evaluation", "Interval", "compare", "evaluate", "holm", "interval", "order", "with_judged"]

_EXAMPLES = "measures are written like nDCG@10, RR(rel=2)@10, AP(rel=2), R@100, Judged@10"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run's values, by measure.

    Args:
        measures: their names, as they were asked for.
        queries: measure -> query_id -> value, for every judged query, sorted by id.
        means: measure -> mean over every judged query.
        missing: judged queries that the run lacks (or has no document for): counted as zero.
        unjudged: queries of the run that have no judgment: left out.
    """

    measures: tuple[str, ...]
    queries: Mapping[str, Mapping[str, float]]
    means: Mapping[str, float]
    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def query_ids(self) -> tuple[str, ...]:
        """Every judged query, sorted."""
        return tuple(self.queries[self.measures[0]])

    def values(self, measure: str) -> Mapping[str, float]:
        """query_id -> value of one measure.

        Raises:
            UnknownName: when it was not evaluated.
        """
        if measure not in self.queries:
            raise unknown("evaluated measure", measure, self.measures)
        return self.queries[measure]

    def as_dict(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return {
            "means": dict(self.means),
            "queries": {measure: dict(values) for measure, values in self.queries.items()},
            "missing": list(self.missing),
            "unjudged": list(self.unjudged),
        }


def evaluate(qrels: Qrels, run: Run | Scores, measures: Sequence[str] = ("nDCG@10",)) -> Evaluation:
    """The value of a run under each measure.

    Args:
        qrels: query_id -> doc_id -> relevance; a query without any judgment is not judged.
        run: query_id -> ranking, whose order is authoritative; or query_id -> doc_id -> score, which is read as
            trec_eval reads it: float32 score descending, then doc_id descending.
        measures: ir-measures names, such as `nDCG@10`, `RR(rel=2)@10`, `AP(rel=2)`, `R@100`, `Judged@10`.

    Raises:
        UnknownName: when nothing measures by a name.
        InputError: when a measure cannot be read or computed, there are no judgments, the run shares no query with
            them, a score is not finite, or a relevance is no whole number or beyond ±1,000,000.
    """
    if isinstance(measures, str) or not measures:
        raise InputError(f"measures is {measures!r}; it must be a list of names, such as ['nDCG@10']")
    parsed = {name: _parse(name) for name in measures}
    judged = {query_id: _judgments(query_id, qrels[query_id]) for query_id in sorted(qrels) if qrels[query_id]}
    orders = {query_id: order(query_id, run[query_id]) for query_id in run if query_id in judged and run[query_id]}
    _check_shared(judged, orders, run)
    queries = {name: _values(name, measure, judged, orders) for name, measure in parsed.items()}
    return Evaluation(
        measures=tuple(parsed),
        queries=queries,
        means={name: math.fsum(values.values()) / len(judged) for name, values in queries.items()},
        missing=tuple(query_id for query_id in judged if query_id not in orders),
        unjudged=tuple(query_id for query_id in run if query_id not in judged),
    )


def compare(
    evaluation: Evaluation,
    baseline: Evaluation,
    measure: str,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """A run against a baseline run: the paired randomisation test, the t-test beside it.

    `rerank.significance.paired` says how each is computed; `holm` corrects the p-values of several runs.

    Raises:
        UnknownName: when one of them was not evaluated by the measure.
        InputError: when the queries are not the same, or fewer than two.
    """
    ours, theirs = evaluation.values(measure), baseline.values(measure)
    return paired(ours, theirs, level=level, resamples=resamples, seed=seed)


def with_judged(measures: Sequence[str]) -> list[str]:
    """The measures, and for each cutoff among them how much of the list above it was judged."""
    cutoffs = [match[1] for name in measures if (match := re.search(r"@(\d+)$", name))]
    return list(dict.fromkeys([*measures, *(f"Judged@{cutoff}" for cutoff in cutoffs)]))


def _judgments(query_id: str, docs: Mapping[str, int]) -> dict[str, int]:
    """Relevance as Python's own int, which pytrec_eval insists on."""
    try:
        judged = {doc_id: operator.index(relevance) for doc_id, relevance in docs.items()}
    except TypeError as error:
        raise InputError(f"query {query_id!r} has a relevance that is no whole number: {error}") from error
    for doc_id, relevance in judged.items():
        if not -LARGEST_RELEVANCE <= relevance <= LARGEST_RELEVANCE:
            raise InputError(
                f"the relevance of document {doc_id!r} for query {query_id!r} is beyond ±{LARGEST_RELEVANCE:,}"
            )
    return judged


def order(query_id: str, ranked: Ranking | Mapping[str, float]) -> list[str]:
    """The doc_ids of one query, best first."""
    if isinstance(ranked, Ranking):
        return [candidate.document.doc_id for candidate in ranked]
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite there, and refused below
        singles = np.fromiter(ranked.values(), dtype=np.float64).astype(np.float32)
    if not np.isfinite(singles).all():
        doc_id = list(ranked)[int(np.flatnonzero(~np.isfinite(singles))[0])]
        raise InputError(
            f"document {doc_id!r} of query {query_id!r} has the score {ranked[doc_id]}; scores are finite in float32"
        )
    return [doc_id for _, doc_id in sorted(zip(singles.tolist(), ranked, strict=True), reverse=True)]


def _check_shared(judged: Mapping[str, Any], orders: Mapping[str, Any], run: Run | Scores) -> None:
    if not judged:
        raise InputError("the qrels hold no judgment; nothing can be evaluated")
    if not run:
        raise InputError("the run is empty; nothing can be evaluated")
    if not orders:
        raise InputError(
            f"the run shares no query with the qrels: it has {next(iter(run))!r} …, they have {next(iter(judged))!r} "
            "…; are both of the same collection?"
        )


def _parse(name: str) -> Any:
    """The ir-measures object of a name, checked before a program with less patience sees it."""
    import ir_measures

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it reads the syntax tree by names Python has renamed
            measure = ir_measures.parse_measure(name)
    except NameError as error:
        base = re.split(r"\W", name.strip(), maxsplit=1)[0]
        raise UnknownName(f"{unknown('measure', base, ir_measures.measures.registry)} ({_EXAMPLES})") from error
    except ValueError as error:
        raise InputError(f"cannot read the measure {name!r}; {_EXAMPLES}") from error
    _check_parameters(name, measure)
    _check_provider(name, measure, ir_measures.DefaultPipeline.providers)
    return measure


def _check_parameters(name: str, measure: Any) -> None:
    lacking = [key for key, info in measure.SUPPORTED_PARAMS.items() if info.required and key not in measure.params]
    if lacking:
        raise InputError(f"the measure {name!r} needs {' and '.join(lacking)}; {_EXAMPLES}")
    try:
        measure.validate_params()
    except AssertionError as error:
        raise InputError(f"the measure {name!r} cannot be used: {error}; {_EXAMPLES}") from error
    cutoff = measure.params.get("cutoff", 1)
    if type(cutoff) is not int or not 1 <= cutoff < 2**31:  # trec_eval ends the whole process otherwise
        raise InputError(f"the cutoff of the measure {name!r} must be a whole number from 1")
    if type(measure.aggregator()).__name__ != "MeanAgg":
        raise InputError(f"the measure {name!r} counts over all queries and has no mean; {_EXAMPLES}")


def _check_provider(name: str, measure: Any, providers: Sequence[Any]) -> None:
    able = [provider for provider in providers if provider.supports(measure)]
    if any(provider.is_available() for provider in able):
        return
    if able:
        ways = " or ".join(provider.install_instructions() or provider.NAME for provider in able)
        raise InputError(f"the measure {name!r} needs a package that is not installed: {ways}")
    hint = "RBP wants a relevance level, as in RBP(rel=1,p=0.8)" if measure.NAME == "RBP" else _EXAMPLES
    raise InputError(f"no package computes the measure {name!r} with these parameters; {hint}")


def _values(
    name: str, measure: Any, judged: Mapping[str, Mapping[str, int]], orders: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """query_id -> value of one measure, for every judged query.

    Measures are computed one by one: together, ir-measures mixes those that trec_eval calls by one name.
    """
    numbers = {query_id: str(number) for number, query_id in enumerate(judged, start=1)}  # gdeval reads no other ids
    relevance = {numbers[query_id]: judged[query_id] for query_id in orders}
    scores = {
        numbers[query_id]: {doc_id: float(len(order) - index) for index, doc_id in enumerate(order)}
        for query_id, order in orders.items()
    }
    found = _compute(name, measure, relevance, scores)
    values = {query_id: found.get(numbers[query_id], math.nan) if query_id in orders else 0.0 for query_id in judged}
    for query_id, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"the measure {name!r} has no value for query {query_id!r}")
    return values


def _compute(name: str, measure: Any, relevance: Any, scores: Any) -> dict[str, float]:
    import ir_measures

    try:
        return {found.query_id: float(found.value) for found in ir_measures.iter_calc([measure], relevance, scores)}
    except (ValueError, TypeError, KeyError, AssertionError, RuntimeError, subprocess.CalledProcessError) as error:
        raise InputError(f"ir-measures cannot compute {name!r}: {error}") from error
