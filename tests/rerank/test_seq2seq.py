"""Each way of running a T5 gives the logits of the plain one: its own forward, one unpadded text at a time."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.modeling_outputs import BaseModelOutput

from rerank.engine import linear
from rerank.engine.seq2seq import EncoderDecoder
from rerank.engine.t5.decoder import DECODER_ROWS
from rerank.engine.t5.encoder import PASS_ROWS, PackedEncoder, Work
from rerank.engine.t5.model import FAMILIES
from rerank.errors import CheckpointError, InputError, JudgeError

SMALL = {
    "vocab_size": 200,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 3,  # 48 channels inside attention, 32 outside
    "decoder_start_token_id": 0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "t5": {},
    "t5 v1.1": {
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "num_layers": 3,
        "num_decoder_layers": 2,
    },
    "mt5": {},
    "umt5": {},
}
MODES = ("packed", "varlen", "padded")
TARGETS = [7, 9, 150]


def t5(name: str, **options: Any) -> Any:
    """A small encoder-decoder with random weights, large enough to tell texts apart."""
    transformers.set_seed(7)
    config = transformers.AutoConfig.for_model(name.split()[0], **(SMALL | SHAPES[name] | options))
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    if name in ("t5 v1.1", "mt5"):  # their heads are their own
        model.lm_head.weight = nn.Parameter(0.3 * torch.randn_like(model.lm_head.weight))
    return model


def random_texts(count: int, *, seed: int, longest: int = 512) -> list[list[int]]:
    """Texts of every order of length, more short ones than long: the plain loop is slow."""
    choice = random.Random(seed)
    lengths = [1, 2, longest, *(round(longest ** choice.random()) for _ in range(count - 3))]
    return [[choice.randint(2, 199) for _ in range(length)] for length in lengths]


@torch.inference_mode()
def plain(model: Any, texts: list[list[int]], prefix: list[int]) -> torch.Tensor:
    """What transformers itself says, text by text."""
    start = torch.tensor([prefix])
    rows = []
    for text in texts:
        ids = torch.tensor([text])
        rows.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=start).logits)
    return torch.cat(rows)[:, -1, TARGETS]


@torch.inference_mode()
def states_of(model: Any, group: list[list[int]]) -> torch.Tensor:
    """A group's encoder states, each text encoded alone, put one after the other: [1, tokens, dim]."""
    return torch.cat([model.encoder(input_ids=torch.tensor([text])).last_hidden_state for text in group], 1)


def agree(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 1e-2, "a model that tells nothing apart proves nothing"
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_every_family_is_tried_here():
    assert set(FAMILIES) == {name.split()[0] for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_scores_equal_the_plain_loop_on_200_texts(name):
    model = t5(name)
    texts = random_texts(200, seed=random.randrange(2**32))
    expected = plain(model, texts, [0])

    engine = EncoderDecoder(model)
    got = torch.cat([engine.score(texts[:70], TARGETS).logits, engine.score(texts[70:], TARGETS).logits])

    agree(got, expected)
    assert engine.mode == "packed"


@pytest.mark.parametrize("name", SHAPES)
def test_scores_of_varlen_passes_equal_the_plain_loop(name):
    model = t5(name)
    texts = random_texts(25, seed=random.randrange(2**32), longest=300)
    expected = plain(model, texts, [0])

    engine = EncoderDecoder(model, mode="varlen")
    scored = engine.score(texts, TARGETS)

    agree(scored.logits, expected)
    assert scored.padded == 0
    assert (engine.execution, engine.deterministic) == ("varlen", False)


def test_deterministic_varlen_passes_have_one_shape(monkeypatch):
    """4,096 rows, or for a longer text the next multiple: bits that depend on shapes then depend on the text alone."""
    engine = EncoderDecoder(t5("t5"), mode="varlen", deterministic=True)
    texts = random_texts(40, seed=11, longest=300)
    order = random.Random(4).sample(range(40), 40)

    whole = engine.score(texts, TARGETS)
    alone = torch.cat([engine.score([text], TARGETS).logits for text in texts[:6]])
    shuffled = engine.score([texts[index] for index in order], TARGETS).logits

    assert (whole.tokens + whole.padded) % PASS_ROWS == 0
    assert engine.execution == "varlen, deterministic"
    assert torch.equal(whole.logits[:6], alone)
    assert torch.equal(whole.logits[order], shuffled)


@pytest.mark.parametrize(
    ("mode", "dtype", "kept"),
    [("packed", torch.float32, True), ("packed", torch.bfloat16, False), ("varlen", torch.float32, False)],
)
def test_what_is_deterministic_says_so(mode, dtype, kept):
    assert EncoderDecoder(t5("t5").to(dtype), mode=mode).deterministic is kept


@pytest.mark.parametrize(("mode", "dtype"), [("padded", torch.float32), ("packed", torch.bfloat16)])
def test_what_cannot_be_deterministic_is_refused(mode, dtype):
    with pytest.raises(InputError, match=f"mode '{mode}' in {str(dtype)[6:]} cannot be deterministic"):
        EncoderDecoder(t5("t5").to(dtype), mode=mode, deterministic=True)


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="there is no mode 'flash'; it may be one of packed, varlen, padded"):
        EncoderDecoder(t5("t5"), mode="flash")


class Waits(TorchDispatchMode):
    """Counts operations whose result the host must wait for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name == "index" and any(one is not None and one.dtype == torch.bool for one in args[1])
        if masked or name in ("_local_scalar_dense", "nonzero", "item"):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def test_varlen_passes_wait_for_nothing_before_their_answer(monkeypatch):
    """On a GPU each of these would stall the queue; transformers' own rectangle has one."""
    import rerank.engine.seq2seq as module

    engine, padded = EncoderDecoder(t5("t5"), mode="varlen"), EncoderDecoder(t5("t5"), mode="padded")
    checked = []
    monkeypatch.setattr(module, "_check_finite", lambda *rows: checked.append(rows))  # on the CPU, after the transfer

    with Waits() as waits:
        engine.score(random_texts(9, seed=2, longest=60), TARGETS, prefix=[0, 7])
        engine.likelihood([[5, 6], [7]], [[8, 9, 10], [11]])

    with Waits() as stalls:
        padded.score([[5], [6, 7]], TARGETS)

    assert waits.seen == []
    assert len(checked) == 4
    assert "index" in stalls.seen


def test_one_target_row_is_a_raw_score_scaled_where_head_and_embeddings_are_one():
    """RankT5 reads the logit of one sentinel; a T5 v1.0 multiplies its hidden states by 1/√dim before the head."""
    model = t5("t5")
    with torch.inference_mode():
        read = model(
            input_ids=torch.tensor([[5, 6, 7]]), decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True
        )
        expected = read.decoder_hidden_states[-1][0, -1] @ model.shared.weight[199] / 32**0.5

    logits = EncoderDecoder(model).score([[5, 6, 7]], [199]).logits

    assert logits.shape == (1, 1)
    assert logits.item() == pytest.approx(expected.item(), abs=1e-4)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@cuda
@pytest.mark.parametrize("name", SHAPES)
def test_on_a_gpu_scores_equal_the_plain_loop(name):
    model = t5(name, d_kv=64)
    texts = random_texts(60, seed=random.randrange(2**32))
    expected = plain(model, texts, [0])

    engine = EncoderDecoder(model.cuda())

    assert engine.mode == "varlen"
    torch.testing.assert_close(engine.score(texts, TARGETS).logits, expected, rtol=1e-3, atol=1e-3)


@cuda
def test_on_a_gpu_deterministic_bits_do_not_depend_on_the_batch():
    engine = EncoderDecoder(t5("t5", d_kv=64).cuda().bfloat16(), deterministic=True)
    texts = random_texts(50, seed=3)

    whole = engine.score(texts, TARGETS).logits

    assert torch.equal(whole, torch.cat([engine.score([text], TARGETS).logits for text in texts]))


@cuda
def test_on_a_gpu_writing_equals_greedy_generate():
    model = t5("t5 v1.1", d_kv=64)
    texts = random_texts(4, seed=5, longest=60)
    expected = [written_by_transformers(model, [text], 12) for text in texts]

    assert EncoderDecoder(model.cuda()).generate([[text] for text in texts], max_tokens=12, slots=2).texts == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_forced_prefix_equals_the_plain_loop(name, mode):
    model = t5(name)
    texts = random_texts(10, seed=random.randrange(2**32), longest=150)
    lone, primed = plain(model, texts, [0]), plain(model, texts, [0, 54, 7])

    engine = EncoderDecoder(model, mode=mode)

    agree(engine.score(texts, TARGETS).logits, lone)
    agree(engine.score(texts, TARGETS, prefix=[0, 54, 7]).logits, primed)


@pytest.mark.parametrize("name", SHAPES)
def test_packed_states_equal_the_stock_encoder(name):
    model = t5(name)
    texts = random_texts(8, seed=random.randrange(2**32), longest=400)
    expected = torch.cat([states_of(model, [text])[0] for text in texts])

    with torch.inference_mode():
        got = PackedEncoder(model).encode(texts, Work())

    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "fused"), [("t5", True), ("t5 v1.1", True), ("umt5", True), ("t5 v1.1", False)])
def test_bits_do_not_depend_on_batch_order_neighbours_or_threads(name, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(linear, "available", lambda model: False)
    engine = EncoderDecoder(t5(name))
    texts = random_texts(35, seed=11, longest=200)  # more than one chunk of decoder rows
    neighbour = random_texts(3, seed=3, longest=500)[2]
    order = random.Random(4).sample(range(35), 35)
    threads = torch.get_num_threads()

    whole = engine.score(texts, TARGETS).logits
    alone = torch.cat([engine.score([text], TARGETS).logits for text in texts])
    shuffled = engine.score([texts[index] for index in order], TARGETS).logits
    beside = engine.score([texts[0], neighbour, *texts[1:]], TARGETS).logits
    torch.set_num_threads(3 - min(threads, 2))
    other = engine.score(texts, TARGETS).logits
    torch.set_num_threads(threads)

    assert engine.execution == ("packed, fused linear layers" if fused and linear.available(t5(name)) else "packed")
    assert torch.equal(whole, alone)
    assert torch.equal(whole[order], shuffled)
    assert torch.equal(whole, torch.cat([beside[:1], beside[2:]]))
    assert torch.equal(whole, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_group_is_scored_as_transformers_scores_its_concatenated_states(name, mode):
    model = t5(name)
    texts = random_texts(9, seed=random.randrange(2**32), longest=120)
    groups = [texts[:5], texts[5:6], texts[6:]]
    with torch.inference_mode():
        outputs = [BaseModelOutput(last_hidden_state=states_of(model, group)) for group in groups]
        start = torch.tensor([[0]])
        logits = [model(encoder_outputs=output, decoder_input_ids=start).logits[:, -1, TARGETS] for output in outputs]

    got = EncoderDecoder(model, mode=mode).score_groups(groups, TARGETS).logits

    agree(got, torch.cat(logits))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHAPES)
def test_writing_equals_greedy_generate(name, mode):
    model = t5(name)
    texts = random_texts(4, seed=5, longest=60)
    groups = [[texts[0]], [texts[1]], texts[2:], [texts[2]]]
    expected = [written_by_transformers(model, group, 12) for group in groups]

    got = EncoderDecoder(model, mode=mode).generate(groups, max_tokens=12)

    assert got.texts == expected
    assert len(set(map(tuple, expected))) > 1, "groups that are all answered alike prove nothing"


def test_writing_stops_at_an_end_token_and_keeps_to_what_is_allowed():
    model = t5("t5 v1.1")
    texts = random_texts(12, seed=5, longest=60)
    groups = [[text] for text in texts]
    allowed = [12, 3, 90, 41]
    model.config.eos_token_id = model.generation_config.eos_token_id = allowed[0]
    expected = [written_by_transformers(model, group, 12, allowed) for group in groups]

    got = EncoderDecoder(model).generate(groups, max_tokens=12, allowed=allowed)

    assert got.texts == expected
    assert {text[-1] == 12 for text in expected} == {True, False}, "some should end and some be cut off"
    assert got.generated == sum(map(len, expected))


def written_by_transformers(model: Any, group: list[list[int]], limit: int, allowed: Any = None) -> list[int]:
    """Greedy search over a group's states, after the start token and up to the end token."""
    states = states_of(model, group)
    ids = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=torch.ones(states.shape[:2], dtype=torch.long),
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        prefix_allowed_tokens_fn=(lambda row, written: allowed) if allowed else None,
    )
    return ids[0, 1:].tolist()


def test_writing_does_not_depend_on_the_batch():
    engine = EncoderDecoder(t5("t5"))
    groups = [[text] for text in random_texts(35, seed=9, longest=80)]

    together = engine.generate(groups, max_tokens=6, prefix=[0, 17]).texts
    alone = [engine.generate([group], max_tokens=6, prefix=[0, 17]).texts[0] for group in groups[:6]]

    assert together[:6] == alone


LAYER = 4 * 32 * 48  # query, key, value and output of an attention
FEED = 2 * 32 * 64
ROWS = 192  # filler up to whole vectors for each thread and width is none: 192 is a multiple of 64


def test_what_was_computed_is_counted():
    engine = EncoderDecoder(t5("t5"))
    texts = [[5] * 100, [6] * 92]

    scored = engine.score(texts, TARGETS)

    encoder = 2 * (2 * ROWS * (LAYER + FEED) + 4 * 48 * (100**2 + 92**2))
    # the first layer's self-attention is a constant of the model; the second's reads one position: value and output
    linears = 2 * DECODER_ROWS * (2 * (LAYER + FEED) + LAYER // 2)
    reading = 2 * 4 * 192 * 3 * 32  # in each of two layers each of three heads reads every state, all channels of it
    head = 2 * DECODER_ROWS * 32 * 3
    if linear.available(t5("t5")):
        assert (scored.tokens, scored.padded) == (ROWS, 0)
        assert scored.flops == encoder + linears + reading + head


def test_padded_passes_count_their_rectangle():
    engine = EncoderDecoder(t5("t5"), mode="padded")

    scored = engine.score([[5] * 100, [6] * 60], TARGETS)

    encoder = 2 * (2 * 200 * (LAYER + FEED) + 4 * 48 * 2 * 100**2)
    decoder = 2 * 2 * (2 * (LAYER + FEED) + LAYER // 2) + 2 * 4 * 200 * 3 * 32 + 2 * 2 * 32 * 3
    assert (scored.tokens, scored.padded) == (160, 40)
    assert scored.flops == encoder + decoder


def test_a_forced_prefix_costs_its_positions():
    engine = EncoderDecoder(t5("t5"), mode="padded")
    text = [[5] * 100]

    lone, primed = (engine.score(text, TARGETS, prefix=prefix).flops for prefix in ([0], [0, 8, 9]))

    first = 2 * 2 * (LAYER + FEED) + 2 * 4 * 100 * 3 * 32  # two positions more in the first layer's other parts
    second = 2 * 3 * LAYER + 4 * 9 * 48 - 2 * LAYER // 2  # all of the second's self-attention; then the last alone
    assert primed - lone == first + second


def test_written_tokens_are_counted():
    engine = EncoderDecoder(t5("t5"), mode="padded")

    one, two = (engine.generate([[[5] * 100]], max_tokens=limit, allowed=[3, 4]).flops for limit in (1, 2))

    layers = 2 * (2 * (2 * LAYER + FEED) + 4 * 100 * 3 * 32 + 4 * 2 * 48)  # the second position looks at two
    assert two - one == layers + 2 * 32 * 2


def test_half_precision_keeps_its_head_in_float32():
    model = t5("mt5")
    texts = random_texts(40, seed=1, longest=100)
    expected = plain(model, texts, [0])

    engine = EncoderDecoder(model.bfloat16())
    logits = engine.score(texts, TARGETS).logits

    assert logits.dtype == torch.float32
    assert len(set(logits[:, 0].tolist())) > 35  # a bfloat16 head would make ties
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_writing_what_is_no_number_is_an_error():
    model = t5("mt5")
    engine = EncoderDecoder(model)
    model.lm_head.weight.data[5] = float("nan")

    with pytest.raises(JudgeError, match="no finite number"):
        engine.generate([[[7, 8]]], max_tokens=2)


def test_a_checkpoint_without_a_start_token_wants_a_prefix():
    model = t5("t5")
    model.config.decoder_start_token_id = None
    engine = EncoderDecoder(model)

    assert engine.score([[5]], TARGETS, prefix=[0]).logits.shape == (1, 3)
    with pytest.raises(InputError, match="decoder_start_token_id"):
        engine.score([[5]], TARGETS)


def test_no_text_has_no_logits():
    engine = EncoderDecoder(t5("t5"))

    assert engine.score([], TARGETS).logits.shape == (0, 3)
    assert engine.generate([], max_tokens=3).texts == []


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda engine: engine.score([[5], []], TARGETS), "text 1 has no tokens"),
        (lambda engine: engine.score([[5, 200]], TARGETS), "texts: there is no token 200 in a vocabulary of 200"),
        (lambda engine: engine.score([[5]], [-1]), "targets: there is no token -1"),
        (lambda engine: engine.score([[5]], TARGETS, prefix=[]), "prefix="),
        (lambda engine: engine.score_groups([[[5]], []], TARGETS), "group 1 has no texts"),
        (lambda engine: engine.generate([[[5]]], max_tokens=0), "max_tokens=0"),
        (lambda engine: engine.generate([[[5]]], max_tokens=2, allowed=[]), "allowed="),
    ],
)
def test_what_cannot_be_asked_is_refused(call, complaint):
    with pytest.raises(InputError, match=complaint):
        call(EncoderDecoder(t5("t5")))


def broken(how: str) -> Any:
    if how == "bart":
        config = transformers.BartConfig(vocab_size=99, d_model=16, encoder_layers=1, decoder_layers=1)
        return transformers.BartForConditionalGeneration(config).eval()
    model = t5("t5")
    if how == "training":
        return model.train()
    if how == "half":
        return model.half()
    model.encoder.block[0].layer[0].SelfAttention.q = nn.Linear(32, 48)
    return model


@pytest.mark.parametrize(
    ("how", "complaint"),
    [("bart", "'bart'"), ("training", r"\.eval\(\)"), ("half", "float16"), ("biased", "not a plain matrix")],
)
def test_a_model_that_cannot_be_run_is_refused(how, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        EncoderDecoder(broken(how))


def test_a_model_that_disagrees_with_its_own_forward_is_refused_at_load(monkeypatch):
    import rerank.engine.t5.head as module

    monkeypatch.setattr(module, "head_scale", lambda config: 1.0)
    with pytest.raises(CheckpointError, match="changes the scores"):
        EncoderDecoder(t5("t5"))


def test_a_model_can_be_loaded_into_one_engine_only():
    model = t5("t5")
    if not linear.available(model):
        pytest.skip("layers are fused on x86 CPUs only")
    EncoderDecoder(copy.deepcopy(model))
    EncoderDecoder(model)

    with pytest.raises(CheckpointError, match="afresh"):
        EncoderDecoder(model)
