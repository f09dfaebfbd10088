"""Perturbations: each does what its name says, by chance alone and always the same."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InputError, UnknownName
from rerank.perturb import GROUPS, KINDS, choose
from rerank.perturb.attacks import INJECTION, REPEATS
from rerank.perturb.typos import FUNCTION_WORDS
from rerank.types import Candidate, Document, Query, Ranking

TYPOS = GROUPS["typos"]
TEXT = "how do neural rerankers order documents?"
LENGTHS = {"typo-insert": 1, "typo-delete": -1, "typo-substitute": 0, "typo-swap": 0, "typo-neighbour": 0}


def ranking_of(count: int) -> Ranking:
    documents = [Document(f"d{n}", f"one two three four five number {n}", f"title {n}") for n in range(count)]
    return Ranking(Query("q", TEXT), tuple(Candidate(document, -float(n)) for n, document in enumerate(documents)))


def test_there_are_five_typos_and_every_group_names_perturbations():
    assert len(TYPOS) == 5
    assert all(set(members) <= set(KINDS) for members in GROUPS.values())
    assert {name for name, members in GROUPS.items() for _ in members} == set(GROUPS)


@pytest.mark.parametrize("name", TYPOS)
@given(seed=st.integers(0, 10_000))
def test_a_typo_changes_one_telling_word_by_one_slip(name, seed):
    asked = KINDS[name].query(Query("q", TEXT), seed).text

    assert len(asked) == len(TEXT) + LENGTHS[name]
    pairs = list(zip(TEXT.rstrip("?").split(), asked.rstrip("?").split(), strict=True))
    [(before, after)] = [(before, after) for before, after in pairs if before != after]
    assert before not in FUNCTION_WORDS
    assert len(before) >= 3
    different = [place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]
    if name == "typo-swap":
        first, second = different
        assert (second, before[first] + before[second]) == (first + 1, after[second] + after[first])
    if name in ("typo-substitute", "typo-neighbour"):
        assert len(different) == 1


def test_neighbours_are_keys_that_touch():
    from rerank.perturb.typos import _NEXT

    assert {letter: set(_NEXT[letter]) for letter in "gqm"} == {"g": set("fhtyvb"), "q": set("wa"), "m": set("njk")}
    assert all(letter in _NEXT[other] for letter, near in _NEXT.items() for other in near)


@pytest.mark.parametrize("name", TYPOS)
@pytest.mark.parametrize("text", ["who was it", "42 a b 7", "is it?"])
def test_a_query_without_a_telling_word_stays_as_it_is(name, text):
    asked = KINDS[name].query(Query("q", text, "an instruction"), 0)

    assert asked == Query("q", text, "an instruction")


@given(
    text=st.text(min_size=1).filter(str.strip), seed=st.integers(0, 99), name=st.sampled_from([*TYPOS, "query-words"])
)
def test_any_query_survives_and_large_letters_stay_large(text, seed, name):
    asked = KINDS[name].query(Query("q", text), seed)

    assert asked.text.strip()
    assert abs(len(asked.text) - len(text)) <= (1 if name in TYPOS else len(text))


def test_what_happens_to_a_query_depends_on_seed_name_and_id_alone():
    kind = KINDS["typo-substitute"]
    asked = {(seed, q): kind.query(Query(q, TEXT), seed).text for seed in range(20) for q in ("q1", "q2")}

    assert asked == {(seed, q): kind.query(Query(q, TEXT), seed).text for q in ("q2", "q1") for seed in range(20)}
    assert len(set(asked.values())) > 10


@pytest.mark.parametrize("name", ["shuffled", "reversed"])
def test_another_order_holds_the_same_documents_and_scores_that_fall(name):
    before = ranking_of(20)

    after = KINDS[name].ranking(before, 0).ranking

    assert set(after.documents) == set(before.documents)
    assert after.documents != before.documents
    assert [candidate.score for candidate in after] == [candidate.score for candidate in before]
    if name == "reversed":
        assert after.documents == before.documents[::-1]


def test_half_of_five_is_the_best_three():
    assert KINDS["half"].ranking(ranking_of(5), 0).ranking == ranking_of(5)[:3]
    assert KINDS["double"].factor == 2


def test_words_are_shuffled_and_none_is_lost():
    before = ranking_of(4)

    after = KINDS["document-words"].ranking(before, 0).ranking
    asked = KINDS["query-words"].query(before.query, 1)

    pairs = list(zip(before.documents, after.documents, strict=True))
    assert all(sorted(old.text.split()) == sorted(new.text.split()) and old.title == new.title for old, new in pairs)
    assert any(old.text != new.text for old, new in pairs)
    assert sorted(asked.text.split()) == sorted(TEXT.split())


@pytest.mark.parametrize("name", ["stuffing", "injection"])
def test_one_document_that_is_not_relevant_attacks(name):
    before, judged = ranking_of(6), {"d0": 1, "d1": 0, "d2": -1, "d3": 2}

    attackers = set()
    for seed in range(60):
        after = KINDS[name].ranking(before, seed, judged)
        attackers.add(after.attacker)
        changed = [new for old, new in zip(before.documents, after.ranking.documents, strict=True) if old != new]
        assert [document.doc_id for document in changed] == [after.attacker]
        words = INJECTION if name == "injection" else " ".join([TEXT] * REPEATS)
        assert changed[0].text == f"{words} one two three four five number {after.attacker[1:]}"

    assert attackers == {"d1", "d2", "d4", "d5"}


def test_where_all_documents_are_relevant_none_attacks():
    before = ranking_of(2)

    after = KINDS["stuffing"].ranking(before, 0, {"d0": 1, "d1": 1})

    assert (after.ranking, after.attacker) == (before, None)


def test_an_empty_list_stays_empty():
    empty = Ranking(Query("q", TEXT))

    assert all(kind.ranking(empty, 0).ranking == empty for kind in KINDS.values())


def test_names_and_groups_are_chosen_once_and_unknown_ones_refused():
    assert [kind.name for kind in choose(["order", "shuffled", "stuffing"])] == ["shuffled", "reversed", "stuffing"]
    with pytest.raises(UnknownName, match=r"no perturbation is called 'typo'; did you mean 'typos'\?"):
        choose(["typo"])
    with pytest.raises(InputError, match="no perturbation is named"):
        choose([])


def test_chance_is_not_shared():
    """Nothing here touches the global generator."""
    import random

    random.seed(5)
    state = random.getstate()
    for kind in KINDS.values():
        kind.ranking(ranking_of(5), 0)
        kind.query(Query("q", TEXT), 0)

    assert random.getstate() == state
    assert Random("0 typo-swap q").random() == Random("0 typo-swap q").random()
