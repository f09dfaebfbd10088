"""Set-encoders: lightning-ir's scores; no bit depends on order, neighbours or budget; every token is billed."""

from __future__ import annotations

import json
import random

import pytest
import torch
from set_models import CASES, name_of, written

from rerank import Document, Query, Ranking, Reranker
from rerank.cost import Ledger
from rerank.engine.encoders import sets
from rerank.engine.encoders.set_model import load_set_encoder
from rerank.engine.encoders.sets import SetEncoding
from rerank.engine.loading import Loading
from rerank.errors import CheckpointError, InputError
from rerank.judges.set_encoder import SetEncoder
from rerank.questions import GradeSet

TEXT = "how many people live in berlin the city has three million and a wall of art new york is far away who won"
WORDS = TEXT.split()


def question(query: str, texts: list[str], query_id: str = "q") -> GradeSet:
    return GradeSet(Query(query_id, query), tuple(Document(str(place), text) for place, text in enumerate(texts)))


def scores_of(judge: SetEncoder, questions: list[GradeSet], ledger: Ledger | None = None) -> list[tuple[float, ...]]:
    answers = dict(judge.answer(questions, ledger or Ledger()))
    return [answers[index].scores for index in range(len(questions))]


def random_texts(count: int, seed: int, longest: int = 30) -> list[str]:
    choice = random.Random(seed)
    return [" ".join(choice.choices(WORDS, k=choice.randint(0, longest))) for _ in range(count)]


@pytest.fixture(scope="module", params=CASES, ids=name_of)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def judge(case, tmp_path_factory) -> SetEncoder:
    return SetEncoder(written(case, tmp_path_factory.mktemp("set-encoder")))


@pytest.fixture(scope="module")
def electra(tmp_path_factory) -> SetEncoder:
    [case] = [case for case in CASES if name_of(case) == "electra, [INT]"]
    return SetEncoder(written(case, tmp_path_factory.mktemp("electra")))


def test_scores_are_those_of_lightning_ir(case, judge):
    asked = [question(query, texts) for query, texts in zip(case["queries"], case["documents"], strict=True)]

    got = scores_of(judge, asked)

    for ours, theirs in zip(got, case["scores"], strict=True):
        assert len(set(theirs)) > 1, "a model that tells nothing apart proves nothing"
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_document_is_scored_differently_in_other_company(judge):
    alone, together = scores_of(judge, [question("who won?", ["the wall"]), question("who won?", ["the wall", "art"])])

    assert alone[0] != together[0]


@torch.inference_mode()
def test_scores_are_those_of_a_plain_loop_over_layers(case, judge, tmp_path):
    """Every layer written out with its own projections, an attention mask and no padding."""
    loaded, config = load_set_encoder(written(case, tmp_path / "plain"), Loading("cpu"))
    model, at = loaded.model, int(config.extra_token)
    asked = question("how many people?", random_texts(5, seed=random.randrange(2**32)))
    [texts] = judge.tokens.sets([(asked.query.text, [document.text for document in asked.documents])])
    hidden = []
    for text in texts.texts:
        ids, types = (torch.from_numpy(part)[None] for part in (text.ids, text.types))
        embedded = model.embeddings(input_ids=ids, token_type_ids=types)[0]
        hidden.append(model.embeddings_project(embedded) if hasattr(model, "embeddings_project") else embedded)
    for layer in model.encoder.layer:
        part, shown, after = layer.attention.self, [states[at] for states in hidden], []
        for place, states in enumerate(hidden):
            others = [other for index, other in enumerate(shown) if index != place]
            seen = torch.cat([states, torch.stack(others)])
            q, k, v = (each(rows).unflatten(-1, (2, 32)) for each, rows in
                       ((part.query, states), (part.key, seen), (part.value, seen)))  # fmt: skip
            weights = (torch.einsum("qhd,khd->hqk", q, k) / 32**0.5).softmax(-1)
            context = torch.einsum("hqk,khd->qhd", weights, v).flatten(1)
            attended = layer.attention.output(context, states)
            after.append(layer.output(layer.intermediate(attended), attended))
        hidden = after
    expected = [float(model.linear(states[0])) for states in hidden]

    [got] = scores_of(judge, [asked])

    assert got == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count", [2, 7, 100])
def test_no_bit_depends_on_the_order_of_documents(judge, count):
    texts = random_texts(count, seed=count)
    orders = [random.Random(seed).sample(range(count), count) for seed in range(3)]

    [before] = scores_of(judge, [question("how many live in berlin?", texts)])

    for order in orders:
        [after] = scores_of(judge, [question("how many live in berlin?", [texts[index] for index in order])])
        assert after == tuple(before[index] for index in order)


def test_no_bit_depends_on_neighbours_budget_or_threads(electra, monkeypatch):
    asked = [question("who won?", random_texts(count, seed=count), f"q{count}") for count in (9, 1, 40, 3, 17)]
    threads = torch.get_num_threads()

    whole = scores_of(electra, asked)
    alone = [scores_of(electra, [each])[0] for each in asked]
    monkeypatch.setattr(electra.budget, "tokens", 64)
    small = scores_of(electra, asked[::-1])[::-1]
    torch.set_num_threads(1)
    single = scores_of(electra, asked)
    torch.set_num_threads(threads)

    assert whole == alone == small == single


def test_equal_documents_get_equal_scores(judge):
    [scores] = scores_of(judge, [question("who won?", ["a wall", "berlin", "a wall", "art", "a wall"])])

    assert scores[0] == scores[2] == scores[4]


def test_a_set_larger_than_the_budget_is_one_call_and_small_ones_share_one(case, tmp_path):
    judge = SetEncoder(written(case, tmp_path / "budget"), token_budget=200)
    large, small = Ledger(), Ledger()

    scores_of(judge, [question("who won?", random_texts(60, seed=1))], large)
    scores_of(judge, [question("who won?", ["art", "wall"], f"q{place}") for place in range(4)], small)

    assert large.total["calls"] == 1
    assert large.total["tokens_real"] > 200
    assert small.total["calls"] == 1
    assert len(small.queries) == 4


def test_what_was_computed_is_billed_exactly(electra):
    ledger = Ledger()
    asked = [question("who won?", ["art " * 5, "wall"], "one"), question("how many?", ["berlin"], "two")]
    lengths = [[12, 8], [8]]  # [CLS] [INT] query [SEP] document [SEP]

    scores_of(electra, asked, ledger)

    total, hidden, inner, rows = ledger.total, 64, 96, 28 + int(ledger.total["tokens_padded"])
    others = [(length, len(each) - 1) for each in lengths for length in each]
    layer = 4 * hidden * hidden + 2 * hidden * inner
    whole = 2 * (2 * layer * rows + 2 * hidden * sum(2 * length * (length + more) for length, more in others))
    last = 2 * (2 * hidden * hidden * rows + (layer - 2 * hidden * hidden + hidden) * 32)  # of first tokens alone
    last += 2 * hidden * sum(2 * (length + more) for length, more in others)
    projected = 2 * 32 * hidden * rows
    assert total["tokens_real"] == 28
    assert rows % 32 == 0
    assert total["flops"] == whole + last + projected
    assert sum(account["flops"] for account in ledger.queries.values()) == total["flops"]
    assert ledger.queries["one"]["tokens_real"] == 20
    assert ledger.notes["execution"].startswith("sets in one row")


def test_what_is_cut_is_counted(electra):
    ledger = Ledger()
    asked = question("who " * 15, ["wall " * 30, "art"])  # at most 12 and 20

    scores_of(electra, [asked], ledger)

    assert ledger.total["truncated_queries"] == 1
    assert ledger.total["truncated_documents"] == 1
    assert ledger.total["truncated_tokens"] == 3 + 10
    assert ledger.total["tokens_real"] == (2 + 12 + 1 + 20 + 1) + (2 + 12 + 1 + 1 + 1)


def test_fewer_tokens_cut_documents(case, tmp_path, judge):
    shorter = SetEncoder(written(case, tmp_path / "shorter"), max_tokens=judge.tokens.special + 12 + 4)
    asked = question("who won?", ["wall of art in the city of berlin", "art"])

    assert scores_of(shorter, [asked]) != scores_of(judge, [asked])
    assert shorter.key != judge.key
    with pytest.raises(InputError, match=r"reads at most 64 tokens, and 1[56] of them"):
        SetEncoder(tmp_path / "shorter", max_tokens=10)


def test_an_unreadable_text_fails_its_question_alone(electra):
    answers = dict(electra.answer([question("who?", ["\ud800"]), question("who?", ["art"])], Ledger()))

    assert isinstance(answers[0], InputError)
    assert len(answers[1].scores) == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_reranker_reads_the_whole_list_at_once(case, tmp_path, named):
    folder = written(case, tmp_path / "model")
    reranker = Reranker("set-encoder", model=folder) if named else Reranker(folder)
    texts = random_texts(25, seed=3)
    documents = [Document(str(place), text) for place, text in enumerate(texts)]

    [ranking] = reranker.rerank([Ranking.unscored(Query("q", "who won?"), documents)])

    [expected] = scores_of(reranker.judge, [question("who won?", texts)])
    assert {candidate.document.doc_id: candidate.score for candidate in ranking} == dict(
        zip(map(str, range(25)), expected, strict=True)
    )
    assert reranker.ledger.total["questions"] == 1


def test_pointwise_questions_are_refused(case, tmp_path):
    with pytest.raises(InputError, match="pointwise asks Grade, and SetEncoder answers only GradeSet"):
        Reranker(written(case, tmp_path / "model"), algorithm="pointwise")


def test_two_logits_give_the_log_probability_of_the_second(case, tmp_path, judge):
    two = written(case, tmp_path / "two", scoring_strategy="mono")
    from safetensors.torch import load_file, save_file

    weights = load_file(two / "model.safetensors")
    weights["linear.weight"] = torch.cat([-weights["linear.weight"], weights["linear.weight"]])
    save_file(weights, two / "model.safetensors", {"format": "pt"})
    asked = question("who won?", ["art", "wall"])

    [one], [both] = scores_of(judge, [asked]), scores_of(SetEncoder(two), [asked])

    assert both == pytest.approx([torch.tensor([-s, s]).log_softmax(0)[1].item() for s in one], abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling_strategy": "mean"}, "pooling_strategy is 'mean'"),
        ({"backbone_model_type": "roberta"}, "backbone_model_type is 'roberta'"),
        ({"use_adapter": True}, "use_adapter is True"),
    ],
)
def test_configs_of_another_kind_are_refused(case, tmp_path, changed, message):
    with pytest.raises(CheckpointError, match=message):
        SetEncoder(written(case, tmp_path / "odd", **changed))


def test_a_tokenizer_without_its_interaction_token_is_refused(tmp_path):
    [with_extra] = [case for case in CASES if name_of(case) == "bert, [INT]"]
    [without] = [case for case in CASES if name_of(case) == "bert, [CLS]"]
    folder = written(with_extra, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps(without["files"][name]), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"its tokenizer has no \[INT\]"):
        SetEncoder(folder)


def test_a_set_in_half_precision_stays_near(case, tmp_path, judge):
    half = SetEncoder(written(case, tmp_path / "half"), dtype="bfloat16")
    asked = question("who won?", ["art of the city", "wall", "new york"])

    [got], [exact] = scores_of(half, [asked]), scores_of(judge, [asked])

    assert got != exact
    assert got == pytest.approx(exact, abs=0.3)


def test_the_pass_of_a_gpu_gives_the_same_scores(case, tmp_path, judge, monkeypatch):
    """There the last layer is not cut: attention gives all rows in one call."""
    whole = sets._taken_apart
    monkeypatch.setattr(sets, "_taken_apart", lambda model, interaction, *, cut: whole(model, interaction, cut=False))
    loaded, config = load_set_encoder(written(case, tmp_path / "uncut"), Loading("cpu"))
    uncut = SetEncoding(loaded.model, interaction=int(config.extra_token))
    texts = [each.texts for each in judge.tokens.sets([("who won?", random_texts(9, seed=5)), ("who?", ["art"])])]

    got, expected = uncut.run(texts), judge.encoding.run(texts)

    torch.testing.assert_close(got.values, expected.values, rtol=0, atol=1e-4)
    assert got.flops > expected.flops


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-3), ("bfloat16", 0.3)])
def test_on_a_gpu_scores_are_those_of_the_cpu(case, tmp_path, judge, dtype, near):
    there = SetEncoder(written(case, tmp_path / "gpu"), device="cuda", dtype=dtype)
    asked = [question("who won?", random_texts(count, seed=count)) for count in (40, 1, 9)]

    got = scores_of(there, asked)

    assert there.encoding.attention == "triton"
    for ours, expected in zip(got, scores_of(judge, asked), strict=True):
        assert ours == pytest.approx(expected, abs=near)


def test_without_native_kernels_scores_are_the_same_to_the_fourth_digit(case, tmp_path, judge, monkeypatch):
    monkeypatch.setenv("RERANK_NATIVE", "0")
    loaded, config = load_set_encoder(written(case, tmp_path / "plain"), Loading("cpu"))
    plain = SetEncoding(loaded.model, interaction=int(config.extra_token))
    texts = [each.texts for each in judge.tokens.sets([("who won?", random_texts(9, seed=5)), ("who?", ["art"])])]

    got = plain.run(texts).values

    assert plain.attention == "by document"
    torch.testing.assert_close(got, judge.encoding.run(texts).values, rtol=0, atol=1e-4)
