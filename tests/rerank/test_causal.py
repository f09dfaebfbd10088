"""Every causal family gives what its own forward gives, prompt by prompt; and the same bits in any batch."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from rerank.engine import linear
from rerank.engine.causal import CausalLM
from rerank.engine.decoders.families import FAMILIES
from rerank.engine.decoders.head import HEAD_ROWS
from rerank.errors import CheckpointError, InputError, JudgeError

TARGETS = [7, 9, 150]
SHAPES = ("llama", "mistral", "qwen2 tied", "qwen3", "gemma", "gemma2", "gemma3_text")


def random_prompts(count: int, *, seed: int, longest: int = 512) -> list[list[tuple[int, ...]]]:
    """Prompts of every order of length, more short ones than long, each cut into one to four segments."""
    choice = random.Random(seed)
    lengths = [1, 2, longest, *(round(longest ** choice.random()) for _ in range(count - 3))]
    prompts = []
    for length in lengths:
        ids = tuple(choice.randint(1, 199) for _ in range(length))
        cuts = sorted({0, length, *(choice.randrange(length) for _ in range(choice.randrange(4)))})
        prompts.append([ids[start:end] for start, end in pairwise(cuts)])
    return prompts


def whole(prompt: Any) -> torch.Tensor:
    return torch.tensor([[token for segment in prompt for token in segment]])


@torch.inference_mode()
def plain(model: Any, prompts: Any, targets: Any = TARGETS) -> torch.Tensor:
    """What transformers itself says, prompt by prompt."""
    return torch.cat([model(whole(prompt), logits_to_keep=1).logits[:, -1, targets] for prompt in prompts])


def agree(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 1e-2, "a model that tells nothing apart proves nothing"
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_every_family_is_tried_here():
    assert set(FAMILIES) == {name.split()[0] for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_scores_equal_the_plain_loop_on_200_prompts(name, causal):
    model = causal(name)
    prompts = random_prompts(200, seed=random.randrange(2**32))
    expected = plain(model, prompts)

    scored = CausalLM(model).score(prompts, TARGETS)

    agree(scored.logits, expected)
    assert model.config.tie_word_embeddings == (name.endswith("tied") or name.startswith("gemma"))


@pytest.mark.parametrize("name", SHAPES)
def test_the_kernels_way_equals_the_plain_loop(name, causal):
    model = causal(name)
    prompts = random_prompts(12, seed=random.randrange(2**32), longest=90)
    prompts += [[*prompts[2], (5, 6)], [*prompts[2], (8,)]]  # these share a beginning
    expected = plain(model, prompts)

    got = CausalLM(model, mode="kernel", budget=150).score(prompts, TARGETS)

    agree(got.logits, expected)


@pytest.mark.parametrize("mode", ["sdpa", "kernel"])
@pytest.mark.parametrize("name", ["llama tied", "mistral", "gemma2"])
def test_likelihoods_equal_the_plain_loop(name, mode, causal):
    model = causal(name)
    prompts = random_prompts(10, seed=3, longest=60)
    continuations = [prompt[0][:9] for prompt in reversed(prompts)]
    expected = []
    with torch.inference_mode():
        for prompt, ids in zip(prompts, continuations, strict=True):
            said = model(whole([*prompt, ids])).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
            expected.append(said.gather(1, torch.tensor([*ids])[:, None])[:, 0])

    got = CausalLM(model, mode=mode, budget=70).likelihood(prompts, continuations)

    assert {len(ids) for ids in continuations} >= {1, 9}
    agree(torch.cat(got.log_probs), torch.cat(expected))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
def test_a_score_head_reads_the_last_token(name, causal):
    model = causal(name, kind="AutoModelForSequenceClassification", num_labels=2)
    prompts = random_prompts(9, seed=4, longest=70)
    with torch.inference_mode():
        expected = torch.cat([model(whole(prompt)).logits for prompt in prompts])

    got = CausalLM(model).classify(prompts)

    agree(got.logits, expected)


@pytest.mark.parametrize(("name", "fused"), [("llama", True), ("llama", False), ("gemma2", True), ("mistral", True)])
def test_bits_do_not_depend_on_batch_order_neighbours_budget_or_threads(name, fused, causal, monkeypatch):
    if not fused:
        monkeypatch.setattr(linear, "available", lambda model: False)
    lm = CausalLM(causal(name))
    prompts = random_prompts(35, seed=11, longest=200)  # more than one block of head rows
    neighbour = random_prompts(3, seed=3, longest=500)[2]
    order = random.Random(4).sample(range(35), 35)
    threads = torch.get_num_threads()

    together = lm.score(prompts, TARGETS).logits
    alone = torch.cat([lm.score([prompt], TARGETS).logits for prompt in prompts])
    shuffled = lm.score([prompts[index] for index in order], TARGETS).logits
    beside = lm.score([prompts[0], neighbour, *prompts[1:]], TARGETS).logits
    lm.budget = 100
    halved = lm.score(prompts, TARGETS).logits
    torch.set_num_threads(3 - min(threads, 2))
    other = lm.score(prompts, TARGETS).logits
    torch.set_num_threads(threads)

    assert torch.equal(together, alone)
    assert torch.equal(together[order], shuffled)
    assert torch.equal(together, torch.cat([beside[:1], beside[2:]]))
    assert torch.equal(together, halved)
    assert torch.equal(together, other)


def test_likelihoods_and_score_heads_have_the_same_bits_alone(causal):
    prompts = random_prompts(34, seed=5, longest=80)
    continuations = [prompt[-1][:5] for prompt in prompts]
    lm = CausalLM(causal("qwen3"))
    judge = CausalLM(causal("qwen3", kind="AutoModelForSequenceClassification", num_labels=1))

    likely = lm.likelihood(prompts, continuations).log_probs
    graded = judge.classify(prompts).logits

    for index in (0, 1, 2, 17, 33):
        assert torch.equal(likely[index], lm.likelihood([prompts[index]], [continuations[index]]).log_probs[0])
        assert torch.equal(graded[index], judge.classify([prompts[index]]).logits[0])


def test_other_cuts_of_the_same_tokens_agree_up_to_rounding(causal):
    lm = CausalLM(causal("llama"))
    prompts = random_prompts(12, seed=8, longest=300)
    joined = [[tuple(token for segment in prompt for token in segment)] for prompt in prompts]

    agree(lm.score(joined, TARGETS).logits, lm.score(prompts, TARGETS).logits)


def test_segments_longer_than_a_piece_are_cut(causal, monkeypatch):
    monkeypatch.setattr("rerank.engine.decoders.plan.PIECE", 16)
    model = causal("gemma2")
    prompts = random_prompts(8, seed=9, longest=100)
    continuations = [tuple(range(1, 40))] * 8
    expected = plain(model, prompts)
    lm = CausalLM(model)

    got = lm.score(prompts, TARGETS)
    likely = lm.likelihood(prompts, continuations)
    lm.budget = 20

    agree(got.logits, expected)
    assert torch.equal(lm.score(prompts, TARGETS).logits, got.logits)
    assert all(map(torch.equal, lm.likelihood(prompts, continuations).log_probs, likely.log_probs))


def test_each_prompt_may_have_targets_of_its_own(causal):
    lm = CausalLM(causal("llama"))
    prompts = random_prompts(4, seed=1, longest=30)
    all_of_them = lm.score(prompts, [3, 5, 8]).logits

    got = lm.score(prompts, [[3, 5, 8], [5], [5, 3], [8]]).logits

    torch.testing.assert_close(got[0], all_of_them[0])
    torch.testing.assert_close(got[2, :2], all_of_them[2, [1, 0]])
    assert got[1].tolist()[1:] == [float("-inf")] * 2
    assert torch.equal(got[3, :1], lm.score([prompts[3]], [8]).logits[0])


def test_no_prompt_has_no_logits(causal):
    lm = CausalLM(causal("llama"))

    assert lm.score([], TARGETS).logits.shape == (0, 3)
    assert lm.score([], TARGETS).cost.calls == 0
    assert lm.likelihood([], []).log_probs == []


def test_half_precision_keeps_its_head_in_float32(causal):
    model = causal("qwen2")
    prompts = random_prompts(40, seed=1, longest=100)
    expected = plain(model, prompts)

    lm = CausalLM(model.bfloat16())
    logits = lm.score(prompts, TARGETS).logits

    assert logits.dtype == torch.float32
    assert len(set(logits[:, 0].tolist())) > 30  # a bfloat16 head would make ties
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


# what the small Llama of `causal` multiplies for a token: see its shape in conftest.py
KEYS = 2 * 64 * 32
LAYER = 2 * 64 * 64 + KEYS + 3 * 64 * 96


def test_what_was_computed_is_counted(causal):
    lm = CausalLM(causal("llama"))

    cost = lm.score([[(5,) * 64, (6,) * 100], [(5,) * 64, (7,) * 28]], TARGETS).cost

    rows = 192
    linears = 2 * rows * (LAYER + KEYS) + 2 * 8 * LAYER  # of two layers; of the last for two rows, filled up to 8
    triangle = 64 * 65 // 2  # nothing in front: SDPA leaves out what is not seen
    pairs = (triangle + 100 * 164 + 28 * 92) + 164 + 92  # the last layer looks from the last tokens alone
    head = 2 * HEAD_ROWS * 64 * 3
    if lm.model.fused:
        assert (cost.tokens, cost.reused, cost.padded, cost.calls) == (rows, 64, 0, 1)
        assert cost.flops == linears + 4 * 64 * pairs + head


def test_the_kernels_way_counts_the_pairs_that_are_seen(causal):
    one, two = (
        CausalLM(causal("mistral"), mode=mode).score([[(5,) * 100]], TARGETS).cost.flops for mode in ("sdpa", "kernel")
    )

    seen = sum(min(place + 1, 20) for place in range(100))
    assert one - two == 4 * 64 * (100 * 100 - seen)


def test_a_prompt_that_does_not_fit_is_refused_with_its_number(causal):
    lm = CausalLM(causal("llama"))

    with pytest.raises(InputError, match="prompt 1 has 1025 tokens, and the context of this LlamaForCausalLM is 1024"):
        lm.score([[(5,)], [(5,) * 1000, (6,) * 25]], TARGETS)
    assert lm.pool.used == 0


def test_what_is_no_number_names_its_prompt(causal):
    lm = CausalLM(causal("llama"))
    lm.model.base.embed_tokens.weight.data[77] = float("nan")

    with pytest.raises(JudgeError, match="no finite number for prompt 2"):
        lm.score([[(5,)], [(6, 7)], [(6, 77)]], TARGETS)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda lm: lm.score([[(5,)], [()]], TARGETS), "prompt 1 has no tokens"),
        (lambda lm: lm.score([[(5,), (200,)]], TARGETS), "prompt 0: there is no token 200 in a vocabulary of 200"),
        (lambda lm: lm.score([[(5,)]], []), "targets: there are none"),
        (lambda lm: lm.score([[(5,)]], [[-1]]), "targets of prompt 0: there is no token -1"),
        (lambda lm: lm.score([[(5,)]], [[1], [2]]), "2 lists of targets for 1 prompts"),
        (lambda lm: lm.score([[(5,)]], TARGETS, keep=-1), "keep=-1"),
        (lambda lm: lm.likelihood([[(5,)]], [()]), "continuation 0 has no tokens"),
        (lambda lm: lm.likelihood([[(5,)]], []), "0 continuations for 1 prompts"),
        (lambda lm: lm.attention([(5,), ()], [(6,)]), "a segment of the context has no tokens"),
        (lambda lm: lm.attention([(5,)], [(6,)], layers=[2]), "layers 0 to 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(call, complaint, causal):
    with pytest.raises(InputError, match=complaint):
        call(CausalLM(causal("llama")))


def broken(causal: Any, how: str) -> Any:
    if how == "gpt2":
        config = transformers.GPT2Config(vocab_size=99, n_embd=16, n_layer=1, n_head=1)
        return transformers.GPT2LMHeadModel(config).eval()
    if how == "dynamic":
        return causal("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    model = causal("llama")
    if how == "training":
        return model.train()
    if how == "backbone":
        return model.model
    model.model.layers[1].mlp.up_proj = nn.Sequential(nn.Linear(64, 96))
    return model


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("gpt2", "model type 'gpt2'"),
        ("dynamic", "rotary embedding .* is 'dynamic'"),
        ("training", r"\.eval\(\)"),
        ("backbone", "use a …ForCausalLM"),
        ("quantised", "up_proj .* is a Sequential, not a plain linear layer"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused(how, complaint, causal):
    with pytest.raises(CheckpointError, match=complaint):
        CausalLM(broken(causal, how))


def test_a_rotary_embedding_that_depends_on_positions_alone_is_taken(causal):
    llama3 = {
        "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    model = causal("llama", rope_parameters=llama3)
    prompts = random_prompts(5, seed=2, longest=150)
    expected = plain(model, prompts)

    agree(CausalLM(model).score(prompts, TARGETS).logits, expected)


def test_a_model_that_disagrees_with_its_own_forward_is_refused_at_load(causal, monkeypatch):
    monkeypatch.setattr("rerank.engine.decoders.model.settled_rows", lambda rows, widths, threads: rows)
    monkeypatch.setattr("rerank.engine.decoders.model.Row.position", 0)

    with pytest.raises(CheckpointError, match="packed rows change the hidden states"):
        CausalLM(causal("llama"))


def test_a_model_can_be_loaded_into_one_engine_only(causal):
    model = causal("llama")
    CausalLM(model)

    with pytest.raises(CheckpointError, match="afresh"):
        CausalLM(model)


def test_heads_answer_what_they_can(causal):
    with pytest.raises(CheckpointError, match="no score head"):
        CausalLM(causal("llama")).classify([[(5,)]])
    with pytest.raises(CheckpointError, match="no head over the vocabulary"):
        CausalLM(causal("llama", kind="AutoModelForSequenceClassification")).score([[(5,)]], TARGETS)


def test_the_page_runs_and_says_what_happens(capsys):
    page = Path(__file__).resolve().parents[2] / "docs/causal.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)

    exec(compile("\n".join(blocks), str(page), "exec"), {})

    assert capsys.readouterr().out.splitlines() == [
        "torch.Size([2, 2]) 12 5", "4 8", "torch.Size([2, 3])", "not packed: experts torch.Size([1, 2])",
    ]  # fmt: skip
