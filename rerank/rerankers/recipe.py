"""What a reranker is made of: who asks, who answers, with which options. Known before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rerank import checkpoints, methods, registry
from rerank.checkpoints import Checkpoint, adapters
from rerank.errors import InputError, UnknownName
from rerank.judges.choosing import answered, check_fit, check_options, chosen_judge
from rerank.judges.hosting.choosing import asked_like, usual_prompt
from rerank.judges.hosting.dialects import is_remote, place
from rerank.judges.hosting.providers import is_hosted
from rerank.judges.logit_score import prompt_of
from rerank.methods import Method
from rerank.questions import Algorithm, Judge
from rerank.rerankers.options import ARGUMENTS, check_asking, defaults_of, gathered, shared_out, spelled

__all__ = ["Recipe", "recipe_of"]


OWN_METHODS = {"set-encoder": "set-encoder"}
"""Kinds of checkpoint that cannot be asked document by document, and the method that is meant when none is named."""


@dataclass(frozen=True)
class Recipe:
    """A reranker before its model is loaded.

    Args:
        name: what it is called: the checkpoint's name, or `method(checkpoint)`, with the options that were asked for.
        method: its name, or "" for a checkpoint that is asked in its own way.
        algorithm: who asks.
        asking: its options, where the user, the method or the checkpoint says them.
        judge: who answers: a judge, or the name of one; None when only the checkpoint's folder
            tells, and it is not here.
        answering: arguments of the judge.
        folder: where the checkpoint lies, or where a hosted model is asked; None when it is not on this machine, or the
            judge is made already.
    """

    name: str
    method: str
    algorithm: Algorithm
    asking: Mapping[str, Any]
    judge: str | Judge | None
    answering: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | str | None = None

    @property
    def hosted(self) -> bool:
        """Whether somebody else runs the model."""
        return self.judge in ("hosted", "remote")

    def load(self) -> Judge:
        """The judge; a model is loaded for it."""
        if not isinstance(self.judge, str):
            assert self.judge is not None
            return self.judge
        made: Judge = registry.load("judge", self.judge)(self.folder, **self.answering)
        return made

    @property
    def options(self) -> dict[str, Any]:
        """The options that are said, of algorithm and judge."""
        return {**{key: value for key, value in self.answering.items() if key not in ARGUMENTS}, **self.asking}

    @property
    def fetches(self) -> bool:
        """Whether the algorithm asks about documents that are not in the list."""
        return "graph" in defaults_of(self.algorithm)

    @property
    def described(self) -> str:
        """The algorithm with all its options: "heapsort(calibrated=False,head=10)"."""
        return _spelled(self.algorithm, {**defaults_of(self.algorithm), **self.asking})

    @property
    def changed(self) -> str:
        """The algorithm with those options that are not the defaults: the same still when it gets further ones."""
        usual = defaults_of(self.algorithm)
        return _spelled(self.algorithm, {name: value for name, value in self.asking.items() if value != usual[name]})


def recipe_of(name: str | Path | None, arguments: Mapping[str, Any], *, fetch: bool = True) -> Recipe:
    """What a reranker will be made of.

    Args:
        name: a checkpoint, or a method, which then wants `model`.
        arguments: of `Reranker`; those that say nothing about algorithm and judge are passed over.
        fetch: have the checkpoint here; without it, what only its folder tells stays unchecked where it is not.

    Raises:
        UnknownName: when nothing has the name.
        CheckpointError: when the checkpoint cannot be had, or is no reranker.
        InputError: when method, checkpoint, algorithm, judge and options do not fit together.
    """
    said = {key: value for key, value in arguments.items() if value is not None and value is not False}
    _check_names(said)
    method, model = _named(name, said.get("model"))
    judge = said.get("judge")
    if judge is not None and not isinstance(judge, str):
        return _around(judge, name, method, said)
    if model is None:
        raise _without_model(method)
    if judge == "oracle":
        raise InputError("an oracle needs judgments, not a checkpoint; make it: Reranker(judge=Oracle(qrels))")
    if judge == "remote" or (judge is None and is_remote(model)):
        return _RemoteOrder(method, model, None, said).recipe(str(model))
    if _is_hosted(model, said):
        return _HostedOrder(method, model, None, said).recipe(str(model))
    order = _Order(method, model, _entry(model), said)
    adapter = order.given.get("adapter")
    folder = checkpoints.fetch(model) if fetch else checkpoints.where(model)
    if adapter is not None and (adapters.fetch(adapter) if fetch else adapters.where(adapter)) is None:
        folder = None  # an adapter that is not here may turn it into a checkpoint of another kind
    if method is not None and folder is not None:
        _check_kind(method, folder, adapter)
    if folder is not None and order.usual and checkpoints.kind(folder) in OWN_METHODS:
        order = replace(order, method=methods.find(OWN_METHODS[checkpoints.kind(folder)]))
    return order.recipe(folder)


@dataclass(frozen=True)
class _Order:
    """What the user said, and the files of what it names.

    Args:
        method: whose preset it is, if it is one's.
        model: the checkpoint.
        entry: its file, if it has one.
        said: the arguments that say something.
    """

    method: Method | None
    model: str | Path
    entry: Checkpoint | None
    said: Mapping[str, Any]

    def recipe(self, folder: Path | str | None) -> Recipe:
        """With all that can be known before the model is loaded checked."""
        algorithm, asked, given = self.algorithm, gathered(self.said), self.given
        if self.usual and isinstance(folder, Path) and (own := prompt_of(folder)) is not None:
            given["prompt"] = own
        judge = self.judge or (
            None if folder is None else chosen_judge(folder, given.get("prompt"), given.get("adapter"))
        )
        kind = None if judge is None else registry.load("judge", judge)
        asking, answering = shared_out(asked, self.presets, algorithm, kind)
        check_asking(algorithm, asking)
        given = {**answering, **given}
        if judge is not None and kind is not None:
            check_options(judge, kind, given)
            check_fit(algorithm, answered(kind, given.get("prompt")), kind.__name__)
        name = _called(self.method, self.model, asked)
        return Recipe(name, _name(self.method), algorithm, asking, judge, given, folder)

    @property
    def algorithm(self) -> Algorithm:
        """The user's, the method's, or the one of the checkpoint's file."""
        return _algorithm(self.said, self.method, self.entry)

    @property
    def usual(self) -> bool:
        """Whether nobody says how the checkpoint is asked."""
        return self.method is None and self.entry is None and not {"algorithm", "judge", "prompt"} & set(self.said)

    @property
    def judge(self) -> str | None:
        """The user's, the method's, or the one of the checkpoint's file; another prompt may want another one."""
        if "judge" in self.said or self.method is not None:
            return str(self.said.get("judge") or (self.method and self.method.judge))
        return self.entry.judge or None if self.entry is not None and "prompt" not in self.said else None

    @property
    def prompt(self) -> str:
        """Its name; "" where the judge has one of its own, or reads none."""
        if "prompt" in self.said or self.method is not None:
            return str(self.said.get("prompt") or (self.method and self.method.prompt))
        return self.entry.prompt if self.entry is not None and self.judge in (None, self.entry.judge) else ""

    @property
    def given(self) -> dict[str, Any]:
        """Arguments of the judge."""
        usual: dict[str, Any] = {"prompt": self.prompt} if self.prompt else {}
        if self.entry is not None:
            usual["max_tokens"] = self.entry.max_tokens
            if self.entry.adapter:
                usual["adapter"] = self.entry.adapter
            if self._asked_as_its_file_says and self.entry.targets:
                usual["targets"] = self.entry.targets
        return usual | {name: self.said[name] for name in ARGUMENTS if name in self.said}

    @property
    def presets(self) -> dict[str, Any]:
        """Options that are set beforehand: the method's, and the checkpoint's, which know better how it was trained."""
        options = {} if self.method is None else self.method.options
        own = self.entry.options if self.entry is not None and self._asked_as_its_file_says else {}
        return {**options, **own}

    @property
    def _asked_as_its_file_says(self) -> bool:
        """By the checkpoint's own judge and prompt, with which its targets and options go."""
        entry = self.entry
        return entry is not None and self.judge in (None, entry.judge) and self.prompt == entry.prompt


class _HostedOrder(_Order):
    """The same of a model that a server runs: one judge asks it in the way of any other."""

    def recipe(self, folder: Path | str | None) -> Recipe:
        """As of `_Order`; a method must be one that asks causal models."""
        if self.method is not None and "causal" not in self.method.wants:
            raise InputError(
                f"method {self.method.name!r} asks checkpoints of kind {' or '.join(self.method.wants)}, and a hosted "
                "model is a causal one; 'rerank list methods' shows others"
            )
        return super().recipe(folder)

    @property
    def judge(self) -> str:
        """Always the same."""
        return "hosted"

    @property
    def presets(self) -> dict[str, Any]:
        """Those of the method, and the mode in which its judge asks."""
        return {**super().presets, **asked_like(super().judge)}

    @property
    def prompt(self) -> str:
        """The user's, the method's, or the one that its judge usually asks by."""
        return super().prompt or usual_prompt(super().judge)


class _RemoteOrder(_Order):
    """The same of a reranker that a server runs, which is sent lists of documents and asked in its own way."""

    def recipe(self, folder: Path | str | None) -> Recipe:
        """As of `_Order`; a method would have nothing to say."""
        if self.method is not None:
            raise InputError(
                f"method {self.method.name!r} says how a model is asked, which a server of rerankers decides itself; "
                "leave the method out"
            )
        return super().recipe(folder)

    @property
    def algorithm(self) -> Algorithm:
        """The user's, or lists of documents."""
        return _algorithm({"algorithm": "group-scores", **self.said}, None, None)

    @property
    def judge(self) -> str:
        """Always the same."""
        return "remote"

    @property
    def presets(self) -> dict[str, Any]:
        """As many documents in a request as its server takes."""
        options = self.said.get("options")
        dialect = options.get("dialect") if isinstance(options, Mapping) else None
        return {"group": place(str(self.model), dialect).most}


def _is_hosted(model: str | Path, said: Mapping[str, Any]) -> bool:
    options = said.get("options")
    return is_hosted(model) or said.get("judge") == "hosted" or (isinstance(options, Mapping) and "base_url" in options)


def _check_names(said: Mapping[str, Any]) -> None:
    """A slip in a name is told before anything else is looked at."""
    for kind in ("algorithm", "judge"):
        if isinstance(name := said.get(kind), str) and name not in registry.names(kind):
            raise registry.unknown(kind, name, registry.names(kind))


def _named(name: str | Path | None, model: str | Path | None) -> tuple[Method | None, str | Path | None]:
    """The method that a name stands for, if it does, and the checkpoint."""
    if name is None or name == model:
        return None, model
    if methods.known(name) or model is not None:
        return methods.find(str(name)), model
    return None, name


def _around(judge: Judge, name: str | Path | None, method: Method | None, said: Mapping[str, Any]) -> Recipe:
    """A reranker with a judge that is made already: nothing but the algorithm can be chosen."""
    if fixed := [key for key in ("model", *ARGUMENTS) if key in said]:
        raise InputError(f"{', '.join(fixed)} cannot change a judge that is already made; give them to the judge")
    entry = None if name is None or method is not None or "algorithm" in said else checkpoints.find(name).checkpoint
    algorithm, asked = _algorithm(said, method, entry), gathered(said)
    presets = method.options if method is not None else entry.options if entry is not None else {}
    asking, _ = shared_out(asked, presets, algorithm, _Made)
    check_fit(algorithm, judge.answers, type(judge).__name__)
    check_asking(algorithm, asking)
    called = type(judge).__name__.lower() if name is None or method is not None else name
    return Recipe(_called(method, called, asked), _name(method), algorithm, asking, judge)


class _Made:
    """Stands for a judge that is made already, and takes nothing more."""


def _without_model(method: Method | None) -> InputError:
    if method is None:
        return InputError("a reranker needs a checkpoint's name, or a judge")
    return InputError(
        f"method {method.name!r} says how a model is asked, and not which: give model= a checkpoint of kind "
        f"{' or '.join(method.wants)}"
    )


def _entry(model: str | Path) -> Checkpoint | None:
    """The checkpoint's file, if it has one; a slip in a method's name is told as such."""
    try:
        return checkpoints.find(model).checkpoint
    except UnknownName as error:
        near = registry.did_you_mean(str(model), methods.names())
        if "; did you mean" in str(error) or not near.startswith("; did"):
            raise
        raise UnknownName(f"no method is called {str(model)!r}{near}") from error


def _check_kind(method: Method, folder: Path, adapter: str | Path | None) -> None:
    """Refuse a checkpoint of another kind than the method can ask."""
    if (kind := checkpoints.kind(folder, adapter)) not in method.wants:
        raise InputError(
            f"method {method.name!r} asks checkpoints of kind {' or '.join(method.wants)}, and {folder.name} is of "
            f"kind {kind}; 'rerank list methods' shows others"
        )


def _algorithm(said: Mapping[str, Any], method: Method | None, entry: Checkpoint | None) -> Algorithm:
    asked = said.get("algorithm")
    if isinstance(asked, Algorithm):
        return asked
    usual = method.algorithm if method is not None else entry.algorithm if entry is not None else "pointwise"
    loaded: Algorithm = registry.load("algorithm", asked or usual)
    return loaded


def _called(method: Method | None, model: str | Path, asked: Mapping[str, Any]) -> str:
    name = Path(model).name
    if method is not None:
        return f"{method.name}({','.join(filter(None, [name, spelled(asked)]))})"
    return f"{name}({spelled(asked)})" if asked else name


def _name(method: Method | None) -> str:
    return "" if method is None else method.name


def _spelled(algorithm: Algorithm, options: Mapping[str, Any]) -> str:
    return f"{algorithm.name}({spelled(options)})" if options else algorithm.name
