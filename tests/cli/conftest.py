"""A small collection, a tiny cross-encoder with random weights, and the command line as a function."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

WORDS = ["fish", "bird", "tree", "stone", "river", "cloud", "field", "house", "light", "sound", "paper", "sugar"]
QUERIES, DOCUMENTS = 6, 40


@pytest.fixture
def command() -> Callable[..., Result]:
    """Calls `rerank` in this process; a bug keeps its traceback."""
    from rerank.cli.main import main

    def call(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)

    return call


@pytest.fixture
def refused(command: Callable[..., Result]) -> Callable[..., str]:
    """Calls `rerank` with something wrong; gives the one line that it says."""

    def call(*args: object) -> str:
        result = command(*args)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        lines = result.stderr.splitlines()
        assert [line[:8] for line in lines] == ["rerank: "], result.stderr
        return lines[0]

    return call


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder: every query is two words, and relevant are the documents that hold both."""
    folder = tmp_path_factory.mktemp("small")
    draw = random.Random(0)
    texts = {f"d{number}": " ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for number in range(DOCUMENTS)}
    asked = {f"q{number}": draw.sample(WORDS, 2) for number in range(QUERIES)}
    _write_lines(folder / "corpus.jsonl", [{"_id": doc_id, "text": text} for doc_id, text in texts.items()])
    _write_lines(
        folder / "queries.jsonl", [{"_id": query_id, "text": " ".join(two)} for query_id, two in asked.items()]
    )
    (folder / "qrels").mkdir()
    rows = [
        f"{query_id}\t{doc_id}\t{sum(word in text.split() for word in two)}"
        for query_id, two in asked.items()
        for doc_id, text in texts.items()
    ]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def run_file(collection: Path) -> Path:
    """A run of 30 documents for each query, in no order that means anything."""
    draw = random.Random(1)
    lines = []
    for number in range(QUERIES):
        for rank, index in enumerate(draw.sample(range(DOCUMENTS), 30), start=1):
            lines.append(f"q{number} Q0 d{index} {rank} {100 - rank} first")
    path = collection / "first.trec"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with one layer, one logit, random weights and a WordPiece of its own."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-reranker")
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, num_labels=1, **shape)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def _write_lines(path: Path, records: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
