"""Models that think and answer: fine-tuned on what a teacher wrote, and by what their own answers are worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import tiny_lm
from lists_to_learn import lists

from rerank import Reranker, prompts
from rerank.errors import InputError, UnknownName
from training.checks import check_recipe
from training.examples import BadExample, Example
from training.lists import Alone, Lists, agreeing
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable, find, names
from training.reinforced import Questions, worth
from training.rewards import Reward, Shown
from training.rewards.choices import exclusion
from training.run import run_training
from training.students.reasoner import Reasoner
from training.students.student import Lora


@pytest.fixture(scope="module")
def lm(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm(tmp_path_factory.mktemp("lm"), smollm)


SHORT = """source = "https://example.org"
asks = "grade"
judge = "written-score"
plain = "{query}? {document}!"
scale = [0, 2]
"""


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prompt of few words, whose answers are worth 1 when they begin a word: any model has some of both kinds."""
    begins = Reward({"grade": lambda text, shown: float(text.startswith(" "))}, {"grade": 1.0}, "grade", ("scores",))
    monkeypatch.setattr("training.reinforced.REWARDS", {"interank": begins})
    (tmp_path / "short.toml").write_text(SHORT, encoding="utf-8")
    return str(tmp_path / "short.toml")


def graded(folder: Path, prompt: str, steps: int, lora: Lora | None = None) -> Recipe:
    student = StudentTable("reasoner", str(folder), {"prompt": prompt, "max_tokens": 40, "new_tokens": 1}, lora)
    schedule = Schedule(max_steps=steps, lists=2, learning_rate=3e-2, warmup=0, log_every=1, save_every=2)
    return Recipe(student, Objective("grpo", {"reward": "interank", "rollouts": 6}), schedule)


def log_of(output: Path) -> list[dict[str, Any]]:
    entries = json.loads((output / "training.json").read_text(encoding="utf-8"))["log"]
    return [entry for entry in entries if "loss" in entry]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_answers_become_worth_more_and_the_rewards_are_logged(lm: Path, short: str, tmp_path: Path) -> None:
    said: list[str] = []

    run_training(graded(lm, short, 8), tmp_path / "out", examples=lists(1, documents=2), say=said.append)

    rewards = [entry["rewards/grade/mean"] for entry in log_of(tmp_path / "out")]
    assert len(rewards) == 8
    assert 0.1 < sum(rewards[:3]) / 3 < 0.8
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.5
    assert any(line.startswith("step 1 of 8: loss ") and ", reward: grade 0." in line for line in said)
    assert "interank" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "curves.png").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(lm: Path, short: str, tmp_path: Path) -> None:
    examples = lists(3, documents=2)
    recipe = graded(lm, short, 5, Lora(rank=4, alpha=8.0))

    def stop(line: str) -> None:
        if line.startswith("step 3 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(recipe, tmp_path / "stopped", examples=examples, say=stop)
    again = run_training(recipe, tmp_path / "stopped", examples=examples)
    whole = run_training(recipe, tmp_path / "whole", examples=examples)

    assert (again.resumed, whole.resumed, again.steps) == (2, 0, 5)
    one, two = (tmp_path / name / "model.safetensors" for name in ("stopped", "whole"))
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != (lm / "model.safetensors").read_bytes()
    assert (tmp_path / "whole" / "adapter" / "adapter_config.json").exists()


def test_each_epoch_asks_about_every_list_once_in_an_order_of_its_own(lm: Path) -> None:
    student = Reasoner(lm, prompt="rank-r1", max_tokens=900, new_tokens=16, packed=False)
    source = lists(6, documents=4)
    asked = Questions(student, Lists(source, sample=3, shuffle=True, seed=1), rollouts=2)

    first = asked.rows({"row": [0, 0, 1, 2, 3, 4, 5]})
    asked.lists.epoch = 1
    second = asked.rows({"row": list(range(6))})

    assert first["prompt"][0] == first["prompt"][1]
    assert sorted(set(first["prompt"])) == [f"0 {place}" for place in range(6)]
    assert sorted(second["prompt"]) == [f"1 {place}" for place in range(6)]
    assert [key[2:] for key in first["prompt"][1:]] != [key[2:] for key in second["prompt"]]
    shown = second["shown"][0].example
    text = student.tokenizer.decode(asked.ids(second["prompt"][0]).ids)
    assert [text.index(document) for document in shown.documents] == sorted(map(text.index, shown.documents))
    assert sum(shown.relevance or ()) == 1
    assert len(shown) == 3


def test_what_is_rewarded_is_read_as_its_judge_reads_it(lm: Path) -> None:
    student = Reasoner(lm, prompt="iranker", max_tokens=900, new_tokens=16, packed=False)
    shown = Shown(lists(1, documents=3)[0], prompts.find("iranker"))
    worst = (shown.relevance.index(0.0)) + 1
    ids = student.tokenizer(f" well</think> <answer>passage {worst}</answer>", add_special_tokens=False)["input_ids"]

    rewarded = worth("exclusion", exclusion, student)(completion_ids=[ids, ids[:2]], shown=[shown, shown])

    assert rewarded == [1.0, 0.0]  # the prompt opened the thought, and the second never ends it


def completed(example: Example) -> Example:
    order = " > ".join(f"[{place + 1}]" for place in example.order or ())
    return replace(example, completion=f"<think>{example.query} it is</think>\n<answer>{order}</answer>")


def test_thoughts_and_orders_are_learnt_by_heart_and_asked_for_again(lm: Path, tmp_path: Path) -> None:
    examples = [completed(example) for example in lists(2, documents=2)]
    options = {"prompt": "reasonrank", "max_tokens": 700, "new_tokens": 64, "packed": False}
    schedule = Schedule(max_steps=24, lists=2, learning_rate=1e-2, warmup=0, log_every=1, save_every=100, noise=1.0)
    recipe = Recipe(StudentTable("reasoner", str(lm), options), Objective("sft"), schedule)

    run_training(recipe, tmp_path / "out", examples=examples)

    losses = [entry["loss"] for entry in log_of(tmp_path / "out")]
    assert losses[-1] < losses[0] / 10
    with Reranker(tmp_path / "out") as reranker:
        for example in examples:
            ranked = reranker.rank(example.query, list(example.documents))
            assert [candidate.document.text for candidate in ranked] == [
                example.documents[place] for place in example.order or ()
            ]


def test_the_loss_is_over_the_completion_alone(lm: Path) -> None:
    student = Reasoner(lm, prompt="rank1", max_tokens=300, new_tokens=32).eval()
    example = Example("who won", ("a wall fell",), relevance=(1,), completion="<think>\nit fell.\n</think> true")
    inputs = student.read([example, replace(example, query="who won in berlin")])

    outputs = student(**inputs)

    written = inputs["written"][0][inputs["token_mask"][0]].tolist()
    assert student.tokenizer.decode(written[:-1]) == "\nit fell.\n</think> true"  # the prompt has the beginning
    assert written[-1] == student.tokenizer.eos_token_id
    prompt = student.reader.read(example.query, example.documents, room=len(written)).ids
    plain = transformers.AutoModelForCausalLM.from_pretrained(lm).eval()
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([[*prompt, *written]])).logits[0].log_softmax(-1)
    expected = [logits[len(prompt) - 1 + place, token].item() for place, token in enumerate(written)]
    assert outputs["log_probs"][0][: len(written)].tolist() == pytest.approx(expected, abs=1e-3)
    loss = Objective("sft").of_tokens(outputs, mask=torch.ones(2, 1), target=torch.zeros(2, 1))
    means = [outputs["log_probs"][row][inputs["token_mask"][row]].mean() for row in range(2)]
    assert loss.item() == pytest.approx(-(means[0] + means[1]).item() / 2, abs=1e-5)


def test_special_tokens_in_a_thought_are_text_and_tags_are_not_touched(lm: Path) -> None:
    student = Reasoner(lm, prompt="reasonrank", max_tokens=700, new_tokens=64)
    example = replace(lists(1, documents=2)[0], completion="<think>so <|im_end|> it</think><answer>[1] > [2]</answer>")

    ids = student.completion(example)

    assert ids.count(student.tokenizer.eos_token_id) == 1
    assert student.tokenizer.decode(ids[:-1]) == "<think>so < |im_end|> it</think><answer>[1] > [2]</answer>"


def test_lists_whose_order_is_far_from_their_labels_are_left_out_and_counted(lm: Path, tmp_path: Path) -> None:
    good = [completed(example) for example in lists(3, documents=9)]
    reversed_ = [completed(replace(one, order=(one.order or ())[::-1])) for one in good]  # the best last: nDCG .30
    options = {"prompt": "reasonrank", "max_tokens": 900, "new_tokens": 80}
    recipe = Recipe(
        StudentTable("reasoner", str(lm), options),
        Objective("sft", {"agreement": 0.4}),
        Schedule(max_steps=1, lists=2, save_every=10),
    )
    said: list[str] = []

    run_training(recipe, tmp_path / "out", examples=[*good, *reversed_], say=said.append)

    assert said[:2] == ["left out 3 of 6 lists: nDCG@10 of their order below 0.4", "3 lists, loss sft"]
    assert "- **Data:** 3 lists, 3 left out" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="none of 3 lists has an order"):
        agreeing(reversed_, 0.4)
    with pytest.raises(BadExample, match="an order is held against relevance; this example has scores"):
        agreeing([Example("q", ("a", "b"), scores=(1, 2))], 0.4)


def test_documents_alone_are_examples_of_their_own() -> None:
    source = lists(3, documents=4)

    alone = Alone(source)

    assert len(alone) == 12
    assert [alone[index].documents[0] for index in range(12)] == [text for one in source for text in one.documents]
    assert alone[7].relevance == ((source[1].relevance or ())[3],)


OF_REASONERS = [name for name in names() if find(name).student.kind == "reasoner"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", OF_REASONERS)
def test_every_recipe_of_a_reasoner_trains_a_step(lm: Path, tmp_path: Path, name: str) -> None:
    small = {"dtype": "float32", "max_tokens": 900, "new_tokens": 60}
    changes: dict[str, Any] = {f"student.options.{key}": value for key, value in small.items()}
    changes |= {
        "student.model": str(lm),
        "schedule.max_steps": 1,
        "schedule.accumulate": 1,
        "schedule.dtype": "float32",
    }
    rewarded = find(name).objective.loss == "grpo"
    changes |= {"objective.options.rollouts": 2, "student.options.new_tokens": 4} if rewarded else {}
    examples = [completed(example) for example in lists(2, documents=2)]
    if name == "rank1":
        alone = Alone(examples)
        examples = [replace(alone[place], completion="<think>well.</think> true") for place in range(2)]

    trained = run_training(find(name, changes), tmp_path / "out", examples=examples)

    assert trained.steps == 1
    assert (tmp_path / "out" / "rerank.toml").exists()


def test_what_does_not_fit_together_is_refused(lm: Path, tmp_path: Path) -> None:
    def recipe(objective: Objective, schedule: Schedule | None = None, **options: Any) -> Recipe:
        return Recipe(StudentTable("reasoner", str(lm), options), objective, schedule or Schedule())

    with pytest.raises(UnknownName, match="no reward is called 'rank-r2'; did you mean 'rank-r1'"):
        Objective("grpo", {"reward": "rank-r2"})
    with pytest.raises(UnknownName, match="no part of reward 'rearank' is called 'from'; did you mean 'form'"):
        Objective("grpo", {"reward": "rearank", "weights": {"from": 2}})
    with pytest.raises(InputError, match="rollouts=1; answers are compared"):
        Objective("grpo", {"reward": "rank-r1", "rollouts": 1})
    with pytest.raises(InputError, match="agreement=2; it is an nDCG"):
        Objective("sft", {"agreement": 2})
    grpo = Objective("grpo", {"reward": "rank-r1"})
    with pytest.raises(InputError, match="learns from losses over completions or rewards, and 'lm' is one over tokens"):
        check_recipe(recipe(Objective("lm")))
    with pytest.raises(InputError, match="a listwise learns from losses over tokens, and 'grpo' is one over rewards"):
        check_recipe(Recipe(StudentTable("listwise", str(lm)), grpo))
    with pytest.raises(InputError, match="reward 'rank-r1' is of answers to prompts such as 'rank-r1', and prompt"):
        check_recipe(recipe(grpo, prompt="tfrank"))
    with pytest.raises(InputError, match="prompt 'iranker' asks for others"):
        check_recipe(recipe(grpo, prompt="iranker"))
    with pytest.raises(InputError, match=r"leave out schedule\.sample and schedule\.shuffle"):
        check_recipe(recipe(Objective("sft"), Schedule(shuffle=True)))
    with pytest.raises(InputError, match=r"shows one document; leave out schedule\.sample"):
        check_recipe(recipe(Objective("grpo", {"reward": "tfrank"}), Schedule(sample=3), prompt="tfrank"))
    with pytest.raises(InputError, match=r"it wants student\.options\.packed=false"):
        check_recipe(recipe(Objective("sft"), Schedule(noise=5.0)))
    few = recipe(grpo, prompt="rank-r1", max_tokens=900, new_tokens=4)
    with pytest.raises(InputError, match="an optimiser step asks about 16 lists, and there are 2"):
        run_training(few, tmp_path / "few", examples=lists(2))
    with pytest.raises(InputError, match="new_tokens=3172 leaves no room for a prompt within max_tokens=100"):
        Reasoner(lm, max_tokens=100)
    with pytest.raises(BadExample, match=r"lists.jsonl:1: completion too long: a completion of \d+ tokens"):
        Reasoner(lm, max_tokens=700, new_tokens=4).check([completed(lists(1)[0])])
    with pytest.raises(BadExample, match="loss 'sft' needs completion; this example has order, relevance, scores"):
        Objective("sft").check(lists(1))
