"""PE-Rank's two stages: losses beside plain loops, what is trained and what is not, and the orders that come out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import tiny_lm
from lists_to_learn import lists
from published_models import pe_rank, plain_bert
from small_folders import wordpiece
from small_students import losses_of
from torch import Tensor
from torch.nn.functional import gelu, linear, normalize

from rerank import Document, Query, Reranker, checkpoints
from rerank.engine.decoders.vectors import Vectors
from rerank.engine.translated import tensors
from rerank.errors import CheckpointError, InputError
from rerank.judges.passage_embedding import PassageEmbedding as Judge
from rerank.questions import Permute
from training.checks import check_recipe
from training.examples import Example
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students.passage_alignment import PassageAlignment
from training.students.passage_embedding import PassageEmbedding
from training.students.student import Lora

PLACE = "<PLACEHOLDER>"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_bert(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def lm(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm(tmp_path_factory.mktemp("lm"), smollm)


class Plain:
    """The same by transformers' own forward, one text at a time, and words put together by hand."""

    def __init__(self, student: PassageEmbedding, lm: Path, encoder: Path) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(lm).eval()
        self.encoder, self.words = transformers.BertModel.from_pretrained(encoder).eval(), wordpiece(encoder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(lm)
        self.tokenizer.add_tokens([PLACE], special_tokens=True)
        self.weights = {name: value.detach() for name, value in student.model.base_model.projector.named_parameters()}

    @torch.no_grad()
    def tokens(self, example: Example) -> Tensor:
        rows = []
        for text in example.documents:
            states = self.encoder(**self.words(text, return_tensors="pt")).last_hidden_state[0]
            first = linear(normalize(states.mean(0), dim=-1), self.weights["0.weight"], self.weights["0.bias"])
            rows.append(linear(gelu(first), self.weights["2.weight"], self.weights["2.bias"]))
        return torch.stack(rows)

    @torch.no_grad()
    def states(self, said: str, tokens: Tensor, behind: Tensor) -> Tensor:
        """The hidden state in front of each row of `behind`, which is read as it is."""
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": said}], tokenize=False, add_generation_prompt=True
        )
        ids = self.tokenizer(chat, add_special_tokens=False, return_tensors="pt")["input_ids"]
        here = ids == self.tokenizer.convert_tokens_to_ids(PLACE)
        embedded = self.model.model.embed_tokens(ids.masked_fill(here, 0))
        embedded[here] = tokens
        whole = torch.cat([embedded, behind[None]], dim=1)
        return self.model.model(inputs_embeds=whole, use_cache=False).last_hidden_state[0, ids.shape[1] - 1 : -1]


def asked(example: Example, *, words: bool) -> str:
    count = len(example)
    shown = "\n\n".join(
        f"Passage {place}: [{PLACE}]{' ' + text if words else ''}"
        for place, text in enumerate(example.documents, start=1)
    )
    return (
        f"I will provide you with {count} passages, each with a special token representing the passage enclosed in [], "
        "followed by original text.\nRank the passages based on their relevance to the search query: "
        f"{example.query}.\n{shown}\n\nSearch Query: {example.query}.\nRank the {count} relatively ordered passages "
        "above based on their relevance to the search query, output the ranking in descending order. Only output the "
        f"{count} unique special token in the ranking.\n\n"
    )


def untaught(student: PassageEmbedding) -> set[str]:
    """Weights without a gradient; just those that are frozen, as several processes want it."""
    weights = dict(student.named_parameters())
    assert {name for name, weight in weights.items() if weight.requires_grad} == {
        name for name, weight in weights.items() if weight.grad is not None
    }
    return {name for name, weight in weights.items() if weight.grad is None}


def shares(logits: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in logits)
    return [math.exp(value) / total for value in logits]


@pytest.mark.parametrize("packed", [True, False])
def test_the_ranking_loss_is_what_a_plain_loop_over_what_is_left_says(lm: Path, encoder: Path, packed: bool) -> None:
    transformers.set_seed(0)
    student = PassageEmbedding(lm, encoder=str(encoder), max_tokens=700, packed=packed).eval()
    examples = [lists(1, documents=5)[0], lists(1, documents=3, seed=1)[0], lists(1, documents=1, seed=2)[0]]
    objective = Objective("pe-rank", {"contents": 0.5, "kl": 0.2})

    loss = objective.of_steps(student(**student.read(examples)), **objective.tensors(examples))

    plain, losses = Plain(student, lm, encoder), []
    for example in examples:
        tokens, order = plain.tokens(example), list(example.order or ())
        both = [plain.states(asked(example, words=words), tokens, tokens[order]) for words in (False, True)]
        total = 0.0
        for step in range(len(order)):
            left = order[step:]
            alone, full = (shares((tokens[left] @ states[step]).tolist()) for states in both)
            total -= math.log(alone[0]) + 0.5 * math.log(full[0])
            total += 0.2 * sum(b * math.log(b / a) for a, b in zip(alone, full, strict=True))
        losses.append(total)
    loss.backward()
    assert losses[0] > 1
    assert losses[2] == pytest.approx(0.0)
    assert loss.item() == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert untaught(student) == {"model.lm_head.weight"}


@pytest.mark.parametrize("packed", [True, False])
def test_the_alignment_loss_is_what_a_plain_loop_over_texts_says(lm: Path, encoder: Path, packed: bool) -> None:
    transformers.set_seed(0)
    student = PassageAlignment(lm, encoder=str(encoder), packed=packed).eval()
    examples, objective = lists(2, documents=2), Objective("reconstruction")

    loss = objective.of_tokens(student(**student.read(examples)), **objective.tensors(examples))

    plain, losses = Plain(student, lm, encoder), []
    for example in examples:
        for text, token in zip(example.documents, plain.tokens(example), strict=True):
            said = f"Passage: [{PLACE}]\n\nWrite the text of this passage."
            ids = [*plain.tokenizer(text, add_special_tokens=False)["input_ids"], plain.tokenizer.eos_token_id]
            states = plain.states(said, token[None], plain.model.model.embed_tokens(torch.tensor(ids)).detach())
            logs = plain.model.lm_head(states).log_softmax(-1).detach()
            losses.append(-sum(float(logs[place, token]) for place, token in enumerate(ids)) / len(ids))
    loss.backward()
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    weights = {name for name, _ in student.named_parameters()}
    assert untaught(student) == {name for name in weights if not name.startswith("model.model.projector.")}


def test_a_text_that_is_cut_is_counted_and_does_not_end(lm: Path, encoder: Path) -> None:
    student = PassageAlignment(lm, encoder=str(encoder), max_tokens=64, document_tokens=8)
    prompt = len(student.writer.read("q", ["a"]).ids)

    inputs = student.read([Example("q", ("berlin wall " * 60, "art"))])

    assert inputs["cut"] == 2  # once where it is read, once where it is written
    assert inputs["token_mask"].sum(-1).tolist()[0] == 64 - prompt
    assert student.tokenizer.eos_token_id not in inputs["written"][0].tolist()
    assert inputs["written"][1][inputs["token_mask"][1]].tolist()[-1] == student.tokenizer.eos_token_id


def recipe(kind: str, model: Path, loss: str, options: dict[str, Any], lora: Lora | None = None, **more: Any) -> Recipe:
    schedule = {"lists": 4, "learning_rate": 3e-3, "warmup": 0, "log_every": 1, "save_every": 1000, **more}
    return Recipe(StudentTable(kind, str(model), options, lora), Objective(loss), Schedule(**schedule))


def ranked(folder: Path, example: Example) -> list[int]:
    with Reranker(folder) as reranker:
        assert isinstance(reranker.judge, Judge)
        documents = [Document(str(index), text) for index, text in enumerate(example.documents)]
        return [int(candidate.document.doc_id) for candidate in reranker.rank(example.query, documents)]


@pytest.fixture(scope="module")
def aligned(lm: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("aligned") / "aligned"
    run_training(
        recipe("passage-alignment", lm, "reconstruction", {"encoder": str(encoder)}, max_steps=6, save_every=2),
        place,
        examples=[Example(each.query, each.documents) for each in lists(4, documents=2)],  # without any label
    )
    return place


def test_alignment_trains_the_projector_and_nothing_else(lm: Path, encoder: Path, aligned: Path) -> None:
    before, after = tensors(lm, ""), tensors(aligned, "")
    losses = losses_of(aligned)

    moved = {name for name in after if name not in before or not torch.equal(before[name], after[name])}

    assert moved == {f"model.projector.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    assert losses[-1] < losses[0]
    assert checkpoints.kind(aligned) == "passage-embedding"
    said = json.loads((aligned / "config.json").read_text(encoding="utf-8"))
    assert said["architectures"] == ["EmbedLlamaForRankLM"]
    assert (said["model_type"], said["encoder_name"], said["encoder_pooling"]) == ("embed_llama", str(encoder), "mean")
    assert sorted(ranked(aligned, lists(1)[0])) == [0, 1, 2, 3]
    assert "rerank train pe-rank" in (aligned / "README.md").read_text(encoding="utf-8")


def test_a_run_goes_on_from_a_checkpoint_with_the_same_bits(
    lm: Path, encoder: Path, aligned: Path, tmp_path: Path
) -> None:
    shutil.copytree(aligned / "checkpoints" / "checkpoint-4", tmp_path / "again" / "checkpoints" / "checkpoint-4")
    shutil.copy(aligned / "recipe.json", tmp_path / "again")

    trained = run_training(
        recipe("passage-alignment", lm, "reconstruction", {"encoder": str(encoder)}, max_steps=6, save_every=2),
        tmp_path / "again",
        examples=[Example(each.query, each.documents) for each in lists(4, documents=2)],
    )

    assert trained.resumed == 4
    one, two = tensors(aligned, ""), tensors(tmp_path / "again", "")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_vectors_gradient_has_the_same_bits_on_several_threads() -> None:
    """A vector stands in both prompts and behind them: what its places say is added up in one order."""
    generator = torch.Generator().manual_seed(0)
    table = Vectors(torch.nn.Embedding(5, 64).requires_grad_(False))
    table.extra = torch.randn(4, 64, generator=generator).requires_grad_()
    ids, slope = torch.randint(0, 9, (2000,), generator=generator), torch.randn(2000, 64, generator=generator)
    threads, found = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        for _ in range(30):
            found.add(torch.autograd.grad(table(ids), [table.extra], slope)[0].numpy().tobytes())
    finally:
        torch.set_num_threads(threads)

    assert len(found) == 1


def test_orders_are_learnt_and_decoded_by_the_judge(aligned: Path, encoder: Path, tmp_path: Path) -> None:
    taught, read = lists(2, documents=5), (encoder / "model.safetensors").read_bytes()

    run_training(
        recipe("passage-embedding", aligned, "pe-rank", {"max_tokens": 700}, max_steps=24, scheduler="constant"),
        tmp_path / "out",
        examples=taught,
    )

    losses = losses_of(tmp_path / "out")
    assert losses[-1] < losses[0] / 3
    for example in taught:
        assert ranked(tmp_path / "out", example) == list(example.order or ())
    assert (encoder / "model.safetensors").read_bytes() == read
    before, after = tensors(aligned, ""), tensors(tmp_path / "out", "")
    still = {name for name in after if torch.equal(before[name], after[name])}
    assert still == {"lm_head.weight"}  # passages are the vocabulary, and no word is


def test_what_is_trained_is_what_is_asked(aligned: Path, tmp_path: Path) -> None:
    student = PassageEmbedding(aligned, max_tokens=700, document_tokens=6).eval()
    student.finish(tmp_path / "out")
    example = lists(1, documents=5)[0]

    with Reranker(tmp_path / "out") as reranker:
        judge = reranker.judge
        assert isinstance(judge, Judge)
        assert (judge.document_tokens, judge.max_tokens) == (6, 1024)
        question = Permute(Query("q", example.query), tuple(Document(text, text) for text in example.documents))
        prompt = judge.render(question)
        assert prompt.ids == student.reader.read(example.query, example.documents).ids
        vectors = torch.from_numpy(judge.encoder.vectors(example.documents))
    assert torch.equal(vectors, student.read([example])["vectors"])
    assert reranker.recipe.algorithm.name == "sliding-windows"


def test_adapters_and_the_projector_are_trained_and_merged(aligned: Path, tmp_path: Path) -> None:
    taught, lora = lists(2, documents=3), Lora(rank=8, alpha=16.0)

    run_training(
        recipe("passage-embedding", aligned, "pe-rank", {"max_tokens": 700}, lora, max_steps=16, learning_rate=1e-2),
        tmp_path / "out",
        examples=taught,
    )

    assert (tmp_path / "out" / "adapter" / "adapter_config.json").exists()
    assert [ranked(tmp_path / "out", example) for example in taught] == [list(each.order or ()) for each in taught]
    before, after = tensors(aligned, ""), tensors(tmp_path / "out", "")
    assert before.keys() == after.keys()
    moved = {name.rpartition(".")[0].rpartition(".")[2] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "0", "2"}


def test_what_cannot_be_trained_so_is_refused(
    lm: Path, encoder: Path, aligned: Path, smollm: Path, flan: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"names no encoder; say student\.options\.encoder"):
        PassageEmbedding(lm)
    with pytest.raises(InputError, match=r"was trained with encoder .*, not .*; leave out encoder"):
        PassageEmbedding(aligned, encoder=str(plain_bert(tmp_path / "other")))
    with pytest.raises(InputError, match="was trained with pooling 'mean', not 'cls'"):
        PassageEmbedding(aligned, pooling="cls")
    with pytest.raises(InputError, match="no pooling is called 'max'"):
        PassageEmbedding(lm, encoder=str(encoder), pooling="max")
    with pytest.raises(CheckpointError, match=r"reads passages by the encoder .* is of kind causal"):
        PassageEmbedding(lm, encoder=str(lm))
    with pytest.raises(InputError, match="is of kind encoder-decoder; passages are read as vectors by a causal"):
        PassageEmbedding(flan, encoder=str(encoder))
    with pytest.raises(InputError, match="prompt 'rankgpt' shows no passage as a vector"):
        PassageEmbedding(lm, encoder=str(encoder), prompt="rankgpt")
    with pytest.raises(InputError, match="does not ask to write about one document"):
        PassageAlignment(lm, encoder=str(encoder), prompt="hyde")
    with pytest.raises(InputError, match="trains the projector and nothing else; leave out lora"):
        PassageAlignment(lm, encoder=str(encoder), lora=Lora())
    for kind in (PassageEmbedding, PassageAlignment):
        with pytest.raises(InputError, match=r"max_tokens=4096, but lm.* reads from 1 to 1024 tokens"):
            kind(lm, encoder=str(encoder), max_tokens=4096)
    narrow = plain_bert(tmp_path / "narrow", hidden=32)
    with pytest.raises(CheckpointError, match="two layers between vectors of 32 and a model of 64 were expected"):
        PassageEmbedding(pe_rank(tmp_path / "bad", smollm, encoder, encoder_name=str(narrow)))
    with pytest.raises(InputError, match="learns from losses over steps, and 'lm' is one over tokens"):
        check_recipe(recipe("passage-embedding", lm, "lm", {"encoder": str(encoder)}))
    with pytest.raises(InputError, match="'reconstruction' reads what it needs; leave it out"):
        Objective("reconstruction", target="order")
    with pytest.raises(InputError, match="known only when they are written"):
        check_recipe(recipe("passage-embedding", lm, "pe-rank", {"encoder": str(encoder)}), measured=True)
