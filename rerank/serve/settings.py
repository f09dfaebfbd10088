"""What a server is told: from a TOML file, the environment and the command line, checked before anything is loaded."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from rerank import config
from rerank.calibration import Calibration
from rerank.datasets import Dataset
from rerank.errors import ConfigError, InputError
from rerank.registry import did_you_mean
from rerank.rerankers.long_documents import LongDocuments
from rerank.rerankers.recipe import Recipe, recipe_of
from rerank.rerankers.reranker import Reranker
from rerank.stages import converted

__all__ = ["Served", "Settings"]

PREFIX = "RERANK_"
HANDED_ON = "RERANK_SERVE_SETTINGS"
"""Where worker processes find what the first process was told."""


@dataclass(frozen=True)
class Served:
    """One model of a server.

    Args:
        model: a checkpoint's name, a hub id, a folder, or a hosted model.
        name: what requests call it; the model as it is written here by default.
        aliases: other names that requests may use, such as one that a client's code has fixed.
        method: how it is asked; the checkpoint's own way by default.
        arguments: of `rerank.Reranker`, by name: `{"device": "cpu", "calibration": "calibration.json"}`.

    Raises:
        InputError: when an argument is none of `Reranker`'s, or is one that a server has of its own.
    """

    model: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    method: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refused = {"journal", "model", "name"} & set(self.arguments)
        if refused:
            raise InputError(f"model {self.title!r}: {min(refused)} is no argument here; leave it out")
        known = get_type_hints(Reranker.__init__)
        for name in self.arguments:
            if name not in known:
                raise InputError(f"model {self.title!r}: no argument is called {name!r}{did_you_mean(name, known)}")
        made = converted(Reranker, self.arguments, f"model {self.title!r}")
        object.__setattr__(self, "arguments", made)

    @property
    def title(self) -> str:
        """What requests call it."""
        return self.name or self.model

    def recipe(self, *, fetch: bool = False) -> Recipe:
        """What it will be made of, as far as it is known before it is loaded.

        Raises:
            UnknownName, CheckpointError, InputError: as `rerank.Reranker` does; and when its algorithm would bring in
                documents that no request sent.
        """
        name, arguments = self._asked
        made = recipe_of(name, arguments, fetch=fetch)
        if made.fetches:
            raise InputError(
                f"model {self.title!r}: {made.algorithm.name} brings in documents that a request did not send; serve "
                "another algorithm"
            )
        return made

    def load(self) -> Reranker:
        """The reranker."""
        name, arguments = self._asked
        return Reranker(name, **arguments)

    @property
    def _asked(self) -> tuple[str, dict[str, Any]]:
        if self.method:
            return self.method, {"model": self.model, **self.arguments}
        return self.model, dict(self.arguments)


@dataclass(frozen=True)
class Settings:
    """All that a server is told.

    Args:
        models: what it serves; the first answers requests that name none.
        host, port: where it listens.
        workers: processes, each with all models; a new one takes the place of one that dies.
        api_keys: when there are any, requests must bring one: `Authorization: Bearer KEY`.
        cors_origins: web pages of these origins may ask, "*" is all; none by default.
        collections: that the page offers beside those that ship: names of datasets, folders, or ir_datasets ids.
        queue: requests that may wait or be at work for one model at once; further ones are refused with 429.
        queue_documents: the same in documents.
        client_share: of the queue that one client (API key or address) may fill, from above 0 to 1.
        deadline: seconds after which a request is given up with 504; a request's `X-Timeout-Seconds` may shorten it.
        max_body: bytes.
        max_documents: of a request.
        max_tokens: of a request, query and documents together, by the model's tokenizer; bytes stand for tokens where
            the model is hosted.
        at_once: questions that go to a model in one call; a new request waits for no more than these. By default 64
            on the CPU, and 512 elsewhere.
        answers_kept: answers of a model that are remembered for repeated questions.
        tokens_kept: tokens of texts whose ids are remembered for each model, 4 bytes each; 64 more are counted for
            every text.
        shutdown: seconds that accepted requests have to be finished after SIGTERM; 0 is as long as they take.
        log_text: write queries and documents to the log, too.
        log_level: "debug", "info", "warning" or "error".

    Raises:
        InputError: when there is no model, two have one name, or a number makes no sense.
    """

    models: tuple[Served, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    cors_origins: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    queue: int = 256
    queue_documents: int = 20_000
    client_share: float = 0.5
    deadline: float = 60.0
    max_body: int = 16_777_216
    max_documents: int = 1_000
    max_tokens: int = 1_000_000
    at_once: int | None = None
    answers_kept: int = 10_000
    tokens_kept: int = 1_048_576
    shutdown: int = 60
    log_text: bool = False
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("no model is named; give --model, or [[models]] in the file")
        names = [name for served in self.models for name in (served.title, *served.aliases)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"two models are called {twice[0]!r}; give one of them another name")
        for name in ("workers", "queue", "queue_documents", "deadline", "max_body", "max_documents", "max_tokens"):
            if not getattr(self, name) >= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.port <= 65_535:
            raise InputError(f"port is {self.port}; it is a number from 0 to 65535")
        if not 0 < self.client_share <= 1:
            raise InputError(f"client_share is {self.client_share}; it is a share above 0 and at most 1")
        if (self.at_once is not None and self.at_once < 1) or min(
            self.answers_kept, self.tokens_kept, self.shutdown
        ) < 0:
            raise InputError("at_once must be at least 1; answers_kept, tokens_kept and shutdown at least 0")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise InputError(f"log_level is {self.log_level!r}; choose debug, info, warning or error")
        if any(not key for key in self.api_keys):
            raise InputError("an API key is empty; leave it out")

    @classmethod
    def read(cls, path: str | Path | None = None, said: Mapping[str, Any] | None = None) -> Settings:
        """From a file, over which the environment stands, over which stands what was `said` otherwise.

        Every setting has a variable: RERANK_PORT=9000, RERANK_API_KEYS='["one", "two"]' or 'one,two',
        RERANK_MODELS=name,name.

        Raises:
            FileError, ConfigError: when they cannot be read, or do not hold together.
        """
        values = {} if path is None else config.table(path)
        where = "the command line" if path is None else str(path)
        environment = _environment()
        return config.build(cls, {**values, **environment, **(said or {})}, where)

    def check(self) -> list[Recipe]:
        """Refuse what no download or loading could make good.

        Raises:
            UnknownName, FileError, CheckpointError, InputError: naming the model, or the collection.
        """
        for name in self.collections:
            Dataset.load(name)
        for served in self.models:
            _check_scores(served.arguments, f"model {served.title!r}")
        return [served.recipe() for served in self.models]

    def hand_on(self) -> None:
        """Leave them for worker processes."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        os.environ[HANDED_ON] = json.dumps(values, default=str)

    @classmethod
    def handed_on(cls) -> Settings:
        """What the first process left."""
        return config.build(cls, json.loads(os.environ[HANDED_ON]), HANDED_ON)

    def but(self, **changes: Any) -> Settings:
        """The same with changes."""
        return replace(self, **changes)


def _check_scores(arguments: Mapping[str, Any], what: str) -> None:
    """Refuse a calibration that is none, a threshold without one, and windows that nobody knows."""
    if (file := arguments.get("calibration")) is not None:
        Calibration.load(file)
    elif "threshold" in arguments:
        raise InputError(f"{what}: threshold={arguments['threshold']} is a probability and needs a calibration")
    policy = arguments.get("long_documents", "truncate")
    if isinstance(policy, str) and policy != "truncate":
        LongDocuments(policy, arguments.get("window_tokens"), arguments.get("stride_tokens"))


def _environment() -> dict[str, Any]:
    """The settings that the environment holds; a value is TOML, and a text or a list of texts where it is none."""
    hints = get_type_hints(Settings)
    found = {}
    for each in fields(Settings):
        text = os.environ.get(PREFIX + each.name.upper())
        if text:
            found[each.name] = _valued(each.name, hints[each.name], text)
    return found


def _valued(name: str, hint: Any, text: str) -> Any:
    where = PREFIX + name.upper()
    listed = getattr(hint, "__origin__", None) is tuple
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = [part.strip() for part in text.split(",") if part.strip()] if listed else text
    if name == "models" and isinstance(value, list):
        value = [{"model": part} if isinstance(part, str) else part for part in value]
    if hint is str and not isinstance(value, str):
        value = text
    if listed and not isinstance(value, list):
        value = [text]
    try:
        return config.convert(hint, value, where)
    except ConfigError as error:
        shown = "***" if name == "api_keys" else text
        raise ConfigError(
            f"{where}={shown}: {error}" if name != "api_keys" else f"{where} is no list of keys"
        ) from error
