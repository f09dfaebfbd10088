"""Every method from the command line, over a tiny checkpoint of a kind that it asks; and one of each kind in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fusion_models import fit5_folder
from judge_models import tiny_lm, tiny_t5
from multi_vector_models import backbone, stanford
from published_models import jina, kalm, layer_wise, pe_rank, score_encoder, tilde_v2
from set_models import CASES, written
from small_folders import bert

from rerank import methods, prompts
from rerank.datasets import Dataset
from rerank.io import read_run
from retrievers.bm25 import BM25
from retrievers.graph import CorpusGraph

pytestmark = pytest.mark.filterwarnings("ignore")

REAL = {
    "late-interaction": "minilm",
    "encoder": "minilm",
    "term-weights": "minilm",
    "encoder-decoder": "flan",
    "fusion-in-t5": "flan",
}
"""Whose tokenizer a kind has, where it is not SmolLM2's."""

HEAD = {"architectures": ["T5EncoderForSequenceClassification"]}
MAKERS: Mapping[str, Callable[[Path, Path], Any]] = {
    "causal": tiny_lm,
    "score-head": lambda folder, real: tiny_lm(folder, real, head="AutoModelForSequenceClassification", num_labels=1),
    "encoder-decoder": tiny_t5,
    "encoder-head": lambda folder, real: score_encoder(folder, real, "classifier", HEAD, True, 1),
    "fusion-in-t5": fit5_folder,
    "layer-wise": lambda folder, real: layer_wise(folder, real, "minicpm"),
    "listwise-embedding": jina,
    "t5gemma2": kalm,
    "passage-embedding": pe_rank,
    "late-interaction": stanford,
    "encoder": backbone,
    "term-weights": tilde_v2,
    "cross-encoder": lambda folder, real: bert(folder),
    "set-encoder": lambda folder, real: written(CASES[0], folder),
}

SHORT = "new_tokens=8"
WRITERS = ("rank1", "interank", "rank-r1", "rank-r1-v0.2", "rank-k", "reasonrank", "rearank", "grouprank", "iranker")
QUICK = {"split": ["split=1"], "tourrank": ["tournaments=2"]} | {name: [SHORT] for name in WRITERS}
"""Options, so that models with three layers and random weights can be asked, quickly."""

PIPED = (
    "monobert", "duobert", "bert-qe", "uncertain-cross-encoder", "set-encoder", "colbert", "tildev2", "layer-wise",
    "last-but-not-late", "fast-but-not-late", "gar", "ladr-adaptive", "fit5", "lit5-score", "listt5", "rankllama",
    "rankt5-encoder", "grouprank", "asrank", "parade", "pe-rank",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """A method -> a folder of the first kind that it asks and that is made here, made once."""
    root = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def folder(method: str) -> Path:
        kind = next(kind for kind in methods.find(method).wants if kind in MAKERS)
        if kind not in made:
            MAKERS[kind](root / kind, request.getfixturevalue(REAL.get(kind, "smollm")))
            made[kind] = root / kind
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of two queries and three documents, and a run of all of them."""
    folder = tmp_path_factory.mktemp("cities")
    texts = ("berlin has three million people", "the wall of art", "new york is far away")
    queries = [f"how many people live in {city}?" for city in ("berlin", "new york")]
    for name, prefix, lines in (("corpus", "d", texts), ("queries", "q", queries)):
        records = [{"_id": f"{prefix}{number}", "text": text} for number, text in enumerate(lines)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td2\t1\n")
    ranks = [f"q{query} Q0 d{rank} {rank + 1} {9 - rank} first" for query in range(2) for rank in range(3)]
    (folder / "first.trec").write_text("\n".join(ranks) + "\n")
    return folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, cities: Path) -> Path:
    """A graph of the three documents."""
    folder = tmp_path_factory.mktemp("graph")
    index = BM25.build(Dataset.load(cities).documents(), folder / "index")
    CorpusGraph.build(index, folder / "graph", neighbours=2)
    return folder / "graph"


@pytest.fixture(scope="module")
def options_of(
    tmp_path_factory: pytest.TempPathFactory, folder_of: Callable[[str], Path], graph: Path
) -> Callable[[str], list[str]]:
    """What a method needs that its file cannot say, and what makes it quick, as NAME=VALUE."""
    solved = tmp_path_factory.mktemp("solved") / "solved.jsonl"
    shown = [
        {"query": f"what is {city}?", "better": f"{city} is a city", "worse": "a river"} for city in ("Rome", "Oslo")
    ]
    solved.write_text("".join(json.dumps(each) + "\n" for each in shown))

    def options(name: str) -> list[str]:
        method = methods.find(name)
        shows = bool(method.prompt) and prompts.find(method.prompt).shows_demonstrations
        written = [f"writer={folder_of('monot5')}", SHORT] if name == "asrank" else []
        walked = [f"graph={graph}"] if name in ("gar", "ladr", "ladr-adaptive") else []
        return [*QUICK.get(name, []), *written, *walked, *([f"demonstrations={solved}"] if shows else [])]

    return options


ALL = {query: ["d0", "d1", "d2"] for query in ("q0", "q1")}


@pytest.mark.parametrize("name", methods.names())
def test_a_method_reranks_from_the_command_line(
    name: str, command: Any, folder_of: Any, options_of: Any, cities: Path, tmp_path: Path
) -> None:
    asked = [word for option in options_of(name) for word in ("--set", option)]
    asked += ["--model", folder_of(name), "--method", name, "--output", tmp_path / "reranked.trec"]

    result = command("rerank", "--dataset", cities, "--run", cities / "first.trec", *asked, "--no-journal", "--json")

    assert result.exit_code == 0, result.output
    assert {query: sorted(found) for query, found in read_run(tmp_path / "reranked.trec").items()} == ALL
    answer = json.loads(result.stdout)
    assert answer["method"] == name
    assert answer["ledger"]["questions"] > 0


def test_methods_of_every_kind_follow_each_other_in_a_pipelines_file(
    command: Any, folder_of: Any, options_of: Any, cities: Path, tmp_path: Path
) -> None:
    stages = [f'[[stage]]\nretriever = "saved"\npath = "{cities / "first.trec"}"\n']
    for name in PIPED:
        said = [option.partition("=") for option in options_of(name)]
        options = ", ".join(f"{key} = {value if value.isdigit() else json.dumps(value)}" for key, _, value in said)
        stages.append(f'[[stage]]\nreranker = "{name}"\nmodel = "{folder_of(name)}"\noptions = {{ {options} }}\n')
    (tmp_path / "all.toml").write_text("".join(stages))

    result = command(
        "run", tmp_path / "all.toml", "--dataset", cities, "--output", tmp_path / "all.trec", "--no-journal", "--json"
    )

    assert result.exit_code == 0, result.output
    assert {query: sorted(found) for query, found in read_run(tmp_path / "all.trec").items()} == ALL
    assert json.loads(result.stdout)["pipeline"].count(">>") == len(PIPED)
