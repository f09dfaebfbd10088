"""Uncertainty by dropout in the last layers: seeded, by hand, none without dropout, the same bits in any batch."""

from __future__ import annotations

import random
import statistics

import pytest
import torch
import transformers
from small_folders import bert, texts

from rerank import Document, Query, Reranker
from rerank.calibration import ranking_calibration_error
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.cross_encoder import CrossEncoder
from rerank.judges.uncertain import Spread, UncertainCrossEncoder, conditional_value_at_risk
from rerank.questions import Grade

QUERY = Query("q", "who won the city of art?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("uncertain"))


def documents(count: int = 9, seed: int = 5) -> list[Document]:
    return [Document(str(place), text) for place, text in enumerate(texts(count, seed=seed, longest=30))]


def scores_of(judge: CrossEncoder, asked: list[Document], ledger: Ledger | None = None) -> list[float]:
    answers = dict(judge.answer([Grade(QUERY, document) for document in asked], ledger or Ledger()))
    return [answers[index].score for index in range(len(asked))]


def test_without_dropout_every_sample_is_the_plain_score(folder):
    plain = scores_of(CrossEncoder(folder), documents())

    spreads = UncertainCrossEncoder(folder, samples=3, dropout=0.0).spreads(QUERY, documents())

    assert [spread.samples for spread in spreads] == [(score,) * 3 for score in plain]
    assert {spread.deviation for spread in spreads} == {0.0}


def test_no_bit_depends_on_batch_order_or_budget(folder):
    judge = UncertainCrossEncoder(folder, samples=4, seed=3)
    small = UncertainCrossEncoder(folder, samples=4, seed=3, token_budget=40)
    asked = documents()

    together = judge.spreads(QUERY, asked)

    assert together == [judge.spreads(QUERY, [document])[0] for document in asked]
    assert together == judge.spreads(QUERY, asked[::-1])[::-1]
    assert together == small.spreads(QUERY, asked)


def test_the_seed_decides(folder):
    one, again, other = (UncertainCrossEncoder(folder, samples=4, seed=seed) for seed in (1, 1, 2))

    assert one.spreads(QUERY, documents()) == again.spreads(QUERY, documents()) != other.spreads(QUERY, documents())
    assert one.key == again.key != other.key


@torch.inference_mode()
def test_a_sample_is_the_model_with_channels_dropped_in_its_last_layer(folder):
    """The last layer by hand: its two outputs and the pooled state, each times the mask of its place."""
    judge = UncertainCrossEncoder(folder, samples=2, layers=1, dropout=0.25, seed=9)
    document = documents()[3]
    [spread] = judge.spreads(QUERY, [document])
    model = transformers.BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    [pair] = judge.read([Grade(QUERY, document)])
    ids, types = torch.from_numpy(pair.ids)[None], torch.from_numpy(pair.types)[None]
    states = model.bert(input_ids=ids, token_type_ids=types, output_hidden_states=True).hidden_states[2][0]
    layer, masks = model.bert.encoder.layer[2], judge.encoder.masks
    context = layer.attention.self(states[None])[0][0, 0]

    def thinned(rows: torch.Tensor, sample: int, site: str) -> torch.Tensor:
        return rows * masks._draw(f"{sample} {site}", 64, rows.device)[0] / 0.75

    for sample, got in enumerate(spread.samples):
        output = layer.attention.output
        attended = output.LayerNorm(thinned(output.dense(context), sample, "0 outward") + states[0])
        inner = layer.output.dense(layer.intermediate(attended))
        final = layer.output.LayerNorm(thinned(inner, sample, "0 down") + attended)
        pooled = model.bert.pooler(thinned(final, sample, "pooled")[None, None])
        assert got == pytest.approx(float(model.classifier(pooled)), abs=1e-4)


def test_about_the_share_asked_for_is_dropped(folder):
    masks = UncertainCrossEncoder(folder, samples=1, dropout=0.3).encoder.masks

    assert masks._draw("0 pooled", 64, torch.device("cpu")).float().mean() == pytest.approx(0.7, abs=0.03)


def test_the_score_minds_the_risk(folder):
    mean, averse, tail = (
        UncertainCrossEncoder(folder, samples=8, dropout=0.2, **options)
        for options in ({}, {"risk": 1.5}, {"tail": 0.25})
    )
    spreads = mean.spreads(QUERY, documents())

    assert scores_of(mean, documents()) == [spread.mean for spread in spreads]
    assert scores_of(averse, documents()) == [spread.mean - 1.5 * spread.deviation for spread in spreads]
    assert scores_of(tail, documents()) == pytest.approx([sum(sorted(spread.samples)[:2]) / 2 for spread in spreads])
    assert len({mean.key, averse.key, tail.key}) == 3


def test_a_spread_is_mean_and_standard_deviation():
    spread = Spread.of([1.0, 2.0, 4.0])

    assert spread.mean == pytest.approx(7 / 3)
    assert spread.deviation == statistics.stdev([1, 2, 4])
    assert Spread.of([3.0]) == Spread(3.0, 0.0, (3.0,))


def test_the_tail_counts_the_last_sample_in_part():
    assert conditional_value_at_risk([4.0, 1.0, 2.0, 3.0], 1.0) == 2.5
    assert conditional_value_at_risk([4.0, 1.0, 2.0, 3.0], 0.25) == 1.0
    assert conditional_value_at_risk([4.0, 1.0, 2.0, 3.0], 0.375) == pytest.approx((1 + 0.5 * 2) / 1.5)


def test_further_samples_cost_the_last_layers_alone(folder):
    one, many, plain = Ledger(), Ledger(), Ledger()
    asked = documents()

    scores_of(UncertainCrossEncoder(folder, samples=1, layers=1), asked, one)
    scores_of(UncertainCrossEncoder(folder, samples=5, layers=1), asked, many)
    scores_of(CrossEncoder(folder), asked, plain)

    assert one.total["flops"] == plain.total["flops"]
    rows, layer, head = one.total["tokens_real"] + one.total["tokens_padded"], 4 * 64 * 64 + 2 * 64 * 96, 64 * 64 + 64
    again = 2 * (2 * 64 * 64) * rows + 4 * 64 * one.total["tokens_real"] + 2 * (layer - 2 * 64 * 64 + head) * 32
    assert many.total["flops"] - one.total["flops"] == 4 * again  # keys and values of all, the rest for first tokens


def test_two_logits_and_other_families_are_sampled_too(tmp_path):
    two = UncertainCrossEncoder(bert(tmp_path / "two", labels=2), samples=3)

    [spread] = two.spreads(QUERY, documents()[1:2])

    assert all(score < 0 for score in spread.samples)  # log-probabilities
    assert len(set(spread.samples)) == 3


@pytest.mark.parametrize("name", ["modernbert", "modernbert mean", "distilbert", "deberta-v2", "electra", "mpnet"])
def test_every_family_gives_its_plain_score_without_dropout(name):
    from encoder_models import classifier, random_pairs

    from rerank.engine.encoder import Encoder
    from rerank.engine.encoders.dropout import Dropout, DropoutEncoder

    pairs = random_pairs(6, seed=random.randrange(2**32), longest=90)
    plain = Encoder(classifier(name)).score(pairs).logits

    exact = DropoutEncoder(classifier(name), Dropout(2, 2, 0.0), longest=600).score(pairs).logits
    thinned = DropoutEncoder(classifier(name), Dropout(2, 2, 0.2), longest=600).score(pairs).logits

    assert torch.equal(exact, plain.expand(-1, 2))
    assert (thinned[:, 0] != thinned[:, 1]).all()


@pytest.mark.parametrize("name", ["bert", "modernbert mean"])
def test_the_pass_of_a_gpu_gives_the_same_samples(name, monkeypatch):
    from encoder_models import classifier, random_pairs

    from rerank.engine.encoders import dropout

    pairs = random_pairs(6, seed=2, longest=90)
    expected = dropout.DropoutEncoder(classifier(name), dropout.Dropout(3, share=0.2), longest=600).score(pairs).logits
    monkeypatch.setattr(dropout, "choose", lambda model, asked, deterministic: ("varlen", None))

    got = dropout.DropoutEncoder(classifier(name), dropout.Dropout(3, share=0.2), longest=600).score(pairs).logits

    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0"),
        ({"layers": 4}, "layers=4, but BertForSequenceClassification has 3"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"tail": 0.0}, "tail=0.0"),
        ({"tail": 0.5, "risk": 1.0}, "one or the other"),
        ({"dtype": "int8"}, "leave out int8"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, options, message):
    with pytest.raises(InputError, match=message):
        UncertainCrossEncoder(folder, **options)


def test_a_checkpoint_trained_without_dropout_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"give dropout=0\.1"):
        UncertainCrossEncoder(bert(tmp_path / "dry", hidden_dropout_prob=0.0))


def test_a_reranker_orders_by_it(folder):
    reranker = Reranker("mc-dropout", model=folder, options={"samples": 3, "risk": 0.5, "seed": 4})

    ranking = reranker.rank(QUERY, documents(4))

    assert "seed 4" in reranker.ledger.notes["dropout"]
    scores = [candidate.score for candidate in ranking]
    assert scores == sorted(scores, reverse=True)


def test_the_ranking_calibration_error_by_hand():
    sure, torn = [3.0, 4.0], [1.0, 5.0]  # of the four pairs of samples the first is higher in two

    assert ranking_calibration_error([sure, [0.0, 1.0]], [1, 0]) == 0  # sure and right
    assert ranking_calibration_error([sure, [0.0, 1.0]], [0, 1]) == 1  # sure and wrong
    assert ranking_calibration_error([sure, torn], [1, 0]) == 0  # half sure, and nobody is right
    assert ranking_calibration_error([[2.0, 4.0], [1.0, 3.0]], [1, 0]) == pytest.approx(0.25)  # 3 of 4, and right
    with pytest.raises(InputError, match="no two documents differ"):
        ranking_calibration_error([sure, torn], [1, 1])
