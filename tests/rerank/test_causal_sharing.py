"""What prompts share is computed once and changes nothing: every pattern, counted exactly, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any

import pytest
import torch

from rerank.engine.causal import CausalLM
from rerank.engine.prefix import Trie
from rerank.errors import InputError

TARGETS = [7, 9]
FAMILIES = ("llama", "qwen3", "gemma2", "mistral")  # untied heads and tied, full attention, capped, windows
MODES = ("sdpa", "kernel")
Segment = tuple[int, ...]


def ids(length: int, seed: int) -> Segment:
    choice = random.Random(f"{length} {seed}")
    return tuple(choice.randint(1, 199) for _ in range(length))


# instruction, query, documents, end of the template: as in the accounting of docs, in small
RULE, QUERY, OTHER, TAIL = ids(12, 1), ids(5, 2), ids(5, 3), ids(3, 4)
DOCS = [ids(23, seed) for seed in range(10, 17)]
N, P, D, Q, S = len(DOCS), 17, 23, 5, 3


@torch.inference_mode()
def plain(model: Any, prompts: Sequence[Sequence[Segment]]) -> torch.Tensor:
    """What transformers itself says, prompt by prompt."""
    rows = [torch.tensor([[token for segment in prompt for token in segment]]) for prompt in prompts]
    return torch.cat([model(row, logits_to_keep=1).logits[:, -1, TARGETS] for row in rows])


def pairs() -> list[Sequence[Segment]]:
    return [(RULE, QUERY, one, two, TAIL) for one, two in permutations(DOCS, 2)]


def setwise() -> list[Sequence[Segment]]:
    """Three documents a prompt, in the orders that sifting a heap asks for."""
    return [(RULE, QUERY, *(DOCS[index] for index in three), TAIL) for three in combinations(range(6), 3)]


PATTERNS: dict[str, tuple[list[Sequence[Segment]], int]] = {
    "query first": ([(RULE, QUERY, document, TAIL) for document in DOCS], P + N * (D + S)),
    "document first": ([(RULE, document, QUERY, TAIL) for document in DOCS], 12 + N * (D + Q + S)),
    "pairs": (pairs(), P + N * D + N * (N - 1) * (D + S)),
    "setwise": (setwise(), P + 4 * D + 10 * D + 20 * (D + S)),  # 4 first documents, 10 first two, 20 sets
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_shared_is_computed_once_and_changes_nothing(pattern, name, mode, causal):
    prompts, tokens = PATTERNS[pattern]
    model = causal(name)
    expected = plain(model, prompts)
    lm = CausalLM(model, mode=mode, budget=200)

    scored = lm.score(prompts, TARGETS)

    torch.testing.assert_close(scored.logits, expected, rtol=0, atol=1e-4)
    assert scored.cost.tokens == tokens == Trie(prompts).shared
    assert scored.cost.reused == sum(len(segment) for prompt in prompts for segment in prompt) - tokens
    assert scored.cost.kept == lm.pool.used == 0
    for index in random.Random(5).sample(range(len(prompts)), 4):  # alone nothing is shared
        assert torch.equal(lm.score([prompts[index]], TARGETS).logits[0], scored.logits[index])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_documents_are_kept_across_queries(name, mode, causal):
    model = causal(name)
    first, second = ([(RULE, document, query, TAIL) for document in DOCS] for query in (QUERY, OTHER))
    expected = plain(model, second)
    lm = CausalLM(model, mode=mode)
    cold = lm.score(second, TARGETS)

    before = lm.score(first, TARGETS, keep=2)
    after = lm.score(second, TARGETS, keep=2)

    assert (before.cost.tokens, before.cost.kept) == (12 + N * (D + Q + S), 0)
    assert (after.cost.tokens, after.cost.kept) == (N * (Q + S), 12 + N * D)
    assert lm.kept_tokens == lm.pool.used == 12 + N * D
    torch.testing.assert_close(after.logits, expected, rtol=0, atol=1e-4)
    assert torch.equal(after.logits, cold.logits)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_windows_whose_first_half_is_known_are_finished_from_there(name, mode, causal):
    model = causal(name)
    windows = [(RULE, QUERY, *DOCS[start : start + 4], QUERY, TAIL) for start in (3, 1)]
    expected = plain(model, windows)
    lm = CausalLM(model, mode=mode)
    cold = lm.score(windows, TARGETS).logits

    ahead = lm.prefill([window[:4] for window in windows])
    scored = [lm.score([window], TARGETS) for window in windows]

    assert (ahead.tokens, ahead.calls, lm.kept_tokens) == (P + 2 * 2 * D, 1, P + 2 * 2 * D)
    assert [each.cost.tokens for each in scored] == [2 * D + Q + S] * 2
    assert [each.cost.kept for each in scored] == [P + 2 * D] * 2
    assert torch.equal(torch.cat([each.logits for each in scored]), cold)
    torch.testing.assert_close(cold, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma"])
def test_two_queries_read_one_context(name, mode, causal):
    """Mass per document against the attention matrices that transformers writes out."""
    model = causal(name)
    context, suffixes = (RULE, *DOCS), [(*QUERY, *TAIL), (*OTHER[:2], *TAIL)]
    expected = torch.stack([mass_by_transformers(model, context, suffix) for suffix in suffixes])
    lm = CausalLM(model, mode=mode, budget=80)

    mass = lm.attention(context, suffixes)

    torch.testing.assert_close(mass.tokens, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(mass.segments[:, 3], expected[:, 12 + 2 * D : 12 + 3 * D].sum(1), rtol=0, atol=1e-4)
    assert mass.segments.shape == (2, 1 + N)
    assert mass.cost.tokens == 12 + N * D + 8 + 5
    alone = lm.attention(context, suffixes[1:])
    assert torch.equal(alone.tokens[0], mass.tokens[1])


@torch.inference_mode()
def mass_by_transformers(model: Any, context: Sequence[Segment], suffix: Segment) -> torch.Tensor:
    row = [token for segment in (*context, suffix) for token in segment]
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    layers = model(torch.tensor([row]), output_attentions=True).attentions
    model.set_attn_implementation(usual)
    return sum(layer[0, :, -len(suffix) :].sum((0, 1)) for layer in layers)[: -len(suffix)]


def test_mass_of_some_layers_adds_up_to_that_of_all(causal):
    lm = CausalLM(causal("llama"))
    context = (RULE, *DOCS)

    parts = [lm.attention(context, [QUERY], layers=[layer]).tokens for layer in (0, 1)]

    torch.testing.assert_close(sum(parts), lm.attention(context, [QUERY]).tokens)


def test_a_context_may_be_kept(causal):
    lm = CausalLM(causal("llama"))
    cold = lm.attention((RULE, *DOCS), [QUERY, OTHER])
    lm.prefill([(RULE, *DOCS)])

    warm = lm.attention((RULE, *DOCS), [QUERY, OTHER])

    assert (warm.cost.tokens, warm.cost.kept) == (10, 12 + N * D)
    assert torch.equal(warm.tokens, cold.tokens)


@pytest.mark.parametrize(("name", "complaint"), [("gemma2", "caps its attention"), ("mistral", "sees 20 tokens")])
def test_mass_that_would_be_another_is_refused(name, complaint, causal):
    lm = CausalLM(causal(name))

    with pytest.raises(InputError, match=complaint):
        lm.attention((RULE, *DOCS), [QUERY])
    assert lm.pool.used == 0, "what a failed call took is given back"


def test_the_longest_unused_makes_room(causal):
    lm = CausalLM(causal("llama"), keep_bytes=(12 + 3 * D) * 2 * 2 * 2 * 16 * 4)  # layers, keys and values, heads …
    prompts = [(RULE, document, QUERY, TAIL) for document in DOCS]
    cold = lm.score(prompts, TARGETS).logits

    lm.score(prompts[:3], TARGETS, keep=2)
    lm.score(prompts[:1], TARGETS, keep=2)  # the first is used again
    lm.score(prompts[3:4], TARGETS, keep=2)  # so the second goes
    hits = [lm.score([prompt], TARGETS).cost.kept for prompt in prompts[:4]]

    assert lm.kept_tokens == lm.pool.used == 12 + 3 * D
    assert hits == [12 + D, 12, 12 + D, 12 + D]
    assert torch.equal(lm.score(prompts, TARGETS, keep=4).logits, cold), "more than fits in one call"
    assert lm.kept_tokens <= 12 + 3 * D
    lm.forget()
    assert lm.kept_tokens == lm.pool.used == 0


def test_a_prompt_that_another_continues_is_answered_too(causal):
    lm = CausalLM(causal("llama"))
    whole = (RULE, QUERY, DOCS[0], TAIL)
    prompts = [whole, whole[:2], whole[:3], whole]
    alone = torch.cat([lm.score([prompt], TARGETS).logits for prompt in prompts])

    fresh = lm.score(prompts, TARGETS, keep=4)
    kept = lm.score(prompts, TARGETS)

    assert fresh.cost.tokens == P + D + S
    assert (kept.cost.tokens, kept.cost.kept) == (Q + D + S, 12)  # a segment that is asked is computed
    assert torch.equal(fresh.logits, alone)
    assert torch.equal(kept.logits, alone)


def test_the_same_tokens_cut_elsewhere_are_not_found(causal):
    lm = CausalLM(causal("llama"))
    lm.prefill([(RULE, DOCS[0])])

    cost = lm.score([((*RULE, *DOCS[0]), QUERY)], TARGETS).cost

    assert cost.kept == 0


def test_held_prompts_are_continued_token_by_token(causal):
    """A decode step is one row a sequence; what it reads of the prompts is shared."""
    from rerank.engine.decoders.model import Ask, Row
    from rerank.engine.t5.encoder import Work

    prompts = [(RULE, QUERY, document) for document in DOCS[:3]]
    written = [ids(6, seed) for seed in (1, 2, 3)]
    model = causal("mistral")
    expected = plain(model, [(*prompt, ending) for prompt, ending in zip(prompts, written, strict=True)])
    lm = CausalLM(model, mode="sdpa")

    with lm.held(prompts) as held:
        starts = [lm.pool.allocate(6) for _ in prompts]
        for done in range(6):
            rows = [
                Row([written[index][done]], start + done, (*held.paths[index], (start, done)))
                for index, start in enumerate(starts)
            ]
            hidden = lm.model.forward(rows, [Ask(index) for index in range(3)], lm.pool, Work())
        for start in starts:
            lm.pool.free(start, 6)

    assert held.cost.tokens == P + 3 * D
    torch.testing.assert_close(lm.head.logits(hidden, TARGETS), expected, rtol=0, atol=1e-4)
    assert lm.pool.used == 0


def test_a_call_that_fails_keeps_nothing_and_gives_everything_back(causal, monkeypatch):
    lm = CausalLM(causal("llama"), budget=30)
    prompts = [(RULE, document, QUERY) for document in DOCS]
    real, calls = lm.model.forward, []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return real(*args, **options)

    monkeypatch.setattr(lm.model, "forward", failing)
    with pytest.raises(RuntimeError):
        lm.score(prompts, TARGETS, keep=2)

    assert lm.pool.used == lm.kept_tokens == 0


def test_the_pool_holds_no_more_than_is_still_read(causal):
    """Depth first: a document's keys are given back once all that begin with it are done."""
    lm = CausalLM(causal("llama"), budget=60)
    most = 0
    allocate: Callable[[int], int] = lm.pool.allocate

    def watched(tokens: int) -> int:
        nonlocal most
        start = allocate(tokens)
        most = max(most, lm.pool.used)
        return start

    lm.pool.allocate = watched  # type: ignore[method-assign]
    lm.score(pairs(), TARGETS)

    assert most <= P + D + 2 * 60
