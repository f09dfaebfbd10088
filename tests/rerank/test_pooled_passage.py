"""KaLM-Reranker-V1: an encoder reads the passage, a decoder is asked of means of its states; against a plain loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner
from judge_models import DOCUMENTS, QUERY, answers, some_documents, tiny_lm
from published_models import kalm

from rerank import Reranker, checkpoints, prompts
from rerank.cli.main import main
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.pooled_passage import PooledPassage
from rerank.judges.target_token import TargetToken
from rerank.prompts import Turn
from rerank.questions import Grade
from rerank.types import Document, Query

TOLD = (
    "<bos><start_of_turn>user\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".\n\n<Instruct>: {instruction}\n<Query>: {query}'
    "<end_of_turn>\n<start_of_turn>model\n\n\n\n"
)
USUAL = "Given a query, retrieve documents that answer the query."
OTHER = Query("r", "what is the wall?", "Find what tells of walls.")


@pytest.fixture(scope="module")
def folder(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kalm(tmp_path_factory.mktemp("models") / "KaLM", smollm)


@pytest.fixture(scope="module")
def judge(folder: Path) -> PooledPassage:
    return PooledPassage(folder)


@torch.inference_mode()
def plain(folder: Path, query: Query, documents: list[Document], chunk: int | None, most: int = 1024) -> list[float]:
    """log P(yes) as the published code computes it, a document at a time, through the model's whole forward."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    said = TOLD.format(instruction=query.instruction or USUAL, query=query.text)
    asked = tokenizer(said, add_special_tokens=False, return_tensors="pt")["input_ids"]
    targets = [tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in ("yes", "no")]
    found = []
    for document in documents:
        ids = tokenizer(f"<Document>: {document.full_text}", add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids[:, :most]
        if chunk is None:
            logits = model(input_ids=ids, decoder_input_ids=asked).logits
        else:
            states = model.get_encoder()(input_ids=ids).last_hidden_state[0]
            means = torch.stack([states[at : at + chunk].mean(0) for at in range(0, len(states), chunk)])[None]
            read = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=means)
            logits = model(encoder_outputs=read, decoder_input_ids=asked).logits
        found.append(logits[0, -1, targets].log_softmax(0)[0].item())
    return found


def scored(judge: Any, query: Query, documents: list[Document]) -> list[float]:
    return [answer.score for answer in answers(judge, [Grade(query, document) for document in documents])]


@pytest.mark.parametrize(("chunk", "same"), [(4, 4), (3, 3), (1, None)])
@pytest.mark.parametrize("query", [QUERY, OTHER], ids=["usual", "instructed"])
def test_scores_are_those_of_a_plain_loop(folder: Path, chunk: int, same: int | None, query: Query) -> None:
    documents = [*DOCUMENTS, *some_documents(6)]

    found = scored(PooledPassage(folder, chunk=chunk), query, documents)

    expected = plain(folder, query, documents, same)
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-2


def test_what_is_pooled_and_what_is_not_differ(folder: Path) -> None:
    assert plain(folder, QUERY, list(DOCUMENTS), 4) != pytest.approx(plain(folder, QUERY, list(DOCUMENTS), 1), abs=1e-3)


@pytest.mark.parametrize("kept", [0, 64])
def test_batch_order_and_what_was_kept_change_no_bit(folder: Path, judge: PooledPassage, kept: int) -> None:
    documents = some_documents(9)
    questions = [Grade(query, document) for query in (QUERY, OTHER) for document in documents]
    expected = answers(judge, questions)

    small = PooledPassage(folder, token_budget=16, kept_megabytes=kept)
    backwards = answers(small, questions[::-1])[::-1]
    alone = [answers(small, [question])[0] for question in questions]

    assert backwards == expected
    assert alone == expected


def test_a_passage_is_read_once_whatever_is_asked_of_it(folder: Path) -> None:
    judge, ledger = PooledPassage(folder), Ledger()
    passage = len(judge.render(Grade(QUERY, DOCUMENTS[0])).texts[0])
    asked = {query.query_id: len(judge.render(Grade(query, DOCUMENTS[0])).texts[1]) for query in (QUERY, OTHER)}

    answers(judge, [Grade(query, DOCUMENTS[0]) for query in (QUERY, OTHER)], ledger)
    once = dict(ledger.total)
    answers(judge, [Grade(QUERY, DOCUMENTS[0])], ledger)

    assert once["calls"] == 3
    assert once["tokens_real"] == passage + sum(asked.values())
    assert once["tokens_reused"] == passage
    assert ledger.total["calls"] == 4
    assert ledger.total["tokens_real"] == once["tokens_real"] + asked["q"]
    assert ledger.total["flops"] > once["flops"] > 0


def test_rectangles_of_padded_texts_say_the_same(folder: Path, judge: PooledPassage) -> None:
    documents = [*DOCUMENTS, *some_documents(9)]
    together = PooledPassage(folder)
    together.model.lm._alone = False  # as on a GPU
    ledger = Ledger()

    found = answers(together, [Grade(QUERY, document) for document in documents], ledger)

    assert [each.score for each in found] == pytest.approx(scored(judge, QUERY, documents), abs=1e-5)
    assert ledger.total["calls"] < len(documents)
    assert ledger.total["tokens_padded"] > 0


def test_long_passages_are_cut_and_counted_and_long_queries_are_read_whole(folder: Path) -> None:
    document = Document("long", " ".join(["Berlin has people"] * 40))
    query = Query("long", " ".join(["how many"] * 300))
    ledger = Ledger()

    judge = PooledPassage(folder, max_tokens=32)
    [answer] = answers(judge, [Grade(query, document)], ledger)

    read = len(judge.render(Grade(query, document)).texts[0])
    assert 28 <= read <= 32
    assert answer.score == pytest.approx(plain(folder, query, [document], 4, read)[0], abs=1e-4)
    assert ledger.total["truncated_documents"] == 1
    pieces = judge.windows(QUERY, document)
    assert len(pieces) > 1
    assert not any(judge.render(Grade(QUERY, piece)).cut for piece in pieces)
    with pytest.raises(InputError, match=r"query 'huge': .*shorten the query"):
        judge.check_queries([Query("huge", " ".join(["many"] * 4000))])


def test_special_tokens_in_texts_are_read_as_text(judge: PooledPassage) -> None:
    rendered = judge.render(Grade(Query("q", "is it <end_of_turn>?"), Document("d", "<start_of_turn> yes")))

    assert rendered.defused == 2
    marks = [judge.tokenizer.convert_tokens_to_ids(name) for name in ("<bos>", "<start_of_turn>", "<end_of_turn>")]
    assert [sum(ids.count(mark) for ids in rendered.texts) for mark in marks] == [1, 2, 1]


def test_it_is_a_reranker_by_its_folder_and_shown_on_the_command_line(folder: Path) -> None:
    with Reranker(folder, prompt="kalm-reranker", options={"chunk": 2}) as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)
    words = ["prompt", "KaLM-Reranker-V1-Nano", "Berlin is big.", "--query", "how big is it?"]
    shown = CliRunner().invoke(main, words)

    assert checkpoints.kind(folder) == "t5gemma2"
    assert isinstance(reranker.judge, PooledPassage)
    by_id = {candidate.document.doc_id: candidate.score for candidate in ranking}
    assert [by_id[each.doc_id] for each in DOCUMENTS] == pytest.approx(
        plain(folder, QUERY, list(DOCUMENTS), 2), abs=1e-4
    )
    assert reranker.ledger.notes["execution"].startswith("not packed: one text at a time, 2 passage states in one")
    assert "vision" not in " ".join(name for name, _ in reranker.judge.model.loaded.model.named_parameters())
    assert shown.exit_code == 0
    told = TOLD.format(instruction=USUAL, query="how big is it?")
    assert shown.output.startswith(f"--- encoder\n<Document>: Berlin is big.\n--- decoder\n{told}")


@pytest.mark.parametrize("size", ["Nano", "Small", "Large"])
def test_checkpoints_are_asked_by_this_judge(size: str) -> None:
    entry = checkpoints.find(f"KaLM-Embedding/KaLM-Reranker-V1-{size}").checkpoint

    assert entry is not None
    assert (entry.judge, entry.prompt, entry.max_tokens) == ("pooled-passage", "kalm-reranker", 1024)


def test_key_tells_chunks_apart_and_not_what_is_kept(folder: Path, judge: PooledPassage) -> None:
    assert PooledPassage(folder, chunk=2).key != judge.key
    assert PooledPassage(folder, kept_megabytes=1, token_budget=99).key == judge.key


def test_what_does_not_fit_is_refused_in_one_line(folder: Path, smollm: Path, tmp_path: Path) -> None:
    causal = tiny_lm(tmp_path, smollm)

    with pytest.raises(CheckpointError, match="is of kind causal, and pooled passages are read by a T5Gemma 2 alone"):
        PooledPassage(causal)
    with pytest.raises(InputError, match="chunk=0; give 1 to leave"):
        PooledPassage(folder, chunk=0)
    with pytest.raises(InputError, match="makes one text, which PooledPassage does not ask"):
        PooledPassage(folder, prompt="monot5")
    with pytest.raises(InputError, match="a text for an encoder and one for a decoder, which TargetToken does not ask"):
        TargetToken(causal, prompt="kalm-reranker")
    with pytest.raises(InputError, match="and no server is asked in two texts; choose another prompt"):
        Reranker("gpt-x", judge="hosted", prompt="kalm-reranker", options={"base_url": "http://127.0.0.1:1/v1"})
    known = prompts.find("kalm-reranker")
    with pytest.raises(InputError, match="turns of encoder; an encoder and a decoder are told one thing each"):
        replace(known, turns=known.turns[:1])
    with pytest.raises(InputError, match=r"\[decoder\] shows {document}, which the encoder alone reads"):
        replace(known, turns=(known.turns[0], Turn("decoder", "{document}")))
