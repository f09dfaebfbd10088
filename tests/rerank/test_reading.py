"""What models write, read: well-formed, malformed, and anything at all; `test_replay` reads what real models wrote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import prompts
from rerank.errors import InputError
from rerank.judges.readings import by_choice, check_written_pick, written_pick
from rerank.prompts.grading import read_grade, read_grades
from rerank.prompts.reading import read_choice, read_choices, read_exact_choice, read_order, read_winner
from rerank.prompts.speech import said
from rerank.questions import Pick, Picked
from rerank.types import Document, Query

NUMBERS = [str(number) for number in range(1, 6)]
LETTERS = list("ABCDE")
ALONE = tuple((index,) for index in range(5))
TOLD = r"\d+ (named twice|not there|not named)|empty answer|nothing that could be read|thought cut off"


@pytest.mark.parametrize(
    ("text", "names", "groups", "repairs"),
    [
        ("[2] > [1] > [3] > [5] > [4]", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("[2]>[1]>[3]>[5]>[4]", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("2, 1, 3, 5, 4", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("[PASSAGE2, PASSAGE1, PASSAGE3, PASSAGE5, PASSAGE4]", NUMBERS, ((1,), (0,), (2,), (4,), (3,)), ()),
        ("[02] > [1]", NUMBERS, ((1,), (0,), (2,), (3,), (4,)), ("3 not named",)),
        ("[9] > [10]", NUMBERS, ALONE, ("nothing that could be read", "2 not there", "5 not named")),
        ("[3] > [3] > [9]", NUMBERS, ((2,), (0,), (1,), (3,), (4,)), ("1 named twice", "1 not there", "4 not named")),
        ("[3] > [2] > [4] = [1] > [5]", NUMBERS, ((2,), (1,), (0, 3), (4,)), ()),
        ("", NUMBERS, ALONE, ("empty answer", "5 not named")),
        ("<think>[2] > [1]</think><answer> [] </answer>", NUMBERS, ALONE, ("empty answer", "5 not named")),
        ("I cannot rank these.", NUMBERS, ALONE, ("nothing that could be read", "5 not named")),
        ("<think>[5] is better than [1], and", NUMBERS, ALONE, ("thought cut off", "5 not named")),
        ("<think>[5] it is <answer>[2] > [1] > [3]", NUMBERS, ((1,), (0,), (2,), (3,), (4,)), ("2 not named",)),
        (f"[{'1' * 5000}] {'2' * 5000}", NUMBERS, ALONE, ("nothing that could be read", "2 not there", "5 not named")),
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
        assert all(re.fullmatch(TOLD, repair) for repair in repairs)


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


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "empty answer"), ("<think>[1]", "thought cut off"), ("no idea", "nothing that could be read")],
)
def test_why_there_is_no_choice_is_told(text, why):
    assert read_choice(text, NUMBERS) == (None, (f"no choice: {why}",))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("<think>why</think>\n<answer>[3]</answer>", 2),
        ("<THINK>Why\nnot</THINK> <ANSWER> [3] </ANSWER> and more", 2),
        ("<think>a</think><answer>[b]</answer>", None),
        ("<think>why</think><answer>3</answer>", None),
        ("<think>why</think><answer>[3] because</answer>", None),
        ("<think>why</think><answer>[6]</answer>", None),
        ("<think>why</think> so <answer>[3]</answer>", None),
        ("<answer>[3]</answer>", None),
        ("<think>why <answer>[3]</answer>", None),
        ("<think>[3]", None),
    ],
)
def test_rank_r1s_form_is_exact(text, choice):
    found, repairs = read_exact_choice(text, NUMBERS)

    assert found == choice
    assert bool(repairs) == (choice is None)


@pytest.mark.parametrize(
    ("text", "grade", "repairs"),
    [
        ("It answers the question.\n\nRelevance Label: 2", 2.0, ()),
        ("relevance label: **1**", 1.0, ()),
        ("A label of 2 would be too much. Relevance Label: 0", 0.0, ()),
        ("2", 2.0, ()),
        ("Score: 1.5/2", 1.5, ()),
        ("Relevance label: 7", 2.0, ("a grade off the scale",)),
        ("Rating: -3", 0.0, ("a grade off the scale",)),
        ("In 1989 the wall fell, so I say 1.", 1.0, ("no label, the last number taken",)),
        ("In 1989 the wall fell.", 0.0, ("no grade: nothing that could be read",)),
        ("", 0.0, ("no grade: empty answer",)),
        ("<think>a label of 2", 0.0, ("no grade: thought cut off",)),
    ],
)
def test_a_grade_is_read_behind_its_explanation(text, grade, repairs):
    assert read_grade(text, (0, 2)) == (grade, repairs)


@pytest.mark.parametrize(
    ("text", "grades", "repairs"),
    [
        ('<reason>[1]: 9</reason><answer>```json\n{"[1]": 5, "[2]": 3, "[3]": 8}\n```</answer>', (5, 3, 8), ()),
        ('{"1": 5, "[02]": "3", "[ 3 ]": 8.5}', (5, 3, 8.5), ()),
        ('first {"[1]": 1}, no: {"[1]": 5, "[2]": 3, "[3]": 8}', (5, 3, 8), ()),
        ('{"[1]]": 5, "[2]": 3, "[3]": 8}', (5, 3, 8), ()),
        ('{"[1]": 5, "[2]": 3, "[3]": 8', (5, 3, 8), ("no valid JSON",)),
        ("{'[1]': 5, '[2]': 3, '[3]': 8,}", (5, 3, 8), ("no valid JSON",)),
        ('{"[1]": 5, "[9]": 3, "[3]": 80}', (5, 0, 10), ("1 off the scale", "1 not there", "1 not graded")),
        ('{"[1]": true, "[2]": null, "[3]": [1]}', (0, 0, 0), ("nothing that could be read", "3 not graded")),
        ("{}", (0, 0, 0), ("empty answer", "3 not graded")),
        ("", (0, 0, 0), ("empty answer", "3 not graded")),
        ("They are all fine.", (0, 0, 0), ("nothing that could be read", "3 not graded")),
        ('<reason>{"[1]": 5', (0, 0, 0), ("thought cut off", "3 not graded")),
        ("[1]: 4\n[2]: 6\n[3]: 0", (4, 6, 0), ("no valid JSON",)),
    ],
)
def test_grades_of_a_group_are_read(text, grades, repairs):
    assert read_grades(text, NUMBERS[:3], (0, 10)) == (tuple(map(float, grades)), repairs)


@given(
    text=st.text(st.sampled_from(list('[]{}0123456789-.":,xNaInfty \n<think>/')), max_size=60), count=st.integers(0, 4)
)
def test_whatever_is_written_becomes_grades_on_the_scale(text, count):
    grades, _ = read_grades(text, NUMBERS[:count], (1, 3))
    grade, _ = read_grade(text, (1, 3))

    assert len(grades) == count
    assert all(1 <= each <= 3 for each in (*grades, grade))


def test_several_choices_are_told():
    assert read_choice("[2] or [3]", NUMBERS) == (1, ("2 named, the first taken",))


@pytest.mark.parametrize(
    ("text", "winner"), [("Passage A", 1.0), ("Passage B.", 0.0), ("A and B", None), ("neither", None), ("", None)]
)
def test_a_winner_is_read(text, winner):
    assert read_winner(text)[0] == winner


def test_thoughts_are_left_out_even_where_the_answer_never_ends():
    assert said("<think>[1] first</think>\n<answer>[2] > [1]") == "[2] > [1]"


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
