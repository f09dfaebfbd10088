"""`rerank doctor`: what is installed, what it runs on, and what is in the way."""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

import click

from rerank.cli import names
from rerank.cli.loading import fetch_model
from rerank.cli.screen import Screen, rows, with_screen, wrong_usage

__all__ = ["doctor"]

OURS = ("rerank", "retrievers", "training")
VERSIONS = (
    "rerank-toolkit", "torch", "triton", "transformers", "tokenizers", "huggingface-hub", "bm25s", "PyStemmer",
    "ir-datasets", "ir-measures", "numpy", "scipy", "onnx", "rich", "click",
)  # fmt: skip
HUB_WITHIN = 3.0
"""Seconds in which the hub must answer."""

REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+)(?:\[(?P<extras>[\w,.-]+)\])?.*extra == ['\"](?P<extra>[\w-]+)['\"]")


@click.command("doctor")
@names.model_option(required=False, help="Load this checkpoint, and show what is chosen for it.")
@names.method_options()
@names.algorithm_option()
@names.judge_options
@names.token_options
@names.device_options
@with_screen
def doctor(*, screen: Screen, model: str | None, **options: Any) -> None:
    """Show versions, devices, caches, and what is in the way.

    \b
    Examples:
        rerank doctor
        rerank doctor --model cross-encoder/ms-marco-MiniLM-L12-v2 --dtype bfloat16
    """
    given = {name: value for name, value in options.items() if value is not None}
    if model is None and given:
        raise wrong_usage(f"{names.flag(next(iter(given)))} is of no use without --model")
    found: dict[str, dict[str, Any]] = {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONS}},
        "devices": _devices(),
        "caches": {name: _size(path) for name, path in _caches().items()},  # kernels may be compiled into ours
        "kernels": _kernels(),
        "hub": _hub(),
        "packages": {name: _package(name) for name in OURS},
        "extras": dict(_extras()),
    }
    if model is not None:
        found["model"] = _choices(model, given, screen)
    screen.answer(found)
    if not screen.as_json:
        for title, facts in found.items():
            screen.show(rows([title, ""], [[name, str(value)] for name, value in facts.items()]))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, str]:
    """What torch sees."""
    try:
        import torch
    except ImportError as error:
        return {"torch": f"cannot be imported: {error}"}
    devices = {"cpu": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"}
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        devices[f"cuda:{number}"] = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    return devices if len(devices) > 1 else {**devices, "cuda": "none"}


def _kernels() -> dict[str, str]:
    """The provider that each kernel picks on this machine, and those it has."""
    import torch

    from rerank import registry
    from rerank.kernels import native

    elsewhere = {"native"} if torch.cuda.is_available() else {"triton", *(["native"] if not native.library() else [])}

    def picked(op: Any) -> str:
        return [str(name) for name, one in op.providers.items() if not one.when_asked and name not in elsewhere][-1]

    ops = {name: registry.load("kernel", name) for name in registry.names("kernel")}
    picks = {name: f"{picked(op)}, of {', '.join(op.providers)}" for name, op in ops.items()}
    return {"native (C)": native.status(), **picks}


def _caches() -> dict[str, Path]:
    from huggingface_hub import constants

    from rerank.checkpoints import cache

    home = os.environ.get("IR_DATASETS_HOME") or "~/.ir_datasets"
    return {
        "ours (RERANK_CACHE)": cache.folder(),
        "the hub's (HF_HOME)": Path(constants.HF_HUB_CACHE),
        "ir_datasets' (IR_DATASETS_HOME)": Path(home).expanduser(),
    }


def _size(folder: Path) -> str:
    from rerank.report.ledger import byte_size

    if not folder.is_dir():
        return f"{folder} (not there yet)"
    sizes = (path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return f"{folder} ({byte_size(sum(sizes))})"


def _hub() -> dict[str, str]:
    """Whether the model hub answers, asked in a thread because looking up a name has no timeout."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return {constants.ENDPOINT: "not asked (HF_HUB_OFFLINE is set)"}
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(constants.ENDPOINT)), daemon=True)
    asking.start()
    asking.join(HUB_WITHIN + 1)
    return {constants.ENDPOINT: answers[0] if answers else f"no answer in {HUB_WITHIN + 1:.0f} s"}


def _ask(address: str) -> str:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_WITHIN):
            return "answers"
    except urllib.error.HTTPError as error:
        return f"answers with {error.code} {error.reason}"
    except OSError as error:
        return f"cannot be reached ({getattr(error, 'reason', None) or error})"


def _package(name: str) -> str:
    """Where Python would load one of our packages from, and whether it is ours."""
    from rerank import registry

    if (other := registry.clash(name)) is not None:
        return f"{other}: this is another project's; remove or rename it"
    spec = util.find_spec(name)
    if spec is None:
        return "not found; install rerank-toolkit again"
    return ", ".join(spec.submodule_search_locations or [str(spec.origin)])


def _extras() -> Iterator[tuple[str, str]]:
    """Each extra, and which of its packages are not installed."""
    wanted: dict[str, list[str]] = {}
    for line in metadata.requires("rerank-toolkit") or []:
        if (found := REQUIREMENT.match(line)) is not None and found["name"] != "rerank-toolkit":
            wanted.setdefault(found["extra"], []).append(found["name"])
    for extra, packages in sorted(wanted.items()):
        missing = [name for name in packages if _version(name) == "not installed"]
        advice = f"missing {', '.join(missing)}: pip install 'rerank-toolkit[{extra}]'"
        yield extra, advice if missing else "installed"


def _choices(model: str, options: dict[str, Any], screen: Screen) -> dict[str, str]:
    """What is chosen when a checkpoint is loaded."""
    from rerank import checkpoints
    from rerank.judges.hosting.dialects import is_remote
    from rerank.judges.hosting.providers import is_hosted
    from rerank.rerankers.reranker import Reranker

    name, given = names.asked(model, options.pop("method", None), options)
    if is_remote(model):
        return _served(name, given)
    if is_hosted(model) or "base_url" in given.get("options", {}):
        return _served(name, {"prompt": "yes-no"} | given if name == model else given)
    folder = fetch_model(model, screen)
    reranker = Reranker(name, **given)
    facts = {"checkpoint": model, "folder": str(folder), "origin": checkpoints.origin(folder)}
    facts |= {
        "kind": checkpoints.kind(folder, reranker.recipe.answering.get("adapter")),
        "algorithm": reranker.recipe.described,
    }
    return facts | dict(getattr(reranker.judge, "choices", {}))


def _served(name: str, given: dict[str, Any]) -> dict[str, str]:
    """How a hosted model or a server of rerankers is asked, and what it says; one request is sent for it."""
    from rerank.judges.hosted import Hosted
    from rerank.judges.remote import Remote
    from rerank.rerankers.reranker import Reranker

    with Reranker(name, **given) as reranker:
        assert isinstance(reranker.judge, Hosted | Remote)
        return {**reranker.judge.choices, "algorithm": reranker.recipe.described, **reranker.judge.check()}
