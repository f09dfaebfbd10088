"""Methods by name: presets of algorithm, judge, prompt and options; and options, wherever they come from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from judge_models import DOCUMENTS, QUERY

from rerank import Reranker, checkpoints, methods, prompts, registry
from rerank.algorithms.adaptive import Adjacency
from rerank.errors import ConfigError, InputError, UnknownName
from rerank.judges.choosing import ASKS, answered, check_fit, check_options, keywords
from rerank.judges.fake import Oracle
from rerank.pipeline import Pipeline
from rerank.questions import Permute, Pick
from rerank.rerankers.options import ARGUMENTS, check_asking, shared_out
from rerank.rerankers.recipe import recipe_of
from rerank.types import Document, Query, Ranking

NAMES = methods.names()
ENTRIES = checkpoints.names()


def parts_of(preset: Any) -> tuple[Any, type]:
    return registry.load("algorithm", preset.algorithm), registry.load("judge", preset.judge)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_holds_together(name: str) -> None:
    method = methods.find(name)
    algorithm, judge = parts_of(method)

    asking, answering = shared_out(method.options, {}, algorithm, judge)  # refuses what nobody takes
    graph = {"graph": Adjacency([], {})} if "graph" in keywords(algorithm.plan) else {}  # its file cannot name one
    check_asking(algorithm, {**asking, **graph})
    check_fit(algorithm, answered(judge, method.prompt or None), method.judge)
    check_options(method.judge, judge, {**answering, **({"prompt": method.prompt} if method.prompt else {})})
    if method.prompt:
        assert ASKS[prompts.find(method.prompt).asks] in judge.answers


@pytest.mark.parametrize("name", [name for name in ENTRIES if checkpoints.find(name).checkpoint.judge])
def test_a_checkpoints_file_holds_together(name: str) -> None:
    entry = checkpoints.find(name).checkpoint
    assert entry is not None
    algorithm, judge = parts_of(entry)

    asking, answering = shared_out(entry.options, {}, algorithm, judge)
    check_asking(algorithm, asking)
    check_fit(algorithm, answered(judge, entry.prompt or None), entry.judge)
    check_options(entry.judge, judge, {**answering, **({"prompt": entry.prompt} if entry.prompt else {})})


def test_no_name_means_two_things() -> None:
    spellings = [spelling for name in NAMES for spelling in (name, *methods.find(name).also)]

    assert len(spellings) == len(set(spellings))
    for spelling in spellings:
        with pytest.raises(UnknownName):
            checkpoints.find(spelling)


@pytest.mark.parametrize("kind", ["algorithm", "judge"])
def test_the_type_of_every_option_is_known(kind: str) -> None:
    for name in registry.names(kind):
        maker = registry.load(kind, name)
        takes = keywords(maker.plan if kind == "algorithm" else maker)

        assert all(not isinstance(one.annotation, str) for one in takes.values()), name
        assert all(one.annotation is not inspect.Parameter.empty for one in takes.values()), name


def test_the_arguments_of_a_reranker_are_those_that_judges_are_given() -> None:
    assert set(ARGUMENTS) <= set(inspect.signature(Reranker).parameters)


ORDER = {str(index): index * 7 % 23 for index in range(23)}
SOME = Ranking.unscored(Query("q", "words"), [Document(doc_id, f"text {doc_id}") for doc_id in ORDER])


class Listening(Oracle):
    """An oracle that remembers how many documents each question showed."""

    def __init__(self, qrels: Any) -> None:
        super().__init__(qrels)
        self.shown: list[int] = []

    def answer(self, questions: Any, bill: Any) -> Any:
        self.shown += [len(one.documents) for one in questions if isinstance(one, Pick | Permute)]
        return super().answer(questions, bill)


def test_a_method_is_asked_as_it_says_with_any_judge_that_can_answer_it() -> None:
    judge = Listening({"q": ORDER})
    reranker = Reranker("setwise-heapsort", judge=judge, head=3, options={"children": 4})

    [ranking] = reranker.rerank([SOME])

    best = sorted(ORDER, key=lambda doc_id: -ORDER[doc_id])[:3]
    assert [document.doc_id for document in ranking.documents[:3]] == best
    assert max(judge.shown) == 5
    assert reranker.ledger.notes["method"] == "setwise-heapsort"
    assert reranker.ledger.notes["algorithm"] == "setwise-heapsort(children=4,head=3,seed=0,shuffle=False,votes=1)"
    assert repr(reranker) == (
        "<Reranker setwise-heapsort(listening,children=4,head=3): setwise-heapsort(children=4,head=3) with Listening>"
    )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, [20, 13]),
        ({"window": 10, "step": 5}, [10, 10, 10, 8]),
        ({"options": {"window": 10, "step": 10}}, [10, 10, 3]),
        ({"window": 23}, [23]),
    ],
)
def test_window_and_step_have_names_of_their_own(arguments: dict[str, Any], shown: list[int]) -> None:
    judge = Listening({"q": ORDER})

    Reranker("rankgpt", judge=judge, **arguments).rerank([SOME])

    assert judge.shown == shown


def test_what_scores_mean_contains_the_options_and_not_the_defaults() -> None:
    judge = Oracle({"q": ORDER})
    usual = Reranker(judge=judge, algorithm="heapsort").scores_key

    assert Reranker(judge=judge, algorithm="heapsort", head=10).scores_key == usual
    assert Reranker(judge=judge, algorithm="heapsort", head=9).scores_key == usual + "(head=9)"
    assert Reranker(judge=judge, algorithm="heapsort", head=9).options == {"head": 9}


def test_a_random_choice_follows_its_seed_which_the_ledger_shows() -> None:
    rankers = [Reranker("jointrank", judge=Oracle({"q": {}}), options={"seed": seed}) for seed in (1, 1, 2)]
    orders = [reranker.rerank([SOME])[0].documents for reranker in rankers]

    assert orders[0] == orders[1] != orders[2]
    assert "seed=2" in rankers[2].ledger.notes["algorithm"]


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        (
            "prp-heapsort",
            {},
            "'prp-heapsort' says how a model is asked, and not which: give model= a checkpoint",
        ),
        ("prp-heapsrt", {}, "no method is called 'prp-heapsrt'; did you mean 'prp-heapsort'"),
        ("prp", {"model": "LM"}, "no method is called 'prp'"),
        (
            "monobert",
            {"model": "LM"},
            "'monobert' asks checkpoints of kind cross-encoder, and .* of kind causal",
        ),
        ("rankllama", {"model": "LM"}, "asks checkpoints of kind score-head, and .* is of kind causal"),
        ("setwise", {"model": "LM", "options": {"childern": 3}}, "take no option 'childern'; did you mean 'children'"),
        (
            "setwise",
            {"model": "LM", "options": {"beam": 3}},
            "no option 'beam'; setwise-heapsort takes children, head, seed, shuffle, votes, its judge .*mode",
        ),
        (
            "yes-no",
            {"model": "LM", "window": 3},
            "no option 'window'; pointwise takes none, its judge choose, ",
        ),
        ("setwise", {"model": "LM", "options": {"children": "3"}}, "option 'children' is '3'; it must be of type int"),
        ("setwise", {"model": "LM", "options": {"children": 99}}, "children=99; a question has from 1 to 25"),
        ("rankgpt", {"model": "LM", "window": 1}, "a window of 1 moving 10 at a time would skip documents"),
        (
            "rankgpt",
            {"model": "LM", "options": {"max_tokens": 9}},
            "max_tokens is no option but an argument",
        ),
        (
            "setwise",
            {"model": "LM", "head": 3, "options": {"head": 4}},
            "head is given twice: as 3, and in options",
        ),
        ("setwise", {"model": "LM", "options": ["head"]}, "give a mapping of names to values"),
        ("setwise", {"model": "LM", "algorithm": "quicksort"}, "quicksort asks Compare, and Choice answers only Pick"),
        ("LM", {"prompt": "setwise", "options": {"mode": 3}}, "option 'mode' is 3; it must be of type str"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_a_model_is_loaded(
    lm: Path, name: str, arguments: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerank.judges.prompted.loaded_text_model", None)
    places = {"LM": lm}
    said = {key: places.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}

    with pytest.raises((InputError, UnknownName), match=complaint) as caught:
        Reranker(places.get(name, name), **said)

    assert "\n" not in str(caught.value)
    if "LM" in (name, arguments.get("model")):  # and as soon as a pipeline or a command is read
        with pytest.raises((InputError, UnknownName), match=complaint):
            Reranker.check(places.get(name, name), **said)


@pytest.mark.parametrize("options", [{"mode": "generation"}, {"new_tokens": 3, "mode": "generation"}])
def test_options_reach_the_judge(lm: Path, options: Mapping[str, Any]) -> None:
    reranker = Reranker("setwise", model=lm, options=options, head=1)

    reranker.rank(QUERY, DOCUMENTS)

    assert reranker.ledger.notes["mode"] == "generation"
    assert reranker.judge.new_tokens == options.get("new_tokens", 8)  # type: ignore[attr-defined]
    assert "mode=generation" in repr(reranker)


WRITERS = ("rank1", "interank", "rank-r1", "rank-r1-v0.2", "rank-k", "reasonrank", "rearank", "grouprank", "iranker")
SMALL = {"rankmistral100": {}, "pairs": {"beam": 3}} | {name: {"new_tokens": 8} for name in WRITERS}
ASKED = [
    (name, kind)
    for name in NAMES
    for kind in ("causal", "encoder-decoder")
    if kind in methods.find(name).wants and methods.find(name).prompt not in ("bge-gemma", "rankt5", "qwen3-reranker")
]


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations, for methods that show some."""
    path = tmp_path_factory.mktemp("solved") / "solved.jsonl"
    names = ("Rome", "Oslo")
    shown = [{"query": f"what is {name}?", "better": f"{name} is a city", "worse": "a river"} for name in names]
    path.write_text("".join(json.dumps(each) + "\n" for each in shown))
    return path


@pytest.mark.parametrize(("name", "kind"), ASKED)
def test_every_method_reranks(name: str, kind: str, lm: Path, t5: Path, solved: Path) -> None:
    prompt = methods.find(name).prompt
    shows = bool(prompt) and prompts.find(prompt).shows_demonstrations
    options = {**SMALL.get(name, {}), **({"demonstrations": solved} if shows else {})}
    with Reranker(name, model=lm if kind == "causal" else t5, options=options) as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)

    assert sorted(document.doc_id for document in ranking.documents) == ["a", "b", "c"]
    assert reranker.ledger.total["flops"] > 0


def test_a_method_takes_a_cross_encoder(minilm: Path) -> None:
    by_method, by_itself = Reranker("monobert", model=minilm), Reranker(minilm)

    assert by_method.rank(QUERY, DOCUMENTS) == by_itself.rank(QUERY, DOCUMENTS)
    assert by_method.scores_key == by_itself.scores_key


def test_the_targets_of_a_checkpoint_go_with_its_own_prompt(monkeypatch: pytest.MonkeyPatch, t5: Path) -> None:
    monkeypatch.setattr(checkpoints, "fetch", lambda name: t5)
    same, other = (recipe_of(name, {"model": "unicamp-dl/mt5-base-mmarco-v2"}) for name in ("monot5", "yes-no"))

    assert same.answering["targets"] == ("▁yes", "▁no")
    assert "targets" not in other.answering


def test_a_pipelines_file_names_a_method(tmp_path: Path, lm: Path) -> None:
    text = f'[[stage]]\nreranker = "setwise"\nmodel = "{lm}"\nhead = 2\noptions = {{"children" = 1}}\n'
    (tmp_path / "mine.toml").write_text(text)

    pipeline = Pipeline.load(tmp_path / "mine.toml")

    [step] = pipeline.steps
    assert step.stage.recipe.asking == {"head": 2, "children": 1}
    assert step.stage.recipe.method == "setwise-heapsort"
    (tmp_path / "again.toml").write_text(pipeline.dump())
    assert Pipeline.load(tmp_path / "again.toml").dump() == pipeline.dump()


def test_a_slip_in_an_option_of_a_pipelines_file_names_the_stage(tmp_path: Path, lm: Path) -> None:
    text = f'[[stage]]\nreranker = "setwise"\nmodel = "{lm}"\noptions = {{childern = 1}}\n'
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(ConfigError, match=r"mine\.toml: stage 1: .* no option 'childern'; did you mean 'children'"):
        Pipeline.load(tmp_path / "mine.toml")
