"""Pipelines: what % and >> mean, and the same in TOML."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import registry
from rerank.datasets import Dataset
from rerank.errors import ConfigError, FileError, InputError, UnknownName
from rerank.judges.fake import Oracle
from rerank.pipeline import DEFAULT_CUTOFF, Pipeline, Reranks, Retriever, Stage, Step
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking

CONFIGS = Path(__file__).parents[2] / "configs"

DOCUMENTS = [Document(str(number), f"text {number}") for number in range(10)]
QUERY = Query("q", "anything")


class Counting(Stage):
    """Retrieves 0, 1, 2 …"""

    name = "counting"

    def __init__(self, documents: Sequence[Document] = DOCUMENTS) -> None:
        self.documents, self.calls = documents, []

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]]
    ) -> list[Ranking]:
        self.calls.append((len(queries), cutoff, exclude))
        return [
            Ranking.by_score(query, self.documents, range(10, 10 - len(self.documents), -1))[:cutoff]
            for query in queries
        ]


class Backwards(Stage):
    """Turns rankings round; scores by the new place."""

    name = "backwards"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        self.seen.append(len(rankings))
        return [Ranking.by_score(each.query, each.documents[::-1], range(len(each), 0, -1)) for each in rankings]


def ids(ranking: Ranking) -> str:
    return "".join(document.doc_id for document in ranking.documents)


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        (Counting() % 4, "0123"),
        (Counting() >> Backwards(), "9876543210"),
        (Counting() % 4 >> Backwards(), "3210"),
        (Counting() % 4 >> Backwards() % 2, "32"),  # the reader is the next stage
        (Counting() % 4 >> Backwards() % 9, "3210"),
        (Counting() % 6 >> Backwards() % 2 >> Backwards(), "453210"),  # 4 and 5 again; the others stay below
        (Counting() % 6 >> Backwards() % 2 >> Backwards() % 4, "4532"),
        (Counting() % 6 >> Backwards() % 9 >> Backwards(), "012345"),
        (Counting() % 8 >> Backwards() % 6 >> Backwards() % 3 >> Backwards(), "43256710"),
    ],
    ids=str,
)
def test_a_stage_hands_on_its_best_and_the_others_stay_below(pipeline, expected):
    assert ids(pipeline.search(QUERY)) == expected


def test_what_a_stage_did_not_see_it_did_not_score():
    ranking = (Counting() % 4 >> Backwards() % 2 >> Backwards()).search(QUERY)

    assert [candidate.score for candidate in ranking] == [2, 1, None, None]


def test_a_stage_that_fetches_a_document_from_below_takes_it_up():
    class Fetching(Stage):
        def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
            return [each.then([DOCUMENTS[1]]) for each in rankings]

    assert ids((Counting() % 4 >> Backwards() % 1 >> Fetching()).search(QUERY)) == "3120"


def test_a_document_that_a_stage_dropped_stays_away():
    class Dropping(Stage):
        def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
            return [each[1:] for each in rankings]

    assert ids((Counting() % 4 >> Backwards() % 2 >> Dropping()).search(QUERY)) == "210"


def test_every_stage_runs_once_over_all_queries_that_found_something():
    class Choosy(Counting):
        def retrieve(self, queries, cutoff, *, exclude):
            rankings = super().retrieve(queries, cutoff, exclude=exclude)
            return [Ranking(each.query) if each.query.text == "nothing" else each for each in rankings]

    retriever, reranker = Choosy(), Backwards()
    queries = [Query("1", "a"), Query("2", "nothing"), Query("3", "b")]

    rankings = (retriever % 2 >> reranker).run(queries, exclude={"1": ["5"]})

    assert [ids(ranking) for ranking in rankings] == ["10", "", "10"]
    assert [ranking.query for ranking in rankings] == queries
    assert retriever.calls == [(3, 2, {"1": ["5"]})]
    assert reranker.seen == [2]


def test_nothing_is_asked_when_nothing_was_found():
    reranker = Backwards()

    assert (Counting([]) >> reranker).run([QUERY]) == [Ranking(QUERY)]
    assert reranker.seen == []


def test_a_retriever_retrieves_a_thousand_unless_told():
    retriever = Counting()

    (retriever >> Backwards()).run([QUERY])

    assert retriever.calls[0][1] == DEFAULT_CUTOFF == 1000


def test_rerankers_alone_rerank_rankings():
    pipeline = Backwards() % 3 >> Backwards()
    rankings = [Ranking.unscored(QUERY, DOCUMENTS[:5])]

    assert ids(pipeline.rerank(rankings)[0]) == "23410"
    assert isinstance(pipeline, Reranks)


STAGES = st.lists(st.integers(1, 12), max_size=4).map(lambda cutoffs: [Backwards() % cutoff for cutoff in cutoffs])


@given(first=st.integers(1, 12), rest=STAGES, data=st.data())
def test_joining_is_associative(first, rest, data):
    parts: list[Pipeline] = [Counting() % first, *rest]
    flat = parts[0]
    for part in parts[1:]:
        flat = flat >> part

    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [parts[at] >> parts[at + 1]]

    assert parts[0] == flat
    assert parts[0].search(QUERY) == flat.search(QUERY)


@given(first=st.integers(1, 12), rest=STAGES)
def test_nothing_is_lost_or_doubled_on_the_way(first, rest):
    pipeline = Counting() % first
    for part in rest:
        pipeline = pipeline >> part

    found = ids(pipeline.search(QUERY))

    last = pipeline.steps[-1].cutoff
    assert sorted(found) == sorted(set(found))
    assert set(found) <= set("0123456789"[:first])
    assert len(found) == min(first, last, 10)


def test_cutting_twice_keeps_the_smaller():
    assert (Counting() % 3 % 5).steps[0].cutoff == 3
    assert ids(((Counting() % 5 >> Backwards() % 4) % 2).search(QUERY)) == "43"


def test_a_cutoff_may_be_numpys():
    assert ids((Counting() % np.int64(3)).search(QUERY)) == ids((Counting() % 3).search(QUERY))


@pytest.mark.parametrize("cutoff", [0, -3, 2.0, "20", True, None, np.int64(0), np.float64(2)])
def test_a_cutoff_is_a_whole_number_above_zero(cutoff):
    for stage in (Counting(), Counting() % 5):
        with pytest.raises(InputError, match="counting: the cutoff is "):
            stage % cutoff


def test_what_cannot_stand_in_a_pipeline_is_refused():
    with pytest.raises(InputError, match="neither `retrieve` nor `rerank`"):
        Counting() >> "reranker"
    with pytest.raises(InputError, match="stands behind another stage in backwards >> counting % 3"):
        Backwards() >> Counting() % 3
    with pytest.raises(InputError, match="at least one stage"):
        Pipeline(())


def test_run_wants_a_retriever_and_rerank_wants_none():
    with pytest.raises(InputError, match="has no retriever"):
        (Backwards() >> Backwards()).run([QUERY])
    with pytest.raises(InputError, match="begins with a retriever"):
        (Counting() >> Backwards()).rerank([])


def test_two_queries_with_one_id_are_refused():
    with pytest.raises(InputError, match="'q' occurs 2 times"):
        (Counting() % 3).run([QUERY, QUERY])


def test_a_pipeline_reads_as_it_is_written():
    pipeline = Counting() % 100 >> Backwards() % 20 >> Backwards()

    assert pipeline.name == "counting % 100 >> backwards % 20 >> backwards"
    assert repr(pipeline) == f"<Pipeline {pipeline.name}>"


def test_rerankers_join_by_the_same_signs_and_their_ledgers_are_kept():
    reranker = Reranker(judge=Oracle({"q": {"2": 1, "3": 2}}))

    pipeline = Counting() % 4 >> reranker % 2

    assert ids(pipeline.search(QUERY)) == "32"
    [(name, ledger)] = pipeline.ledgers
    assert name == reranker.name
    assert ledger.total["questions"] == 4


class Configured(Backwards):
    """What the file makes of `reranker = …`."""

    def __init__(
        self, name: str, *, max_tokens: int | None = None, depth: float = 0.5, note: str = 'a\x7f"\\\n\u2028é'
    ) -> None:
        super().__init__()
        self.name, self.options = name, (max_tokens, depth, note)


class Collected(Counting):
    """What the file makes of `retriever = "bm25"`."""

    @classmethod
    def of(cls, dataset: list[Document], *, b: float = 0.4, fast: bool = True) -> Collected:
        made = cls(dataset)
        made.options = (b, fast)
        return made


@pytest.fixture
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fakes = registry.load, {("stage", "reranker"): Configured, ("retriever", "bm25"): Collected}
    monkeypatch.setattr(registry, "load", lambda kind, name: fakes.get((kind, name)) or real(kind, name))


TOML = """
[[stage]]
retriever = "bm25"
cutoff = 6
b = 0.75

[[stage]]
reranker = "cross-encoder/some-model"
max_tokens = 256
cutoff = 2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.usefixtures("_fakes")
def test_a_file_makes_the_pipeline_it_describes(path):
    path.write_text(TOML)

    pipeline = Pipeline.load(path, DOCUMENTS)

    assert pipeline.name == "counting % 6 >> cross-encoder/some-model % 2"
    assert [step.stage.options for step in pipeline.steps] == [(0.75, True), (256, 0.5, Configured("x").options[2])]
    assert ids(pipeline.search(QUERY)) == "54"


@pytest.mark.usefixtures("_fakes")
def test_a_dumped_pipeline_says_its_defaults_and_loads_as_the_same(path):
    path.write_text('[[stage]]\nretriever = "bm25"\n[[stage]]\nreranker = "a"\ndepth = inf\n')
    pipeline = Pipeline.load(path, DOCUMENTS)

    path.write_text(pipeline.dump())

    again = Pipeline.load(path, DOCUMENTS)
    assert "cutoff = 1000\n" in path.read_text()
    assert "fast = true\n" in path.read_text()
    assert again.name == pipeline.name
    assert [step.stage.options for step in again.steps] == [step.stage.options for step in pipeline.steps]
    assert again.dump() == pipeline.dump()


def test_a_pipeline_made_in_python_cannot_be_dumped():
    with pytest.raises(InputError, match="counting was made in Python"):
        (Counting() % 3).dump()


@pytest.mark.usefixtures("_fakes")
@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", ConfigError, r"one or more \[\[stage\]\] tables"),
        ("[stage]\nretriever = 'bm25'", ConfigError, r"one or more \[\[stage\]\] tables"),
        ("stage = [1]", ConfigError, "stage 1 is 1; it must be a table"),
        ("[[stages]]", ConfigError, "no key is called 'stages'; did you mean 'stage'"),
        ("[[stage]]\nretreiver = 'bm25'", ConfigError, "stage 1: a stage has a key 'retriever', 'reranker' or 'step'"),
        ("[[stage]]\nretriever = 'bm25'\nreranker = 'a'", ConfigError, "no more than one"),
        ("[[stage]]\nreranker = 3", ConfigError, "stage 1: reranker is 3; it must be a name"),
        ("[[stage]]\nretriever = 'bm52'", UnknownName, "no retriever is called 'bm52'; did you mean 'bm25'"),
        ("[[stage]]\nretriever = 'bm25'\ncutof = 3", ConfigError, "no option is called 'cutof'; did you mean 'cutoff'"),
        ("[[stage]]\nreranker = 'a'\nmax_token = 3", ConfigError, "'max_token'; did you mean 'max_tokens'"),
        ("[[stage]]\nreranker = 'a'\nname = 'b'", ConfigError, "no option is called 'name'"),
        ("[[stage]]\nretriever = 'saved'", ConfigError, "the option 'path' is missing"),
        ("[[stage]]\nretriever = 'bm25'\ncutoff = 0", InputError, "bm25: the cutoff is 0"),
        ("[[stage]]\nreranker = 'a'\ncutoff = '5'", InputError, "a: the cutoff is '5'"),
        ("[[stage]", FileError, "is no TOML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_clear_error(path, text, kind, message):
    path.write_text(text)

    with pytest.raises(kind, match=message):
        Pipeline.load(path, DOCUMENTS)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("reranker = 'a'\nmax_tokens = '64'", "reranker 'a': max_tokens is '64'; it must be of type int"),
        ("reranker = 'a'\nmax_tokens = [1]", "max_tokens is [1]; it must be of type int"),
        ("reranker = 'a'\nmax_tokens = 64.5", "max_tokens is 64.5; it must be of type int"),
        ("reranker = 'a'\nmax_tokens = true", "max_tokens is True; it must be of type int"),
        ("reranker = 'a'\ntoken_budget = 'x'", "token_budget is 'x'; it must be of type int"),
        ("reranker = 'a'\ntoken_budget = 1.5", "token_budget is 1.5; it must be of type int"),
        ("reranker = 'a'\ndtype = 3", "dtype is 3; it must be of type str"),
        ("reranker = 'a'\nalgorithm = 3", "algorithm is 3; it must be of type str"),
        ("reranker = 'a'\nalgorithm = {name = 'x'}", "algorithm is {'name': 'x'}; it must be of type str"),
        ("reranker = 'a'\njudge = 3", "judge is 3; it must be of type str"),
        ("reranker = 'a'\njournal = 3", "journal is 3; it must be of type str or Path"),
        ("reranker = 'a'\njudge = 'oracle'", "an oracle needs judgments, not a checkpoint"),
        ("reranker = 'a'\njudge = 'cross-coder'", "no judge is called 'cross-coder'; did you mean 'cross-encoder'"),
        ("reranker = 'a'\nalgorithm = 'pointwize'", "no algorithm is called 'pointwize'; did you mean 'pointwise'"),
        ("retriever = 'bm25'\nindex = 3", "retriever 'bm25': index is 3; it must be of type str or Path"),
        ("retriever = 'bm25'\nk1 = '1'", "k1 is '1'; it must be of type float"),
        ("retriever = 'saved'\npath = 3", "retriever 'saved': path is 3; it must be of type str or Path"),
    ],
)  # fmt: skip
def test_an_option_of_a_wrong_type_is_one_clear_error(path, stage, message):
    path.write_text(f"[[stage]]\n{stage}\n")

    with pytest.raises((ConfigError, UnknownName), match="stage 1: ") as refusal:
        Pipeline.load(path, DOCUMENTS)

    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("_fakes")
def test_a_whole_number_will_do_for_a_fraction(path):
    path.write_text("[[stage]]\nretriever = 'bm25'\nb = 1\n")

    [step] = Pipeline.load(path, DOCUMENTS).steps

    assert repr(step.stage.options) == "(1.0, True)"


@pytest.mark.usefixtures("_fakes")
def test_a_stage_that_needs_a_dataset_says_so(path):
    path.write_text(TOML)

    with pytest.raises(ConfigError, match=r"mine\.toml: stage 1: retriever 'bm25' needs a dataset"):
        Pipeline.load(path)


def test_a_missing_file_is_one_clear_error(path):
    with pytest.raises(FileError, match=r"mine\.toml"):
        Pipeline.load(path)


def test_the_real_bm25_comes_from_a_file(tmp_path, path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "1", "text": "one fish"}) + "\n")
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "fishes"}) + "\n")
    path.write_text('[[stage]]\nretriever = "bm25"\ncutoff = 5\nk1 = 1.2\n')
    dataset = Dataset.load(tmp_path)

    pipeline = Pipeline.load(path, dataset)

    assert pipeline.name == "bm25 % 5"
    assert ids(pipeline.run(dataset.queries)[0]) == "1"
    assert {"k1 = 1.2", "b = 0.4", 'stemmer = "porter"', "cutoff = 5"} <= set(pipeline.dump().splitlines())


def in_place_of(real, stage):
    """Takes the arguments of the real thing and makes the stage."""
    return wraps(real)(lambda *_, **__: stage)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_example_configurations_are_pipelines(path, monkeypatch):
    load = registry.load
    made = {name: getattr(load("retriever", name), "of", None) for name in registry.names("retriever")}
    firsts = {name: in_place_of(maker, Counting()) for name, maker in made.items() if maker is not None}
    fakes = {"reranker": in_place_of(Reranker, Backwards()), **firsts}
    monkeypatch.setattr(registry, "load", lambda kind, name: fakes.get(name) or load(kind, name))

    assert Pipeline.load(path, DOCUMENTS).steps[0].retrieves


def test_stages_are_told_apart_by_what_they_do():
    assert isinstance(Counting(), Retriever)
    assert not isinstance(Backwards(), Retriever)
    assert str(Step(Backwards(), 3)) == "backwards % 3"
