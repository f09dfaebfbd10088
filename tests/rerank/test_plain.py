"""Causal models that are not packed: what they answer is what transformers' own forward says, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import DOCUMENTS, QUERY, _saved, answers
from torch import nn

from rerank import Reranker, checkpoints
from rerank.engine.decoders.families import why_not_packed
from rerank.engine.generation import Request, Writer
from rerank.engine.plain import PlainLM
from rerank.engine.writing.plain import PlainWriter
from rerank.errors import CheckpointError, InputError, JudgeError
from rerank.judges.attention import Attention
from rerank.judges.likelihood import Likelihood
from rerank.judges.permutation import Permutation
from rerank.judges.target_token import TargetToken
from rerank.questions import Grade, Permute

LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "qwen3_5_text": LINEAR,
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2, "head_dim": 16},
    "gpt_neox": {},
    "phi3": {},
    "falcon_mamba": {},
    "llama": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
}
PROMPTS = [((5, 6, 7), (8, 9)), ((5, 6, 7, 4),), ((5, 6, 7), (11, 12, 13, 14, 15, 16), (9,))]


@pytest.fixture(autouse=True)
def hushed() -> Any:
    """Without what transformers says of kernels that are not installed."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)


@pytest.fixture(scope="module")
def made() -> Any:
    """A family's name -> a small model with random weights, always the same."""
    models: dict[str, Any] = {}

    def model(family: str) -> Any:
        if family not in models:
            models[family] = _random(family)
        return models[family]

    return model


def _random(family: str, *, head: str = "AutoModelForCausalLM", **options: Any) -> Any:
    transformers.set_seed(7)
    shape = {"vocab_size": 200, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "max_position_embeddings": 512}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model(family, **{**shape, **heads, **ends, **FAMILIES[family], **options})
    model = getattr(transformers, head).from_config(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)
    return model


@torch.inference_mode()
def _stock(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """The logits of every token: [tokens, vocab]."""
    return model(torch.tensor([list(ids)])).logits[0]


def _flat(prompt: Sequence[Sequence[int]]) -> list[int]:
    return [token for segment in prompt for token in segment]


def _greedy(model: Any, ids: Sequence[int], most: int) -> tuple[int, ...]:
    """Written by reading everything again for every token."""
    whole = list(ids)
    for _ in range(most):
        if (token := int(_stock(model, whole)[-1].argmax())) == 2:
            break
        whole.append(token)
    return tuple(whole[len(ids) :])


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_likelihoods_and_texts_are_those_of_a_plain_loop(made, family):
    model = made(family)
    lm = PlainLM(model, why="a test")
    ends = [(7, 8, 9), (3,), (4, 4)]

    scored = lm.score(PROMPTS, [3, 4, 199])
    likely = lm.likelihood(PROMPTS, ends)
    written = PlainWriter(lm).write([Request(prompt=prompt, max_tokens=6, stop_ids=[2]) for prompt in PROMPTS])

    expected = torch.stack([_stock(model, _flat(prompt))[-1, [3, 4, 199]] for prompt in PROMPTS])
    torch.testing.assert_close(scored.logits, expected, rtol=1e-4, atol=1e-4)
    for prompt, end, log_probs in zip(PROMPTS, ends, likely.log_probs, strict=True):
        rows = _stock(model, [*_flat(prompt), *end])[-len(end) - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(log_probs, rows[range(len(end)), list(end)], rtol=1e-4, atol=1e-4)
    assert [text.ids for text in written.texts] == [_greedy(model, _flat(prompt), 6) for prompt in PROMPTS]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bits_of_an_answer_do_not_depend_on_the_neighbours(made, family):
    lm = PlainLM(made(family), why="a test")

    together = lm.score(PROMPTS, [3, 4]).logits
    alone = [lm.score([prompt], [3, 4]).logits[0] for prompt in reversed(PROMPTS)][::-1]

    assert torch.equal(together, torch.stack(alone))


def test_every_prompt_may_have_targets_of_its_own(made):
    lm = PlainLM(made("phi3"), why="a test")

    logits = lm.score(PROMPTS, [[3], [4, 5], [6]]).logits

    assert logits.isinf().tolist() == [[False, True], [False, False], [False, True]]
    assert logits[1].tolist() == lm.score(PROMPTS, [4, 5]).logits[1].tolist()


def test_texts_end_and_are_chosen_as_those_of_packed_models(made):
    from rerank.engine.causal import CausalLM

    texts = []
    for packed in (True, False):
        model = _random("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
        model.generation_config.repetition_penalty = 5.0  # what a checkpoint brings decides nothing
        writer = Writer(CausalLM(model)) if packed else PlainWriter(PlainLM(model, why="a test"))
        asked = [
            Request(prompt=PROMPTS[0], max_tokens=8, temperature=0.9, top_p=0.8, seed=3, draw=draw) for draw in range(3)
        ]
        asked += [
            Request(prompt=PROMPTS[1], max_tokens=5, allowed=lambda written: {20, 21, 22, 2} - {*written}),
            Request(prompt=PROMPTS[2], max_tokens=5, allowed=lambda written: {20} if not written else set()),
        ]
        texts.append(writer.write(asked))

    packed, plain = texts
    assert [getattr(text, "ids", str(text)) for text in plain.texts] == [
        getattr(text, "ids", str(text)) for text in packed.texts
    ]
    assert isinstance(plain.texts[-1], InputError)
    assert len({text.ids for text in plain.texts[:3]}) > 1
    assert plain.cost.generated == packed.cost.generated


def test_layers_of_another_class_are_run_as_they_are():
    """As quantised ones are, and adapters that nobody merged."""

    class Doubled(nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden)

    model = _random("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    assert why_not_packed(model) is None
    model.model.layers[1].mlp.up_proj.__class__ = Doubled

    why = why_not_packed(model)
    scored = PlainLM(model, why=str(why)).score(PROMPTS, [3])

    assert why == "its layers are of class Doubled"
    expected = [_stock(model, _flat(prompt))[-1, 3].item() for prompt in PROMPTS]
    assert scored.logits[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_what_is_counted_is_what_was_executed(made):
    lm = PlainLM(made("mixtral"), why="a test")

    cost = lm.score([PROMPTS[0]], [3]).cost

    layer = 2 * 64 * 64 + 2 * 64 * 32 + 64 * 4 + 2 * 3 * 64 * 96  # q and o, k and v, router, two of four experts
    attention = 2 * 5 * 5 * 64
    assert (cost.tokens, cost.calls, cost.reused, cost.padded) == (5, 1, 0, 0)
    assert cost.flops == 2 * (2 * (5 * layer + attention) + 64 * 200)


def test_a_score_head_reads_the_last_token_even_when_it_is_the_padding():
    model = _random("llama", head="AutoModelForSequenceClassification", num_labels=1)
    ids = [5, 6, 7, 0]
    with torch.inference_mode():
        state = model.base_model(torch.tensor([ids])).last_hidden_state[0, -1]
        expected = model.score(state).item()
    lm = PlainLM(model, why="a test")

    assert lm.classify([(ids,)]).logits.item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(CheckpointError, match="no head over the vocabulary; ask it to classify"):
        lm.score([(ids,)], [3])
    with pytest.raises(InputError, match="writes nothing"):
        PlainWriter(lm).write([Request(prompt=(ids,), max_tokens=1)])


def test_what_cannot_be_read_is_refused_before_any_work(made):
    lm = PlainLM(made("phi3"), why="a test")

    with pytest.raises(InputError, match="prompt 1 has 513 tokens, and the context of this Phi3ForCausalLM is 512"):
        lm.score([PROMPTS[0], ((5,) * 513,)], [3])
    with pytest.raises(InputError, match="prompt 0: there is no token 200 in a vocabulary of 200"):
        lm.score([((200,),)], [3])
    with pytest.raises(CheckpointError, match="no score head"):
        lm.classify(PROMPTS)


def test_a_logit_that_is_no_number_names_the_prompt():
    model = _random("phi3")
    model.model.embed_tokens.weight.data[13] = float("nan")
    lm = PlainLM(model, why="a test")

    with pytest.raises(JudgeError, match="no finite number for prompt 2"):
        lm.score(PROMPTS, [3])
    [first, second] = PlainWriter(lm).write([Request(prompt=PROMPTS[place], max_tokens=2) for place in (0, 2)]).texts
    assert first.ids
    assert isinstance(second, JudgeError)


# -- whole checkpoints ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, smollm: Path) -> Path:
    """A Qwen3.5 with the tokenizer of a real causal model."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": 49_152, "max_position_embeddings": 2048, "pad_token_id": 2, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model("qwen3_5_text", **shape, **tokens, num_key_value_heads=2, **LINEAR)
    return _saved(transformers.AutoModelForCausalLM.from_config(config), tmp_path_factory.mktemp("qwen3.5"), smollm)


@pytest.fixture(scope="module")
def stock(folder: Path) -> tuple[Any, Any]:
    """Its model and tokenizer, as transformers has them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def test_yes_or_no_of_a_checkpoint_that_is_not_packed(folder, stock):
    model, tokenizer = stock
    judge = TargetToken(folder, prompt="prism-reranker")
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no")]
    expected = []
    for document in DOCUMENTS:
        said = judge.prompt.instruction
        prompt = (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            f"provided. <|im_end|>\n<|im_start|>user\n<Instruct>: {said}\n<Query>: {QUERY.text}\n"
            f"<Document>: {document.full_text}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
        yes, no = _stock(model, tokenizer(prompt)["input_ids"])[-1, ids].tolist()
        expected.append(yes - no)

    scores = [answer.score for answer in answers(judge, [Grade(QUERY, document) for document in DOCUMENTS])]

    assert scores == pytest.approx(expected, abs=1e-4)
    assert judge.choices["execution"] == "not packed: model type 'qwen3_5_text' is run by its own forward"


def test_likelihood_and_written_orders_of_a_checkpoint_that_is_not_packed(folder, stock):
    model, tokenizer = stock
    likely = Likelihood(folder, prompt="rankinggpt")
    query = tokenizer(f" {QUERY.text}", add_special_tokens=False)["input_ids"]
    expected = []
    for document in DOCUMENTS:
        ids = tokenizer(f"Document: {document.full_text} Query: {QUERY.text}")["input_ids"]
        log_probs = _stock(model, ids)[-len(query) - 1 : -1].log_softmax(1)
        expected.append(log_probs[range(len(query)), query].mean().item())
    writes = Permutation(folder, prompt="lighton-rerank-lw", new_tokens=5)
    shown = "\n".join(f"[{number}]: {each.full_text}" for number, each in enumerate(DOCUMENTS, 1)).replace(
        "[3].", "(3)."
    )
    prompt = (
        f"<|im_start|>user\nQuery: {QUERY.text}\n\nRank these passages from most to least relevant:\n{shown}\n\n"
        "Ranking:<|im_end|>\n<|im_start|>assistant\n"
    )

    scores = [answer.score for answer in answers(likely, [Grade(QUERY, document) for document in DOCUMENTS])]
    question = Permute(QUERY, DOCUMENTS)
    [[text], _] = writes.model.write([writes.render(question)], [5])

    assert scores == pytest.approx(expected, abs=1e-4)
    assert text.ids == _greedy(model, tokenizer(prompt)["input_ids"], 5)
    assert sorted(answers(writes, [question])[0].order) == [0, 1, 2]


def test_a_whole_reranker_says_once_that_nothing_is_packed(folder):
    with Reranker("prp-sliding", model=folder, head=1) as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)

    assert {document.doc_id for document in ranking.documents} == {"a", "b", "c"}
    assert reranker.ledger.notes["execution"].startswith("not packed: ")
    assert "tokens_reused" not in reranker.ledger.total or not reranker.ledger.total["tokens_reused"]
    assert reranker.ledger.total["flops"] > 0


def test_what_is_read_off_packed_rows_alone_is_refused_in_one_line(folder):
    with pytest.raises(CheckpointError, match=r"not packed: .* attention and hidden states are read off packed rows"):
        Attention(folder)


def test_the_text_half_of_a_model_that_sees_is_a_causal_model(folder, tmp_path):
    """LightOn-rerank's checkpoints are `Qwen3_5ForConditionalGeneration`, of which the text model is loaded."""
    text = transformers.AutoConfig.from_pretrained(folder)
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    config = transformers.Qwen3_5Config(
        text_config=text.to_dict(), vision_config=vision, tie_word_embeddings=text.tie_word_embeddings
    )
    whole = _saved(transformers.Qwen3_5ForConditionalGeneration(config), tmp_path, folder)
    ids = [5, 6, 7, 8]

    judge = TargetToken(whole, prompt="prism-reranker")

    assert checkpoints.kind(whole) == "causal"
    model = transformers.Qwen3_5ForConditionalGeneration.from_pretrained(whole, dtype=torch.float32).eval()
    [row] = judge.model.lm.score([(ids,)], [3, 4]).logits.tolist()
    assert row == pytest.approx(_stock(model, ids)[-1, [3, 4]].tolist(), abs=1e-4)
    assert not any("visual" in name for name, _ in judge.model.loaded.model.named_parameters())
