"""Every perturbation by its name, and how names are chosen.

A perturbation is applied to one query at a time and draws from a chance of its own, made of the seed, its name and the
query's id: what happens to a query depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType

from rerank.errors import InputError
from rerank.perturb import attacks, lists, typos, words
from rerank.registry import unknown
from rerank.types import Query, Ranking

__all__ = ["GROUPS", "KINDS", "Perturbation", "Perturbed", "choose"]

NOT_JUDGED: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A list after it was changed, and the document that attacks in it; None where none does."""

    ranking: Ranking
    attacker: str | None = None


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One way of changing what a pipeline is given. Exactly one of the four says what.

    Args:
        name: what it is called.
        summary: one line.
        text: of the query, before anything is retrieved for it.
        order: of the list, between first stage and reranker.
        attack: on the list, by one of its documents.
        factor: of the first stage's cutoff.
    """

    name: str
    summary: str
    text: Callable[[str, Random], str] | None = None
    order: Callable[[Ranking, Random], Ranking] | None = None
    attack: Callable[[Ranking, str], Ranking] | None = None
    factor: int = 1

    @property
    def of_queries(self) -> bool:
        """Whether a first stage alone can be perturbed by it: its query is another, or its cutoff."""
        return self.text is not None

    @property
    def of_lists(self) -> bool:
        """Whether it changes the list behind a first stage."""
        return self.order is not None or self.attack is not None

    def query(self, query: Query, seed: int) -> Query:
        """The query as it is asked now; the same one where the perturbation leaves queries alone."""
        if self.text is None:
            return query
        return replace(query, text=self.text(query.text, self._chance(query, seed)))

    def ranking(self, ranking: Ranking, seed: int, judged: Mapping[str, int] = NOT_JUDGED) -> Perturbed:
        """The list as it is reranked now.

        Args:
            ranking: what the first stage found.
            seed: of what is drawn.
            judged: doc_id -> relevance for this query: a relevant document does not attack.
        """
        chance = self._chance(ranking.query, seed)
        if self.order is not None:
            return Perturbed(self.order(ranking, chance))
        if self.attack is None or (attacker := attacks.attacked(ranking, judged, chance)) is None:
            return Perturbed(ranking)
        return Perturbed(self.attack(ranking, attacker), attacker)

    def _chance(self, query: Query, seed: int) -> Random:
        return Random(f"{seed} {self.name} {query.query_id}")


KINDS: Mapping[str, Perturbation] = {
    kind.name: kind
    for kind in (
        Perturbation("typo-insert", "a letter too many in a word of the query", text=typos.insert),
        Perturbation("typo-delete", "a letter too few", text=typos.delete),
        Perturbation("typo-substitute", "another letter in the place of one", text=typos.substitute),
        Perturbation("typo-swap", "two letters the wrong way round", text=typos.swap),
        Perturbation("typo-neighbour", "the letter of the next key", text=typos.neighbour),
        Perturbation("query-words", "the query's words shuffled", text=words.shuffled_words),
        Perturbation("document-words", "the words of every candidate shuffled", order=words.shuffled_documents),
        Perturbation("shuffled", "the candidates in an order by chance", order=lists.shuffled),
        Perturbation("reversed", "the candidates from the worst to the best", order=lists.reversed_order),
        Perturbation("half", "the better half of the candidates", order=lists.halved),
        Perturbation("double", "twice as many candidates from the first stage", factor=2),
        Perturbation("stuffing", "a document that is not relevant repeats the query", attack=attacks.stuffed),
        Perturbation("injection", "a document that is not relevant says to rank it first", attack=attacks.injected),
    )
}
"""name -> perturbation."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "typos": tuple(name for name in KINDS if name.startswith("typo-")),
    "words": ("query-words", "document-words"),
    "order": ("shuffled", "reversed"),
    "number": ("half", "double"),
    "attacks": ("stuffing", "injection"),
    "all": tuple(KINDS),
}
"""name -> the perturbations it stands for."""


def choose(names: Iterable[str]) -> tuple[Perturbation, ...]:
    """The perturbations of these names or groups, each once, in the order given.

    Raises:
        UnknownName: when nothing is called so.
        InputError: when there is no name.
    """
    found: dict[str, Perturbation] = {}
    for name in names:
        if name not in KINDS and name not in GROUPS:
            raise unknown("perturbation", name, [*GROUPS, *KINDS])
        found |= {kind: KINDS[kind] for kind in GROUPS.get(name, (name,))}
    if not found:
        raise InputError(f"no perturbation is named; there is {', '.join([*GROUPS, *KINDS])}")
    return tuple(found.values())
