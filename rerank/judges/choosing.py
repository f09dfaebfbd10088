"""Which judge asks a checkpoint, and whether it takes the options given. No model is loaded for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rerank import checkpoints, prompts
from rerank.errors import CheckpointError, InputError
from rerank.questions import Algorithm, Compare, Grade, GradeSet, Judge, Permute, Pick, Write

__all__ = [
    "ASKS",
    "BY_KIND",
    "answered",
    "check_fit",
    "check_options",
    "chosen_judge",
    "judge_for",
    "keywords",
]

ASKS: Mapping[str, type] = {
    "grade": Grade,
    "grade-set": GradeSet,
    "compare": Compare,
    "pick": Pick,
    "permute": Permute,
    "write": Write,
}
"""The kind of question that a prompt puts, by its `asks`."""

SAID = {
    "causal": "a causal language model",
    "encoder-decoder": "a T5",
    "score-head": "a causal model with a score head",
    "encoder-head": "a T5 encoder with a score head",
    "fusion-in-t5": "a Fusion-in-T5",
    "t5gemma2": "a T5Gemma 2",
    "bidirectional": "a Llama that sees both ways, with a score head",
    "layer-wise": "a causal model with a score head behind each of its later layers",
    "listwise-embedding": "a causal model that gives query and documents a vector each",
    "passage-embedding": "a causal model that reads passages as vectors of an encoder",
}

WITHOUT_PROMPT = ("cross-encoder", "set-encoder", "late-interaction", "bi-encoder", "term-weights")
"""Kinds of checkpoint whose judge has their name and reads pairs of texts as they are."""

BY_KIND = {
    "score-head": "score-head",
    "encoder-head": "score-head",
    "bidirectional": "score-head",
    "layer-wise": "layer-wise",
    "listwise-embedding": "listwise-embedding",
    "passage-embedding": "passage-embedding",
    "t5gemma2": "pooled-passage",
}
"""The judge of a kind of checkpoint that is asked in one way alone."""

FUSED = {"permute": "fusion-in-decoder", "grade-set": "fusion-attention"}
BY_ASKS = {"compare": "target-token", "pick": "choice", "grade-set": "attention"}


def chosen_judge(
    folder: str | Path, prompt: str | Path | prompts.Prompt | None, adapter: str | Path | None = None
) -> str:
    """The judge of a checkpoint when none was named: by its kind, which an adapter may change, and by its prompt.

    Raises:
        CheckpointError: when it needs a prompt and there is none.
        InputError: when it reads no prompt and there is one, or no judge asks this prompt.
    """
    kind = checkpoints.kind(folder, adapter)
    if kind in WITHOUT_PROMPT:
        if prompt is not None:
            raise InputError(f"{Path(folder).name} is a {kind}, which reads no prompt; leave out {prompt!r}")
        return kind
    if kind == "encoder":
        raise CheckpointError(
            f"{folder} is an encoder without anything behind it: say judge='late-interaction' to compare its tokens' "
            "vectors, or judge='bi-encoder' to compare their means"
        )
    if prompt is None:
        raise CheckpointError(
            f"{folder} is {SAID[kind]}, which is asked by a prompt: give prompt= one of 'rerank list prompts', and "
            "judge= to be asked in another way than the prompt's usual one"
        )
    return BY_KIND.get(kind) or judge_for(prompts.find(prompt))


def judge_for(prompt: prompts.Prompt) -> str:
    """The judge that usually asks a prompt.

    Raises:
        InputError: when it asks for a text, which ranks nothing.
    """
    if prompt.judge:
        return prompt.judge
    if prompt.scale:
        return "written-score"
    if prompt.asks == "grade":
        if prompt.reading == "peak" or any(" " in target.strip() for target in prompt.targets):
            return "ratings"  # words of several tokens, or one word against all that could be written
        return "target-token" if prompt.targets else "likelihood"
    if prompt.fused:
        return "fusion-in-t5" if prompt.targets else FUSED[prompt.asks]
    if prompt.asks == "permute":
        return "first-token" if prompt.answer.endswith("[") else "permutation"
    if prompt.asks not in BY_ASKS:
        raise InputError(f"prompt {prompt.name!r} asks to {prompt.asks}, which ranks nothing; choose another prompt")
    return BY_ASKS[prompt.asks]


def check_options(name: str, judge: type, given: Iterable[str]) -> None:
    """Refuse options that a judge does not have, and a prompt that is missing.

    Raises:
        InputError: naming the option.
    """
    known = keywords(judge)
    for option in given:
        if option not in known:
            raise InputError(f"judge {name!r} takes no {option}; leave it out")
    if "prompt" in known and known["prompt"].default is inspect.Parameter.empty and "prompt" not in set(given):
        raise InputError(f"judge {name!r} needs a prompt: give prompt= one of 'rerank list prompts', or a TOML file")


def answered(judge: type[Judge], prompt: str | Path | prompts.Prompt | None) -> frozenset[type]:
    """What a judge will answer when it is asked by this prompt, which may be one of the kinds that it can; and what it
    answers by another one (`answers_too`)."""
    able: frozenset[type] = judge.answers
    if prompt is None:
        return able
    too: frozenset[type] = getattr(judge, "answers_too", frozenset())
    return able & ({ASKS[prompts.find(prompt).asks]} | too) or able


def check_fit(algorithm: Algorithm, able: frozenset[type], judge: str) -> None:
    """Refuse an algorithm that asks what a judge does not answer.

    Raises:
        InputError: naming both.
    """
    if unable := algorithm.asks - able:
        asks, answers = (", ".join(sorted(kind.__name__ for kind in kinds)) for kinds in (unable, able))
        raise InputError(f"{algorithm.name} asks {asks}, and {judge} answers only {answers}; choose another algorithm")


def keywords(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a function; of a class its own, and those of the classes that it hands others on to."""
    if not isinstance(maker, type):
        return _keywords(maker)
    found: dict[str, inspect.Parameter] = {}
    for each in maker.__mro__:
        if "__init__" not in vars(each) or each is object:
            continue
        made = vars(each)["__init__"]
        found = _keywords(made) | found
        if not any(value.kind is value.VAR_KEYWORD for value in inspect.signature(made).parameters.values()):
            break
    return found


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        found = inspect.signature(function, eval_str=True).parameters
    except NameError:  # a hint that only a type checker can read
        found = inspect.signature(function).parameters
    return {name: value for name, value in found.items() if value.kind is value.KEYWORD_ONLY}
