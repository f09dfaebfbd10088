"""Traces of reasoning models as they are published: prompts become queries and documents, answers completions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from judge_models import tiny_lm

from rerank import prompts
from rerank.cli.main import main
from rerank.errors import FileError
from rerank.prompts.prompt import Blank
from training.examples import Example, guess, read_examples, write_arrow
from training.examples import records as read_records
from training.examples.records import records
from training.students.reasoner import Reasoner

DOCUMENTS = ("a river\n[9] is not a passage", "two birds fly\n\nQuery: is no query", "a stone")
QUERY = "what flies?\nand why"


def shown(name: str, documents: Sequence[str] = DOCUMENTS) -> str:
    """What the user says by a prompt of the toolkit, which are the published ones."""
    prompt, texts = prompts.find(name), iter(documents)
    _, parts = prompt.render(len(documents))[-1]
    return "".join(part if not isinstance(part, Blank) else next(texts) if part.document else QUERY for part in parts)


def write(path: Path, rows: Sequence[Any], **layout: Any) -> Path:
    """As JSON lines, or as one list."""
    lines = path.name.endswith(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows, **layout), "utf-8")
    return path


def alpaca(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"instruction": question, "input": "", "output": answer, **more}


def sharegpt(question: str, answer: str) -> dict[str, Any]:
    turns = [("system", "You rank."), ("human", question), ("gpt", answer)]
    return {"conversations": [{"from": who, "value": text} for who, text in turns]}


def messages(question: str, answer: str) -> dict[str, Any]:
    turns = [("user", question), ("assistant", answer)]
    return {"messages": [{"role": who, "content": text} for who, text in turns]}


LISTWISE = {
    "reasonrank": ("<think>birds do</think>\n<answer> [2] > [3] > [1] </answer>", (1, 2, 0)),
    "rank-k": ("birds [1] do\n</think>\n\n[2] > [3] = [1]", (1, 0, 2)),
    "rankzephyr": ("[2] > [3] > [1]", (1, 2, 0)),
}


@pytest.mark.parametrize("made", [alpaca, sharegpt, messages], ids=lambda made: made.__name__)
@pytest.mark.parametrize("name", LISTWISE)
def test_lists_are_read_back_out_of_their_prompts(made: Callable[..., Any], name: str, tmp_path: Path) -> None:
    answer, order = LISTWISE[name]
    documents = tuple(text.replace("\n\n", " ") for text in DOCUMENTS)
    path = write(tmp_path / "train.json", [made(shown(name, documents), answer)])

    [only] = read_examples(path, format="llama-factory")

    completion = None if name == "rankzephyr" else answer if answer.startswith("<think>") else f"<think>\n{answer}"
    assert only == Example(QUERY, documents, order=order, completion=completion)
    assert guess(path) == ("rankzephyr" if made is sharegpt else "llama-factory")


@pytest.mark.parametrize(("answer", "score"), [("<think>so</think> true", 1.0), ("not so\n</think>\nfalse.", 0.0)])
def test_rank1s_verdicts_are_the_teachers_scores(answer: str, score: float, tmp_path: Path) -> None:
    instruction, _, asked = shown("rank1", DOCUMENTS[1:2]).partition("\n")
    lines = [{"instruction": instruction, "input": asked, "output": answer}, alpaca(instruction, answer)]
    lines += [{"instruction": instruction, "input": asked, "output": "<think>…</think> perhaps"}]
    path = write(tmp_path / "train.jsonl", lines)

    examples = read_examples(path)
    [only] = examples

    assert (only.query, only.documents, only.scores) == (QUERY, DOCUMENTS[1:2], (score,))
    assert (only.completion or "").startswith("<think>")
    assert (only.completion or "").endswith(answer[-5:])
    assert examples.counts.refused == {"malformed line": 1, "answer without a verdict": 1}
    assert examples.counts.places["answer without a verdict"] == [
        f"{path}:3: answer without a verdict: 'perhaps'; 'true' or 'false' is wanted"
    ]


def test_what_is_no_trace_is_refused_with_its_line_and_counted(tmp_path: Path) -> None:
    good, answer = shown("reasonrank"), LISTWISE["reasonrank"][0]
    rows: list[Any] = [
        alpaca(good, answer),
        alpaca("Write a poem.", answer),
        alpaca(good, answer, history=[["a", "b"]]),
        alpaca(good.replace("I will provide you with 3", "I will provide you with 4"), answer),
        alpaca(good, "<think>…</think> I cannot say."),
        {"instruction": good, "output": None},
        {"instruction": 5, "output": answer},
        {"conversations": [{"from": "human", "value": good}]},
        {"conversations": "none"},
        [1],
        alpaca(good, "<think>…</think> <answer> [2] </answer>"),
    ]
    path = write(tmp_path / "sft.json", rows, indent=1)

    examples = read_examples(path, format="llama-factory")
    first, last = examples

    assert (first.order, last.order) == ((1, 2, 0), (1, 0, 2))
    assert examples.counts.refused == {"malformed line": 8, "order is no permutation": 1}
    assert list(examples.counts.notes.values()) == [1], "what was completed is counted"
    text = path.read_text("utf-8")
    line = text[: text.index('"Write a poem."')].count("\n")  # the brace stands on the line above
    assert examples.counts.places["malformed line"][0].startswith(f"{path}:{line}: malformed line: no prompt of Rank1")
    assert (first.where, last.where) != (f"{path}:2", first.where)


def rewarded(**more: Any) -> dict[str, Any]:
    asked = [{"role": "system", "content": "You rank."}, {"role": "user", "content": shown("reasonrank")}]
    order = "[2] > [3] > [1]"
    return {
        "prompt": asked,
        "label": order,
        "initial_list": ["9", "7", "8"],
        "final_list": ["7", "8", "9"],
        "relevant_docids": ["7"],
        "reward_model": {"ground_truth": order, "style": "rule"},
        "data_source": "ranking",
        **more,
    }


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_reasonranks_rows_for_reinforcement_learning(ending: str, tmp_path: Path) -> None:
    rows = [rewarded(), rewarded(relevant_docids=["1"]), rewarded(initial_list=["9"]), rewarded(prompt=[])]
    path = tmp_path / f"train.{ending}"
    if ending == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        write(path, rows)

    examples = read_examples(path)
    [only] = examples

    assert only == Example(QUERY, DOCUMENTS, (0, 1, 0), order=(1, 2, 0), doc_ids=("9", "7", "8"))
    assert only.where == f"{path}{': row 1' if ending == 'parquet' else ':1'}"
    assert examples.counts.refused == {"unknown document": 1, "other number of labels": 1, "malformed line": 1}
    assert guess(path) == "reasonrank-rl"


def test_all_of_reasonranks_data_finds_its_texts_beside_it(tmp_path: Path) -> None:
    for kind, texts in (("id_query", {"m1": QUERY}), ("id_doc", {"a": "text a", "b": "text b", "c": "text c"})):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "math-qa.json").write_text(json.dumps(texts), "utf-8")
    row = {"dataset": "math-qa", "qid": "m1", "initial_list": ["a", "b", "c"], "final_list": ["c", "a", "b"]}
    row |= {"reasoning": "Okay, so.", "relevant_docids": ["a", "c"]}
    bad = [{"qid": "m2"}, {"initial_list": ["a", "b", "x"]}, {"final_list": ["a", "b"]}, {"reasoning": " "}]
    path = write(tmp_path / "training_data_all.jsonl", [row, *({**row, **one} for one in bad)])

    examples = read_examples(path)
    [only] = examples

    assert only == Example(
        QUERY, ("text a", "text b", "text c"), (1, 0, 1), order=(2, 0, 1), query_id="m1", doc_ids=("a", "b", "c"),
        completion="<think> Okay, so. </think> <answer> [3] > [1] > [2] </answer>",
    )  # fmt: skip
    assert examples.counts.refused == {
        "unknown query": 1, "unknown document": 1, "order is no permutation": 1, "empty completion": 1
    }  # fmt: skip
    write(tmp_path / "training_data_all.jsonl", [{**row, "dataset": "other"}])
    with pytest.raises(
        FileError, match=r"cannot read .*id_query/other.json: .*; ReasonRank's id_query and id_doc stand"
    ):
        list(read_examples(path))


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_read_element_by_element_whatever_its_lines(
    indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_records, "CHUNK", 7)
    rows = [{"a": "é" * 20, "b": [1, {"c": None}]}, {"a": "two\nlines ]"}, 35, {"a": ""}]
    plain = write(tmp_path / "rows.json", rows, indent=indent, ensure_ascii=False)
    zipped = tmp_path / "rows.json.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))

    for path in (plain, zipped):
        found = list(records(path))
        assert [value for _, value in found if isinstance(value, dict)] == [rows[0], rows[1], rows[3]]
        assert str(found[2][1]).endswith("malformed line: no JSON object: '35'")
    text = plain.read_text("utf-8")
    lines = [int(where.rpartition(":")[2]) for where, _ in records(plain)]
    assert lines == ([1] * 4 if indent is None else [2, text[: text.index('"two')].count("\n"), 14, 15])


def test_what_others_publish_as_lines_may_be_a_list_or_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    flag, columns = {"query": "q", "pos": ["a"], "neg": ["b"]}, {"anchor": "q", "positive": "a", "negative": "b"}
    write(tmp_path / "flag.json", [flag], indent=2)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([columns]), tmp_path / "columns.parquet")

    expected = [Example("q", ("a", "b"), (1, 0))]
    assert list(read_examples(tmp_path / "flag.json")) == expected
    assert list(read_examples(tmp_path / "columns.parquet")) == expected


def test_a_broken_element_ends_the_reading_before_the_rest_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_records, "CHUNK", 64)
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a": 1},\n{"b": oops},\n' + b" " * 500 + b"\xff]")  # whose end is no UTF-8

    with pytest.raises(FileError, match=r"rows\.json:2: no JSON \(Expecting value"):
        list(records(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1}, {"b"', ":1: no JSON"),
        ('[{"a": 1},\n', ":2: the list breaks off"),
        ('[{"a": 1}]\n\n[{"a": 2}]', ":3: more stands behind the list"),
        ("[1 2]\n", None),
    ],
)
def test_a_list_that_breaks_off_is_an_error_with_its_line(text: str, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(text, "utf-8")

    if said is None:
        assert len(list(records(tmp_path / "rows.json"))) == 2
    else:
        with pytest.raises(FileError, match=f"rows.json{said}"):
            list(records(tmp_path / "rows.json"))


def test_a_reasoner_reads_what_was_read(smollm: Path, tmp_path: Path) -> None:
    """From the file to the tokens of a student: the thought is trained on once, and `<think>` is not doubled."""
    instruction, _, asked = shown("rank1", DOCUMENTS[1:2]).partition("\n")
    row = {"instruction": instruction, "input": asked, "output": "birds do\n</think> true"}
    path = write(tmp_path / "train.json", [row])
    write_arrow(read_examples(path, needs=["completion"]), tmp_path / "arrow")
    student = Reasoner(tiny_lm(tmp_path / "lm", smollm), prompt="rank1", max_tokens=400, new_tokens=64)

    [example] = read_examples(tmp_path / "arrow")
    written = student.tokenizer.decode(student.completion(example))

    assert written.startswith("\nbirds do\n</think> true")
    assert "<think>" not in written


def test_from_the_command_line(tmp_path: Path) -> None:
    from click.testing import CliRunner

    path = write(tmp_path / "sft.json", [alpaca(shown("reasonrank"), LISTWISE["reasonrank"][0]), alpaca("a", "b")])

    ran = CliRunner().invoke(main, ["examples", str(path), "--output", str(tmp_path / "out.jsonl")])

    assert ran.exit_code == 0, ran.output
    assert "1 examples, 3 documents; 1 with order, 1 with completion" in ran.output
    assert f"refused 1: malformed line (first: {path}:1: malformed line: no prompt of Rank1" in ran.output
    listed = CliRunner().invoke(main, ["list", "formats"]).output
    assert all(name in listed for name in ("llama-factory", "reasonrank", "reasonrank-rl", "rankzephyr"))
