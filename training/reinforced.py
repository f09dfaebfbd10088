"""Models that write, trained by what their answers are worth: GRPO, by trl's trainer.

Prompts are the toolkit's own, read as a judge reads them; answers are drawn by transformers, read as a judge reads them
and rewarded by `training.rewards`. All else is trl's.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank import prompts
from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.errors import InputError
from rerank.registry import extra_for
from training.lists import Alone, Lists, Source, agreeing
from training.recipe import Recipe
from training.rewards import REWARDS, Shown
from training.rewards.reward import Part
from training.rollouts import Completions, Rollouts
from training.students.student import lora_config

if TYPE_CHECKING:
    from training.students.reasoner import Reasoner

__all__ = ["as_asked", "check_texts", "made_trainer", "worth"]


def check_texts(recipe: Recipe, *, measured: bool) -> None:
    """See that the parts of a recipe for a model that writes belong together; and that NEFTune's noise is as published.

    Raises:
        InputError: naming what does not fit.
        MissingExtra: when trl is not installed.
    """
    schedule, reads, options = recipe.schedule, recipe.objective.reads, recipe.student.options
    if schedule.noise is not None and (reads == "rewards" or options.get("packed") is not False):
        raise InputError(
            f"noise={schedule.noise} goes by the length of a text: it wants student.options.packed=false, and is not "
            "for 'grpo'"
        )
    if reads not in ("completions", "rewards"):
        return
    if measured:
        raise InputError(
            f"a {recipe.student.kind} ranks by what it writes, which takes long; leave out [development], and measure "
            "what was trained with 'rerank rerank'"
        )
    if reads == "completions" and (schedule.sample is not None or schedule.shuffle):
        raise InputError(
            "completions name documents in the order shown; leave out schedule.sample and schedule.shuffle"
        )
    if reads == "rewards":
        _check_rewarded(recipe)


def _check_rewarded(recipe: Recipe) -> None:
    if find_spec("trl") is None:
        raise extra_for("GRPO", "trl")
    asked = prompts.find(recipe.student.options.get("prompt", "reasonrank"))
    name = Rollouts(**recipe.objective.options).reward
    reward = REWARDS[name]
    if (asked.asks, asked.worst) != (reward.asks, reward.worst) or (name == "interank" and not asked.scale):
        raise InputError(
            f"reward {name!r} is of answers to prompts such as {name!r}, and prompt {asked.name!r} asks for others"
        )
    if recipe.student.options.get("packed"):
        raise InputError("packed=true, but 'grpo' is padded; leave it out")
    if recipe.student.lora is not None and recipe.student.lora.quantize is not None:
        raise InputError(f"student.lora.quantize={recipe.student.lora.quantize!r} is not for 'grpo'; leave it out")
    if asked.shows == 1 and (recipe.schedule.sample is not None or recipe.schedule.shuffle):
        raise InputError(f"prompt {asked.name!r} shows one document; leave out schedule.sample and schedule.shuffle")


def as_asked(recipe: Recipe, source: Source, say: Callable[[str], None]) -> Source:
    """Examples as a model that writes is asked about them: one document each where its prompt shows one, and without
    those whose order is too far from their labels."""
    reads = recipe.objective.reads
    if reads == "rewards" and prompts.find(recipe.student.options.get("prompt", "reasonrank")).shows == 1:
        return Alone(source)
    least = Completions(**recipe.objective.options).agreement if reads == "completions" else None
    if least is None:
        return source
    kept = agreeing(source, least)
    say(f"left out {len(source) - len(kept):,} of {len(source):,} lists: nDCG@10 of their order below {least}")
    return kept


def worth(name: str, part: Part, student: Reasoner) -> Callable[..., list[float]]:
    """A part of a reward as trl calls it: with the tokens of each answer, and what was shown."""
    begun = student.tokenizer(student.reader.prompt.answer, add_special_tokens=False)["input_ids"]

    def rewarded(completion_ids: Sequence[Sequence[int]], shown: Sequence[Shown], **others: Any) -> list[float]:
        texts = [student.tokenizer.decode([*begun, *ids], skip_special_tokens=True) for ids in completion_ids]
        return [part(_read(text, student), one) for text, one in zip(texts, shown, strict=True)]

    rewarded.__name__ = name  # what trl logs it by
    return rewarded


def _read(text: str, student: Reasoner) -> str:
    """A text as a judge reads it: up to its end, with the beginning of a thought that the prompt ends with."""
    for stop in student.reader.prompt.stop:
        text = text.partition(stop)[0]
    return text if student.reader.prompt.answer else student.reader.begun + text


class Questions:
    """What the model is asked, row by row: examples as prompts, in another order in each epoch.

    Args:
        student: whose prompts they are.
        lists: the examples.
        rollouts: answers to each.
    """

    def __init__(self, student: Reasoner, lists: Lists, rollouts: int) -> None:
        self.student, self.lists, self.rollouts = student, lists, rollouts
        self.prompt = lru_cache(maxsize=4096)(self._prompt)
        self.order = lru_cache(maxsize=2)(self._order)

    def rows(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """For `datasets`: the prompt's key, and what is shown."""
        epoch = self.lists.epoch
        places = [self.order(epoch)[row] for row in batch["row"]]
        shown = {place: Shown(self.lists[place], self.student.reader.prompt) for place in dict.fromkeys(places)}
        return {"prompt": [f"{epoch} {place}" for place in places], "shown": [shown[place] for place in places]}

    def ids(self, key: str) -> Rendered:
        """The prompt of a key."""
        return self.prompt(*map(int, key.split()))

    def _prompt(self, epoch: int, place: int) -> Rendered:
        assert epoch == self.lists.epoch, "a prompt of another epoch"
        example = self.lists[place]
        return self.student.reader.read(example.query, example.documents, room=self.student.new_tokens)

    def _order(self, epoch: int) -> list[int]:
        places = range(len(self.lists))
        return random.Random(f"{self.lists.seed} {epoch}").sample(places, len(places))


def made_trainer(recipe: Recipe, output: Path, lists: Lists) -> Any:
    """trl's trainer of a student.

    Args:
        recipe: what to do.
        output: folder of checkpoints.
        lists: what the model is asked about.

    Raises:
        InputError: when there are fewer lists than one optimiser step takes, or a query leaves no room.
    """
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from training.students.reasoner import Reasoner
    from training.trainer import Epochs

    asked = Rollouts(**recipe.objective.options)
    student = Reasoner(recipe.student.model, **{**recipe.student.options, "packed": False})
    questions = Questions(student, lists, asked.rollouts)
    reward = REWARDS[asked.reward]

    class Trainer(GRPOTrainer):
        """Asks by our prompts, and leaves the card to us."""

        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            read = [questions.ids(key) for key in prompts]
            self.cut["truncated_documents"] += sum(len(one.cut or ()) for one in read[:: asked.rollouts])
            return [list(one.ids) for one in read], None, {}

        def create_model_card(self, *given: Any, **named: Any) -> None:
            """Ours is written at the end."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = GRPOConfig(str(output), **_arguments(recipe, asked, student.new_tokens))
        if (least := recipe.schedule.lists * recipe.schedule.accumulate * args.world_size) > len(lists):
            raise InputError(
                f"an optimiser step asks about {least} lists, and there are {len(lists)}; give more, or lower "
                "schedule.lists or schedule.accumulate"
            )
        trainer = Trainer(
            student.model,
            [worth(name, part, student) for name, part in reward.parts.items()],
            args,
            Dataset.from_dict({"row": list(range(len(lists)))}).with_transform(questions.rows),
            processing_class=student.tokenizer,
            callbacks=[Epochs(lists)],
            peft_config=None if recipe.student.lora is None else lora_config(recipe.student.lora),
        )
    student.model = trainer.model
    trainer.student, trainer.development, trainer.cut = student, None, {"truncated_documents": 0}
    return trainer


def _arguments(recipe: Recipe, asked: Rollouts, new_tokens: int) -> dict[str, Any]:
    schedule, reward = recipe.schedule, REWARDS[asked.reward]
    return {
        **schedule.arguments,
        "eval_strategy": "no",
        "per_device_train_batch_size": schedule.lists * asked.rollouts,
        "gradient_checkpointing": schedule.gradient_checkpointing,
        "fsdp": schedule.fsdp,
        "num_generations": asked.rollouts,
        "max_completion_length": new_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "beta": asked.kl,
        "epsilon": asked.clip,
        "loss_type": asked.average,
        "scale_rewards": asked.scale,
        "mask_truncated_completions": asked.drop_cut,
        "reward_weights": [asked.weights.get(name, reward.weights[name]) for name in reward.parts],
        "shuffle_dataset": False,  # each epoch has an order of its own here, which a resumed run knows
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }
