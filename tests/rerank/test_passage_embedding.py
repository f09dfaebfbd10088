"""Passages as vectors in the prompt, and an order decoded over them: a plain loop over transformers says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import QUERY, answers, tiny_lm
from published_models import EMBEDDED, pe_rank, plain_bert
from safetensors.torch import load_file
from small_folders import texts, wordpiece
from test_injection import HOSTILE
from torch import nn

from rerank import Reranker, checkpoints
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.passage_embedding import PassageEmbedding
from rerank.questions import Permute, Permuted
from rerank.types import Document, Query, Ranking


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def folder(smollm: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pe_rank(tmp_path_factory.mktemp("perank"), smollm, encoder)


@pytest.fixture(scope="module")
def judge(folder: Path) -> PassageEmbedding:
    return PassageEmbedding(folder)


def passages(count: int, seed: int = 1) -> tuple[Document, ...]:
    """All different, so that no two vectors are one."""
    some = list(dict.fromkeys(texts(3 * count + 3, seed, longest=24)))[1 : count + 1]
    return tuple(Document(str(index), text) for index, text in enumerate(some))


@torch.inference_mode()
def plain(folder: Path, encoder: Path, documents: tuple[Document, ...], pooling: str) -> tuple[list[int], torch.Tensor]:
    """The order, and the hidden state that each step chose by, from transformers' own forward."""
    values = json.loads((folder / "config.json").read_text())
    family = values["model_type"].removeprefix("embed_")
    config = EMBEDDED[family](**{k: v for k, v in values.items() if k not in ("architectures", "model_type")})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: value for name, value in weights.items() if not name.startswith(SIDE)})

    reader, words = transformers.BertModel.from_pretrained(encoder).eval(), wordpiece(encoder)
    vectors = []
    for document in documents:
        states = reader(**words(document.full_text, return_tensors="pt")).last_hidden_state[0]
        vectors.append(nn.functional.normalize(states.mean(0) if pooling == "mean" else states[0], dim=-1))
    first, second = (
        (weights[f"model.projector.{place}.weight"], weights[f"model.projector.{place}.bias"]) for place in (0, 2)
    )
    tokens = nn.functional.linear(nn.functional.gelu(nn.functional.linear(torch.stack(vectors), *first)), *second)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<PLACEHOLDER>"], special_tokens=True)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": content(len(documents))}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(chat, add_special_tokens=False, return_tensors="pt")["input_ids"]
    here = ids == tokenizer.convert_tokens_to_ids("<PLACEHOLDER>")
    embedded = model.model.embed_tokens(ids.masked_fill(here, 0))
    embedded[here] = tokens

    order: list[int] = []
    states = []
    while len(order) < len(documents):
        states.append(model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state[0, -1])
        logits = tokens @ states[-1]
        logits[order] = -torch.inf
        order.append(int(logits.argmax()))
        embedded = torch.cat([embedded, tokens[order[-1]][None, None]], dim=1)
    return order, torch.stack(states)


SIDE = ("model.projector.", "model.encoder.")


def content(count: int) -> str:
    shown = "".join(f"Passage {place}: [<PLACEHOLDER>]\n\n" for place in range(1, count + 1))
    return (
        f"I will provide you with {count} passages, each with a special token representing the passage enclosed in [], "
        "followed by original text.\nRank the passages based on their relevance to the search query: "
        f"{QUERY.text}.\n{shown}Search Query: {QUERY.text}.\nRank the {count} relatively ordered passages above based "
        "on their relevance to the search query, output the ranking in descending order. Only output the "
        f"{count} unique special token in the ranking.\n\n"
    )


def orders(judge: PassageEmbedding, questions: list[Permute], ledger: Ledger | None = None) -> list[tuple[int, ...]]:
    found = answers(judge, questions, ledger)
    return [each.order for each in found if isinstance(each, Permuted)]


def seen(judge: PassageEmbedding, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The hidden states that a judge chooses by, as they come."""
    states: list[torch.Tensor] = []
    choose = judge.decoder._choose

    def watched(texts: Any, hidden: torch.Tensor, work: Any) -> None:
        states.append(hidden.clone())
        choose(texts, hidden, work)

    monkeypatch.setattr(judge.decoder, "_choose", watched)
    return states


@pytest.mark.parametrize("family", EMBEDDED)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_order_is_decoded_as_a_plain_loop_does(
    family: str, pooling: str, smollm: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pe_rank(tmp_path / "model", smollm, encoder, family=family, encoder_pooling=pooling)
    judge = PassageEmbedding(folder)
    for count in (1, 2, 7, 20):
        documents = passages(count, seed=count)
        states = seen(judge, monkeypatch)

        [order] = orders(judge, [Permute(QUERY, documents)])

        expected, hidden = plain(folder, encoder, documents, pooling)
        assert list(order) == expected
        assert count < 7 or expected != sorted(expected)
        torch.testing.assert_close(torch.cat(states), hidden[: max(1, count - 1)], atol=1e-4, rtol=1e-4)
        monkeypatch.undo()


def test_candidates_shrink_and_each_is_chosen_once(judge: PassageEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where all vectors are one: what was chosen is no candidate any more, and the order shown stays."""
    same = tuple(Document(str(index), "berlin wall") for index in range(6))

    assert orders(judge, [Permute(QUERY, same)]) == [(0, 1, 2, 3, 4, 5)]


def test_neither_order_nor_neighbours_change_a_bit(judge: PassageEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [
        Permute(QUERY if count % 2 else Query("p", "who won the wall"), passages(count, seed=count))
        for count in (3, 9, 1, 14, 9)
    ]
    states = seen(judge, monkeypatch)
    together = orders(judge, questions)
    found = {row.numpy().tobytes() for step in states for row in step}
    states.clear()
    alone = [orders(judge, [question])[0] for question in questions[::-1]][::-1]

    assert together == alone
    assert found == {row.numpy().tobytes() for step in states for row in step}


def test_what_it_took_is_counted(judge: PassageEmbedding) -> None:
    documents, ledger = passages(5, seed=77), Ledger()
    prompt = judge.render(Permute(QUERY, documents))
    [_] = orders(judge, [Permute(QUERY, documents)], ledger)
    read = sum(len(wordpiece_ids(judge, document)) for document in documents)
    first = dict(ledger.total)

    assert first["tokens_generated"] == 5
    assert (
        first["tokens_real"] == read + len(prompt) + 3
    )  # of five choices the last is none, and nothing follows the 4th
    assert first["calls"] == 1 + 1 + 3
    [_] = orders(judge, [Permute(QUERY, documents)], again := Ledger())
    assert again.total["tokens_real"] == len(prompt) + 3
    assert again.total["tokens_reused"] == read
    assert 0 < again.total["flops"] < first["flops"]


def wordpiece_ids(judge: PassageEmbedding, document: Document) -> list[int]:
    tokenizer = judge.encoder.documents.texts.tokenizer
    return list(tokenizer(document.full_text)["input_ids"])


def test_the_pool_is_left_as_it_was(judge: PassageEmbedding) -> None:
    orders(judge, [Permute(QUERY, passages(9))])
    used = judge.decoder.engine.pool.used

    orders(judge, [Permute(QUERY, passages(12, seed=4))])

    assert judge.decoder.engine.pool.used == used
    assert judge.decoder.table.extra is None
    assert judge.decoder.engine.limits.vocab == 49_152


def test_passages_are_cut_by_the_encoder_and_counted(folder: Path, judge: PassageEmbedding) -> None:
    short, ledger = PassageEmbedding(folder, document_tokens=5), Ledger()
    documents = (Document("a", "berlin wall " * 20), Document("b", "art"))

    assert len(orders(short, [Permute(QUERY, documents)], ledger)[0]) == 2
    assert ledger.total["truncated_documents"] == 1
    assert short.key != judge.key


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_nothing_that_stands_in_a_passage_reaches_the_prompt(judge: PassageEmbedding, hostile: str) -> None:
    documents = (*passages(2), Document("h", HOSTILE[hostile] + " <PLACEHOLDER>"))

    [order] = orders(judge, [Permute(QUERY, documents)])

    assert sorted(order) == [0, 1, 2]
    assert judge.render(Permute(QUERY, documents)).ids == judge.render(Permute(QUERY, passages(3))).ids


def test_a_query_cannot_smuggle_in_a_place(judge: PassageEmbedding) -> None:
    prompt = judge.render(Permute(Query("q", "which <PLACEHOLDER> is it"), passages(3)))

    assert prompt.ids.count(judge.placeholder) == 3
    assert prompt.defused == 1


def test_it_is_asked_by_name_in_windows(folder: Path, judge: PassageEmbedding) -> None:
    documents = passages(23, seed=3)
    reranker = Reranker("pe-rank", model=folder)
    [ranked] = reranker.rerank([Ranking.unscored(QUERY, documents)])

    order = list(documents)
    for start, end in ((3, 23), (0, 13)):  # a window of 20 at the tail, and what a step of 10 leaves at the head
        [found] = orders(judge, [Permute(QUERY, tuple(order[start:end]))])
        order[start:end] = [order[start:end][index] for index in found]
    assert [document.doc_id for document in ranked.documents] == [document.doc_id for document in order]
    assert isinstance(Reranker(folder, prompt="pe-rank", algorithm="sliding-windows").judge, PassageEmbedding)


def test_what_does_not_fit_is_refused_in_one_line(smollm: Path, encoder: Path, folder: Path, tmp_path: Path) -> None:
    assert checkpoints.kind(folder) == "passage-embedding"
    with pytest.raises(CheckpointError, match="is of kind causal, which reads no passage as a vector"):
        PassageEmbedding(tiny_lm(tmp_path / "lm", smollm))
    with pytest.raises(CheckpointError, match="names no encoder"):
        PassageEmbedding(pe_rank(tmp_path / "a", smollm, encoder, encoder_name=""))
    with pytest.raises(CheckpointError, match="'encoder_pooling' is 'max'; it may be mean, cls, last_token"):
        PassageEmbedding(pe_rank(tmp_path / "b", smollm, encoder, encoder_pooling="max"))
    with pytest.raises(CheckpointError, match=r"gives vectors of 32, and the projector of .* reads 64"):
        PassageEmbedding(folder, encoder=plain_bert(tmp_path / "narrow", hidden=32))
    with pytest.raises(CheckpointError, match=r"reads passages by the encoder .*: .* is of kind causal"):
        PassageEmbedding(folder, encoder=tmp_path / "lm")
    with pytest.raises(InputError, match="asks to grade"):
        PassageEmbedding(folder, prompt="yes-no")


def test_an_encoder_that_needs_code_of_its_own_is_refused(smollm: Path, encoder: Path, tmp_path: Path) -> None:
    """As the published checkpoint's does: jina-embeddings-v2 is no BERT of transformers'."""
    jina = plain_bert(tmp_path / "jina")
    values = json.loads((jina / "config.json").read_text())
    values |= {
        "architectures": ["JinaBertModel"],
        "auto_map": {"AutoModel": "jinaai/theirs--modeling_bert.JinaBertModel"},
    }
    (jina / "config.json").write_text(json.dumps(values))

    with pytest.raises(CheckpointError, match=r"reads passages by the encoder .*jina"):
        PassageEmbedding(pe_rank(tmp_path / "model", smollm, encoder, encoder_name=str(jina)))
