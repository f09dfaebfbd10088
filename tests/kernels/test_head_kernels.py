"""The definitions of the kernels over output heads and token vectors, and of the list losses: by hand and by loops.

That Triton agrees with these definitions is in `test_providers.py`.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from head_cases import ends, gradients, run
from kernel_harness import HAS_TRITON

from rerank.errors import InputError
from rerank.kernels.list_losses import lambdarank, listmle, ranknet
from rerank.kernels.maxsim import maxsim, maxsim_top
from rerank.kernels.splade_pool import splade_pool
from rerank.kernels.target_logits import chunked, target_logits, token_log_probs

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
LOSSES = {
    "ranknet": ranknet,
    "ranknet, reciprocal": lambda *lists: ranknet(*lists, weighting="reciprocal"),
    "ranknet, ndcg": lambda *lists: ranknet(*lists, weighting="ndcg"),
    "lambdarank": lambdarank,
    "listmle": listmle,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


# --- output heads ----------------------------------------------------------------------------------------------------

HEAD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])


def test_target_logits_by_hand():
    # [3, 1] · rows 0 and 1 = 3 and 1; log_softmax: 3 - log(e³ + e) = -log(1 + e⁻²) = -0.126928, and 2 less
    logits, log_probs = target_logits(torch.tensor([[3.0, 1.0]]), HEAD, torch.tensor([0, 1]))

    assert logits.tolist() == [[3.0, 1.0]]
    assert log_probs[0].tolist() == pytest.approx([-0.126928, -2.126928], abs=1e-6)


def test_scale_comes_first_then_bias_then_the_soft_cap():
    # 4 · 0.5 + 1 = 3, and 3 · tanh(3 / 3) = 2.284782
    hidden, bias = torch.tensor([[4.0, 0.0]]), torch.tensor([1.0, 0.0, 0.0])

    [[logit]], _ = target_logits(hidden, HEAD, torch.tensor([0]), bias, scale=0.5, softcap=3.0)

    assert logit.item() == pytest.approx(2.284782, abs=1e-6)


def test_one_target_alone_is_certain():
    _, log_probs = target_logits(torch.randn(4, 2), HEAD, torch.tensor([2]))

    assert log_probs.tolist() == [[0.0]] * 4


def test_half_precision_is_computed_in_float32():
    hidden, weight = torch.randn(3, 64).bfloat16(), torch.randn(5, 64).bfloat16()

    logits, _ = target_logits(hidden, weight, torch.tensor([4, 1]))

    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, (hidden.double() @ weight[[4, 1]].double().T).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("provider", ["reference", "chunked"])
def test_token_log_probs_by_hand(provider):
    # logits 1, 0 and 2 for the state [1, 0]; the normaliser is log(e + 1 + e²) = 2.407606
    with token_log_probs.using(provider):
        got = token_log_probs(torch.tensor([[1.0, 0.0]] * 3), HEAD, torch.tensor([0, 1, 2]))

    assert got.tolist() == pytest.approx([-1.407606, -2.407606, -0.407606], abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"softcap": 2.0, "scale": 0.5}], ids=str)
def test_chunks_of_the_vocabulary_change_nothing(options, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK", 3)
    inputs = [torch.randn(5, 8), torch.randn(10, 8), torch.randn(10)]
    targets, weights = torch.tensor([0, 9, 3, 2, 3]), torch.linspace(-1, 1, 5)
    outputs, gradients = [], []
    for provider in ("reference", "chunked"):
        hidden, weight, bias = leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        outputs.append(token_log_probs.providers[provider].run(hidden, weight, targets, bias, **options))
        gradients.append(torch.autograd.grad((outputs[-1] * weights).sum(), leaves))

    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_a_chunk_of_barred_tokens_has_no_share(monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK", 2)
    bias = torch.tensor([-math.inf, -math.inf, 0.0, 0.0])

    got = token_log_probs(torch.zeros(2, 4), torch.randn(4, 4), torch.tensor([2, 0]), bias)

    assert got.tolist() == [pytest.approx(-math.log(2)), -math.inf]


def test_the_likelihood_is_computed_in_chunks_on_the_cpu():
    args = torch.randn(2, 4), torch.randn(6, 4), torch.tensor([0, 1])

    assert token_log_probs.pick(*args).name == ("triton" if os.environ.get("TRITON_INTERPRET") == "1" else "chunked")


@needs_triton
def test_a_token_outside_the_vocabulary_shows(call):
    args = torch.randn(1, 4), torch.randn(6, 4), torch.tensor([1, 6, -1])
    rows = torch.randn(3, 4), args[1], args[2]

    logits, _ = call(run, "target_logits", "target_logits", "triton", args, {})
    log_probs = call(run, "target_logits", "token_log_probs", "triton", rows, {})

    assert logits.isnan().tolist() == [[False, True, True]]
    assert log_probs.isnan().tolist() == [False, True, True]


@needs_triton
def test_barred_tokens_have_no_share_in_the_kernel(call):
    bias = torch.full((70,), -math.inf)
    bias[68:] = 0.0  # 70 terms are several tiles and programs: all but the last see nothing

    got = call(
        run,
        "target_logits",
        "token_log_probs",
        "triton",
        (torch.zeros(2, 4), torch.randn(70, 4), torch.tensor([69, 0]), bias),
        {},
    )

    assert got.tolist() == [pytest.approx(-math.log(2)), -math.inf]


# --- late interaction ------------------------------------------------------------------------------------------------


def test_maxsim_by_hand():
    # query tokens (1, 0) and (0, 1); document 0 has (0.5, 0) and (0, 2): 0.5 + 2; document 1 has (-1, -3): -1 - 3
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    documents = torch.tensor([[0.5, 0.0], [0.0, 2.0], [-1.0, -3.0]])

    assert maxsim(queries, documents, ends([2, 1])).tolist() == [[2.5, -4.0]]
    assert maxsim(queries, documents, ends([2, 1]), torch.tensor([[True, False]])).tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
def test_maxsim_is_what_three_loops_say(dtype):
    queries = torch.randint(-9, 10, (3, 4, 5)).to(dtype)
    documents = torch.randint(-9, 10, (9, 5)).to(dtype)
    lengths, mask = [4, 1, 4], torch.rand(3, 4) < 0.5
    pieces = documents.double().split(lengths)
    expected = [
        [
            sum(max(float(token @ other) for other in piece) for token, counts in zip(*query, strict=True) if counts)
            for piece in pieces
        ]
        for query in zip(queries.double(), mask, strict=True)
    ]

    scores = maxsim(queries, documents, ends(lengths), mask)
    owned = maxsim(queries, documents, ends(lengths), mask, torch.tensor([2, 2, 0]))

    assert scores.tolist() == expected
    assert owned.tolist() == [expected[2][0], expected[2][1], expected[0][2]]


def test_of_equal_matches_the_first_gets_the_gradient():
    documents = torch.ones(3, 2, requires_grad=True)

    maxsim(torch.ones(1, 1, 2), documents, ends([3])).sum().backward()

    assert documents.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


@needs_triton
def test_kernels_give_equal_matches_the_same_gradient(call):
    queries, documents = torch.ones(1, 1, 2), torch.ones(33, 2)

    got = call(gradients, "maxsim", "maxsim", "triton", (queries, documents, ends([33])))
    head = call(gradients, "splade_pool", "splade_pool", "triton", (torch.ones(33, 2), ends([33]), torch.ones(1, 2)))

    assert got[1].nonzero()[:, 0].tolist() == [0, 0]
    assert head[0].nonzero()[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize("provider", ["reference", pytest.param("triton", marks=needs_triton)])
def test_a_document_without_tokens_matches_nothing(provider, call):
    args = torch.ones(2, 3, 4), torch.ones(2, 4), ends([0, 2, 0]), torch.zeros(2, 3, dtype=torch.bool)

    assert call(run, "maxsim", "maxsim", provider, args, {}).tolist() == [[-math.inf, 0.0, -math.inf]] * 2
    assert call(run, "maxsim", "maxsim", provider, (args[0], args[1][:0], ends([])), {}).shape == (2, 0)


@needs_triton
def test_a_matrix_of_nan_is_never_a_number(call):
    queries, documents = torch.ones(1, 2, 4), torch.ones(5, 4)
    documents[3, 1] = math.nan

    score = call(run, "maxsim", "maxsim", "triton", (queries, documents, ends([5])), {})
    pooled = call(run, "splade_pool", "splade_pool", "triton", (documents, ends([5]), torch.ones(3, 4)), {})

    assert not score.isfinite().any()
    assert not pooled.isfinite().any()


def test_the_best_documents_come_first_and_ties_in_order():
    queries, documents = torch.tensor([[[1.0]], [[-1.0]]]), torch.tensor([[1.0], [3.0], [1.0], [3.0]])

    scores, indices = maxsim_top(queries, documents, ends([1, 1, 1, 1]), cutoff=3)

    assert scores.tolist() == [[3.0, 3.0, 1.0], [-1.0, -1.0, -3.0]]
    assert indices.tolist() == [[1, 3, 0], [0, 2, 1]]
    assert maxsim_top(queries, documents, ends([1, 1, 1, 1]), cutoff=9)[1].shape == (2, 4)


# --- SPLADE ----------------------------------------------------------------------------------------------------------


def test_splade_pool_by_hand():
    # one number a token: text 0 has 1 and 3, text 1 has -2; head rows 1 and -1, biases 0 and 0.5
    # text 0: max logits 3 and -0.5: log 4 and 0; text 1: -2 and 2.5: 0 and log 3.5
    hidden, weight, bias = torch.tensor([[1.0], [3.0], [-2.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 0.5])

    pooled = splade_pool(hidden, ends([2, 1]), weight, bias)
    added = splade_pool(hidden, ends([2, 1]), weight, bias, pooling="sum")

    assert pooled.flatten().tolist() == pytest.approx([math.log(4), 0.0, 0.0, math.log(3.5)])
    assert added.flatten().tolist() == pytest.approx([math.log(2) + math.log(4), 0.0, 0.0, math.log(3.5)])


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_splade_pool_is_what_three_loops_say(pooling):
    hidden, weight, bias, lengths = torch.randn(6, 4), torch.randn(5, 4), torch.randn(5), [3, 0, 1, 2]
    add_up = {"max": lambda worths: max(worths, default=0.0), "sum": sum}[pooling]
    terms = list(zip(weight.double(), bias.double(), strict=True))
    expected = [
        [add_up([math.log1p(max(0.0, float(token @ row + offset))) for token in text]) for row, offset in terms]
        for text in hidden.double().split(lengths)
    ]

    got = splade_pool(hidden, ends(lengths), weight, bias, pooling=pooling)

    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32))


def test_the_sum_of_splade_has_no_kernel():
    args = torch.randn(2, 3), ends([2]), torch.randn(4, 3)

    assert splade_pool.pick(*args, pooling="sum").name == "reference"


# --- lists -----------------------------------------------------------------------------------------------------------


def softplus(x):
    return math.log1p(math.exp(x))


def one_list(scores, relevance):
    """A list of its own: [1, docs] each."""
    return torch.tensor([scores]), torch.tensor([relevance]), torch.ones(1, len(scores), dtype=torch.bool)


def test_ranknet_by_hand():
    # three pairs with score_j - score_i of -1 (0 over 1), 1 (0 over 2) and 2 (1 over 2), at ranks 1, 2, 3
    lists = one_list([2.0, 1.0, 3.0], [2.0, 1.0, 0.0])
    pairs = [softplus(-1), softplus(1), softplus(2)]

    assert ranknet(*lists).item() == pytest.approx(sum(pairs) / 3)
    # 1 / (1 + 2), 1 / (1 + 3), 1 / (2 + 3); divided by the three pairs and not by the weights
    reciprocal = pairs[0] / 3 + pairs[1] / 4 + pairs[2] / 5
    assert ranknet(*lists, weighting="reciprocal").item() == pytest.approx(reciprocal / 3)
    # discounts 1, 0.630930 and 0.5; the ideal is 2 · 1 + 1 · 0.630930
    costs = [1 * (1 - 0.630930), 2 * (1 - 0.5), 1 * (0.630930 - 0.5)]
    ndcg = sum(cost * pair for cost, pair in zip(costs, pairs, strict=True)) / 2.630930
    assert ranknet(*lists, weighting="ndcg").item() == pytest.approx(ndcg / 3, rel=1e-5)


def test_lambdarank_weighs_pairs_where_they_stand_now():
    # by score the documents stand at ranks 2, 3 and 1: discounts 0.630930, 0.5 and 1; ideal and gaps as above
    lists = one_list([2.0, 1.0, 3.0], [2.0, 1.0, 0.0])
    costs = [1 * (0.630930 - 0.5), 2 * (1 - 0.630930), 1 * (1 - 0.5)]
    expected = (costs[0] * softplus(-1) + costs[1] * softplus(1) + costs[2] * softplus(2)) / 2.630930

    assert lambdarank(*lists).item() == pytest.approx(expected, rel=1e-5)


def test_listmle_by_hand():
    # P(b, a, c) for scores 2, 1, 0: e / (e² + e + 1) · e² / (e² + 1) · 1
    lists = one_list([2.0, 1.0, 0.0], [1.0, 2.0, 0.0])
    e = math.e
    chance = e / (e**2 + e + 1) * e**2 / (e**2 + 1)

    assert listmle(*lists).item() == pytest.approx(-math.log(chance))


def test_listmle_sees_a_tail_far_below_the_rest():
    # under one maximum for all tails, exp(-200) would be 0 and its log infinite; -log P = log(1 + e⁻²⁰⁰) + log 2
    assert listmle(*one_list([200.0, 0.0, 0.0], [2.0, 1.0, 0.0])).item() == pytest.approx(math.log(2))


@needs_triton
def test_the_kernel_sees_a_tail_far_below_the_rest(call):
    lists = one_list([200.0, 0.0, 0.0], [2.0, 1.0, 0.0])

    assert call(run, "list_losses", "listmle", "triton", lists, {}).item() == pytest.approx(math.log(2))


def test_equal_relevance_makes_no_pair():
    expected = (softplus(-5) + softplus(-1)) / 2

    assert ranknet(*one_list([5.0, 1.0, 0.0], [1.0, 1.0, 0.0])).item() == pytest.approx(expected)
    assert ranknet(*one_list([5.0, 1.0], [1.0, 1.0])).item() == 0.0


@every_loss
def test_padding_changes_neither_loss_nor_gradient(loss):
    scores, relevance = torch.randn(2, 5), torch.randint(3, (2, 5)).float()
    mask = torch.tensor([[True, False, True, True, False], [False, False, False, True, False]])
    padded = scores.masked_fill(~mask, math.nan).requires_grad_()
    alone = scores[:1][mask[:1]][None].requires_grad_()

    losses = loss(padded, relevance.masked_fill(~mask, 7.0), mask)
    losses.sum().backward()
    expected = loss(alone, relevance[:1][mask[:1]][None], torch.ones(1, 3, dtype=torch.bool))
    expected.sum().backward()

    torch.testing.assert_close(losses[:1], expected)
    assert losses[1].item() == 0.0
    torch.testing.assert_close(padded.grad[:1][mask[:1]][None], alone.grad)
    assert not padded.grad[~mask].any()


@every_loss
def test_the_order_of_documents_changes_nothing(loss):
    scores, relevance = torch.randn(1, 6), torch.randperm(6)[None].float()  # no ties: those go by the order given
    order, mask = torch.randperm(6), torch.ones(1, 6, dtype=torch.bool)

    torch.testing.assert_close(loss(scores, relevance, mask), loss(scores[:, order], relevance[:, order], mask))


@every_loss
def test_gradients_are_those_of_small_differences(loss):
    scores = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    relevance = torch.randint(3, (2, 6)).double()

    assert torch.autograd.gradcheck(lambda scores: loss(scores, relevance, mask), scores)


@every_loss
def test_a_step_down_the_gradient_lowers_the_loss(loss):
    scores, relevance = torch.randn(1, 8, requires_grad=True), torch.arange(8.0)[None]
    mask = torch.ones(1, 8, dtype=torch.bool)
    [gradient] = torch.autograd.grad(loss(scores, relevance, mask).sum(), scores)

    assert loss(scores - 0.01 * gradient, relevance, mask) < loss(scores, relevance, mask)


@pytest.mark.parametrize("op", [ranknet, lambdarank, listmle], ids=lambda op: op.name)
def test_kernels_of_losses_are_used_on_demand_only(op):
    assert op.pick(*one_list([1.0, 0.0], [1.0, 0.0])).name == "reference"


@needs_triton
def test_a_list_over_the_kernels_limit_is_refused():
    too_long = [torch.zeros(1, 129), torch.zeros(1, 129), torch.ones(1, 129, dtype=torch.bool)]

    with listmle.using("triton"), pytest.raises(InputError, match="129 documents is over the kernel's 128"):
        listmle(*too_long)


# --- the house -------------------------------------------------------------------------------------------------------


def test_without_triton_every_op_is_there():
    code = (
        "import sys; sys.modules['triton'] = None;"
        "from rerank.kernels import list_losses, maxsim, splade_pool, target_logits as t;"
        "print(*t.token_log_probs.providers, *maxsim.maxsim.providers, *splade_pool.splade_pool.providers)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ran.stdout.split() == ["reference", "chunked", "reference", "reference"], ran.stderr


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="then kernels take CPU tensors")
@pytest.mark.parametrize("op", [target_logits, maxsim, splade_pool], ids=lambda op: op.name)
def test_kernels_are_not_used_on_the_cpu(op):
    args = {
        "target_logits": (torch.randn(1, 4), torch.randn(3, 4), torch.tensor([0])),
        "maxsim": (torch.randn(1, 2, 4), torch.randn(3, 4), ends([3])),
        "splade_pool": (torch.randn(3, 4), ends([3]), torch.randn(2, 4)),
    }[op.name]

    assert op.pick(*args).name == "reference"
