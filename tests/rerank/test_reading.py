"""What models write, read: well-formed, malformed, recorded from real ones, and anything at all."""

from __future__ import annotations

import json
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import prompts
from rerank.algorithms.windows import windows
from rerank.errors import InputError
from rerank.judges.readings import by_choice, check_written_pick, written_pick
from rerank.prompts.reading import read_choice, read_choices, read_order, read_winner, said
from rerank.questions import Pick, Picked
from rerank.types import Document, Query

NUMBERS = [str(number) for number in range(1, 6)]
LETTERS = list("ABCDE")


@pytest.mark.parametrize(
    ("text", "names", "groups", "repairs"),
    [
        ("[2] > [1] > [3] > [5] > [4]", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("[2]>[1]>[3]>[5]>[4]", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("2, 1, 3, 5, 4", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("[PASSAGE2, PASSAGE1, PASSAGE3, PASSAGE5, PASSAGE4]", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("[02] > [1]", NUMBERS, ((1,), (0,), (2,), (3,), (4,)), ("3 not named",)),
        ("[3] > [3] > [9]", NUMBERS, ((2,), (0,), (1,), (3,), (4,)), ("1 named twice", "1 not there", "4 not named")),
        ("[3] > [2] > [4] = [1] > [5]", NUMBERS, ((2,), (1,), (0, 3), (4,)), ()),
        ("", NUMBERS, ((0,), (1,), (2,), (3,), (4,)), ("5 not named",)),
        ("I cannot rank these.", NUMBERS, ((0,), (1,), (2,), (3,), (4,)), ("5 not named",)),
        ("[B] > [A] > [C] > [E] > [D]", LETTERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("b a c e d", LETTERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        (
            "<think>[5] is best</think><answer>[1] > [2] > [3] > [4] > [5]</answer>",
            NUMBERS,
            tuple((n,) for n in range(5)),
            (),
        ),
        (
            "Because of 7 things:\n[4] > [5]\n[5] > [4] > [3] > [2] > [1]",
            NUMBERS,
            tuple((n,) for n in (4, 3, 2, 1, 0)),
            (),
        ),
    ],
)
def test_an_order_is_read_and_what_is_wrong_with_it_is_told(text, names, groups, repairs):
    assert read_order(text, names) == (groups, repairs)


@given(text=st.text(st.sampled_from(list("[]0123456789>=,ABCDE \nxyz<think>/")), max_size=80), count=st.integers(0, 5))
def test_whatever_is_written_becomes_an_order_of_all_that_was_shown(text, count):
    for names in (NUMBERS[:count], LETTERS[:count]):
        groups, repairs = read_order(text, names)

        assert sorted(index for group in groups for index in group) == list(range(count))
        assert all(re.fullmatch(r"\d+ (named twice|not there|not named)", repair) for repair in repairs)


@pytest.mark.parametrize(
    ("text", "names", "choice"),
    [
        ("Passage B", LETTERS, 1),
        ("B", LETTERS, 1),
        (" b.", LETTERS, 1),
        ("<think>A?</think> <answer>[3]</answer>", NUMBERS, 2),
        ("The passage is a good one", LETTERS, 0),
        ("Z", LETTERS, None),
        ("", LETTERS, None),
        ("[12]", NUMBERS, None),
    ],
)
def test_a_choice_is_read(text, names, choice):
    assert read_choice(text, names)[0] == choice


def test_several_choices_are_told():
    assert read_choice("[2] or [3]", NUMBERS) == (1, ("2 named, the first taken",))


@pytest.mark.parametrize(
    ("text", "winner"), [("Passage A", 1.0), ("Passage B.", 0.0), ("A and B", None), ("neither", None), ("", None)]
)
def test_a_winner_is_read(text, winner):
    assert read_winner(text)[0] == winner


def test_thoughts_are_left_out_even_where_the_answer_never_ends():
    assert said("<think>[1] first</think>\n<answer>[2] > [1]") == "[2] > [1]"


def in_file_order(path) -> dict[str, list[str]]:
    """The run as its authors wrote it, whose ties stand in the order that the windows saw."""
    run = defaultdict(list)
    for line in path.read_text().splitlines():
        query_id, _, doc_id, *_ = line.split()
        run[query_id].append(doc_id)
    return run


@pytest.fixture
def recorded(shared):
    def load(name: str) -> list[dict]:
        text, decoder, at = (shared / "replay-dl19" / name).read_text(), json.JSONDecoder(), 0
        found = []
        while at < len(text):  # objects one after the other, with ", " between them
            entry, at = decoder.raw_decode(text, at)
            found.append(entry)
            at = re.compile(r"[\s,]*").match(text, at).end()
        return found

    return load


def test_recorded_answers_of_rankvicuna_give_the_recorded_ranking(shared, recorded):
    """387 windows, nine a query: replayed from the back of BM25's list they give the recorded run, 43 of 43."""
    expected, first_stage = (
        in_file_order(path)
        for path in (shared / "replay-dl19" / "rank_vicuna_7b.trec", shared / "trec-dl19" / "runs" / "bm25.trec")
    )
    answers = iter(recorded("rank_vicuna_7b.json"))

    same = 0
    for query_id, ranked in expected.items():
        order = first_stage[query_id]
        for part in windows(len(order), window=20, step=10):
            groups, _ = read_order(next(answers)["response"], [str(number) for number in range(1, 21)])
            order[part] = [order[part][index] for group in groups for index in group]
        same += order == ranked

    assert same == len(expected) == 43


@pytest.mark.parametrize(
    ("name", "broken"), [("vicuna_7b_half_trained.json", 166), ("vicuna_13b_malformed.json", None)]
)
def test_recorded_malformed_answers_are_repaired_and_counted(recorded, name, broken):
    counted: dict[str, int] = defaultdict(int)
    names = [str(number) for number in range(1, 21)]
    repaired = 0
    for entry in recorded(name):
        groups, repairs = read_order(entry["response"], names)
        repaired += bool(repairs)
        assert sorted(index for group in groups for index in group) == list(range(20))
        for repair in repairs:
            count, _, what = repair.partition(" ")
            counted[what] += int(count)

    assert counted["not named"] > 0
    assert repaired == broken if broken is not None else repaired > 380


@pytest.mark.parametrize(
    ("text", "indices", "repairs"),
    [
        ("Document 3, Document 1", (2, 0), ()),
        ("Document 3, ..., Document 1.", (2, 0), ()),
        ("Document 5, Document 2, Document 4", (4, 1), ("3 named, the first 2 taken",)),
        ("Document 4, Document 4, Document 9", (3, 0), ("1 not named",)),
        ("none of them", (0, 1), ("2 not named",)),
    ],
)
def test_a_choice_of_several_is_read_in_its_order_and_filled_up_as_shown(text, indices, repairs):
    assert read_choices(text, NUMBERS, 2) == (indices, repairs)
    assert written_pick(text, NUMBERS, 2) == Picked(indices, repairs=repairs)


def pick(count=1, worst=False):
    return Pick(Query("q", "words"), tuple(Document(name, name) for name in "abc"), count, worst)


@pytest.mark.parametrize(
    ("prompt", "question", "complaint"),
    [
        ("setwise", pick(2), "prompt 'setwise' has the best document written, and the 2 best of 3 were asked for"),
        ("setwise", pick(worst=True), "has the best document written, and the worst of 3 were asked for"),
        ("iranker", pick(), "has the worst document written, and the best of 3 were asked for"),
        ("tourrank", pick(2, worst=True), "has the best documents written, and the 2 worst of 3"),
    ],
)
def test_a_written_choice_is_asked_as_its_prompt_puts_it(prompt, question, complaint):
    with pytest.raises(InputError, match=complaint):
        check_written_pick(question, prompts.find(prompt))


def test_a_prompt_says_how_many_are_wanted_and_which():
    tourrank, iranker = prompts.find("tourrank"), prompts.find("iranker")

    check_written_pick(pick(2), tourrank)
    check_written_pick(pick(), tourrank)
    check_written_pick(pick(worst=True), iranker)
    texts = tourrank.texts(Query("q", "words"), [Document("a", "text")] * 3, 2)
    said_in_turns = [
        "".join(part if isinstance(part, str) else texts[part.name] for part in parts)
        for _, parts in tourrank.render(3)
    ]
    assert "select the 2 documents that are most relevant to the given query: words." in said_in_turns[1]
    assert said_in_turns[-1].startswith("The Query is: words.\nNow, you must output the top 2 documents")
    assert said_in_turns[3:5] == ["Document 1: text", "Received Document 1."]


def test_of_a_prompt_for_the_worst_the_likeliest_label_is_the_worst():
    scores = (-3.0, -0.1, -2.0)

    assert by_choice(pick(worst=True), scores, prompts.find("iranker")).indices == (1,)
    assert by_choice(pick(), scores, prompts.find("iranker")).indices == (0,)
    assert by_choice(pick(), scores, prompts.find("setwise")).indices == (1,)
