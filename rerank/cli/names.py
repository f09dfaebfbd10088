"""Options that several commands share, and the names that a shell completes for them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = [
    "MEASURES",
    "Count",
    "algorithm_option",
    "asked",
    "asked_names",
    "budget_options",
    "calibration_options",
    "checkpoint_names",
    "completing",
    "count_type",
    "dataset_names",
    "dataset_option",
    "device_options",
    "file_type",
    "flag",
    "judge_options",
    "long_document_options",
    "measures_option",
    "method_names",
    "method_options",
    "model_option",
    "output_option",
    "prompt_names",
    "retriever_option",
    "settings",
    "split_option",
    "token_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

MEASURES = (
    "nDCG@10", "nDCG@20", "RR@10", "RR(rel=2)@10", "AP", "AP(rel=2)", "AP@100", "R@100", "R@1000", "P@10",
    "Success@5", "Judged@10",
)  # fmt: skip
"""Those that a shell completes; ir-measures knows more."""

file_type = click.Path(path_type=Path)


class Count(click.types.IntParamType):
    """A whole number, at least `least`; says so in words."""

    name = "count"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of a text."""
        try:
            number = int(value)
        except ValueError:
            number = self.least - 1
        if number < self.least:
            self.fail(f"{value} is no whole number of at least {self.least}", param, ctx)
        return number


count_type = Count()


def dataset_names() -> Iterable[str]:
    """Those of the catalogue."""
    from rerank.datasets import names

    return [listed.name for listed in names()]


def checkpoint_names() -> Iterable[str]:
    """Every hub id and short name that has an entry."""
    from rerank import checkpoints

    entries = [checkpoints.find(name).checkpoint for name in checkpoints.names()]
    return [spelling for entry in entries if entry is not None for spelling in (entry.repo, entry.name) if spelling]


def prompt_names() -> Iterable[str]:
    """Every prompt that comes with the package."""
    from rerank import prompts

    return prompts.names()


def asked_names() -> Iterable[str]:
    """Whatever has a prompt: prompts, methods and checkpoints."""
    return dict.fromkeys([*prompt_names(), *method_names(), *checkpoint_names()])


def registered(kind: str) -> Callable[[], Iterable[str]]:
    """The names of a kind in the registry."""

    def names() -> Iterable[str]:
        from rerank import registry

        return registry.names(kind)

    return names


def completing(known: Callable[[], Iterable[str]], *, files: bool = False) -> Completer:
    """Completes the known names; where none fits, and `files`, what lies on the disk."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in known() if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def dataset_option(*, required: bool = True) -> Callable[[Command], Command]:
    """--dataset."""
    return click.option(
        "--dataset",
        metavar="NAME",
        required=required,
        shell_complete=completing(dataset_names, files=True),
        help="A name (`rerank datasets`), a BEIR folder, or an ir_datasets id.",
    )


def split_option() -> Callable[[Command], Command]:
    """--split."""
    return click.option("--split", metavar="NAME", help="Which judgments of the dataset.  [default: its own, or test]")


def retriever_option(*, required: bool = True) -> Callable[[Command], Command]:
    """--retriever."""
    return click.option(
        "--retriever",
        metavar="NAME",
        required=required,
        shell_complete=completing(registered("retriever")),
        help="A first stage (`rerank list retrievers`), such as bm25.",
    )


def model_option(*, required: bool = True, help: str = "") -> Callable[[Command], Command]:
    """--model."""
    return click.option(
        "--model",
        metavar="NAME",
        required=required,
        shell_complete=completing(checkpoint_names, files=True),
        help=help
        or "A checkpoint: a name (`rerank models list`), a hub id, a folder; or hosted: PROVIDER:MODEL, ADDRESS#MODEL; "
        "or a server of rerankers: cohere:MODEL, http://HOST/v1/rerank#MODEL.",
    )


def method_names() -> Iterable[str]:
    """Every method, by its name."""
    from rerank import methods

    return methods.names()


def method_options(name: str = "--method") -> Callable[[Command], Command]:
    """--method, --set, --head, --window and --step.

    Args:
        name: in place of --method, where a command has a method of another kind.
    """

    def decorated(command: Command) -> Command:
        for decorate in (
            click.option("--step", type=count_type, metavar="N", help="How many documents a window moves."),
            click.option("--window", type=count_type, metavar="N", help="The most documents in a window."),
            click.option("--head", type=count_type, metavar="N", help="How many top positions to put in order."),
            click.option(
                "--set",
                "options",
                multiple=True,
                metavar="NAME=VALUE",
                callback=settings,
                help="An option of the algorithm or of the judge, such as children=3; may be repeated.",
            ),
            click.option(
                name,
                metavar="NAME",
                shell_complete=completing(method_names),
                help="How the model is asked: algorithm, judge, prompt, options (`rerank list methods`).  "
                "[default: the checkpoint's own]",
            ),
        ):
            command = decorate(command)
        return command

    return decorated


def flag(argument: str) -> str:
    """What the command line calls an argument."""
    return "--set" if argument == "options" else f"--{argument.replace('_', '-')}"


def settings(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any] | None:
    """NAME=VALUE as a mapping; a value is TOML, and a text where it is none."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is no NAME=VALUE, such as children=3", ctx, param)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", ctx, param)
        found[name] = _value(value)
    return found or None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def asked(model: str, method: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The first argument of `Reranker`, and the others that are said."""
    given = {option: value for option, value in options.items() if value is not None}
    return (model, given) if method is None else (method, {"model": model, **given})


def algorithm_option() -> Callable[[Command], Command]:
    """--algorithm."""
    return click.option(
        "--algorithm",
        metavar="NAME",
        shell_complete=completing(registered("algorithm")),
        help="Which question comes next (`rerank list algorithms`).  [default: the method's or checkpoint's own]",
    )


def judge_options(command: Command) -> Command:
    """--judge and --prompt."""
    for decorate in (
        click.option(
            "--prompt",
            metavar="NAME",
            shell_complete=completing(prompt_names, files=True),
            help="What a T5 or a causal language model is asked (`rerank list prompts`), or a TOML file.",
        ),
        click.option(
            "--judge",
            metavar="NAME",
            shell_complete=completing(registered("judge")),
            help="How it is asked (`rerank list judges`).  "
            "[default: the method's or checkpoint's own, or the prompt's usual one]",
        ),
    ):
        command = decorate(command)
    return command


def token_options(command: Command) -> Command:
    """--max-tokens, --token-budget and --token-store."""
    for decorate in (
        click.option(
            "--token-store",
            type=file_type,
            metavar="FOLDER",
            help="Keep the token ids of texts in this folder for later runs.  [default: in memory]",
        ),
        click.option(
            "--token-budget",
            type=count_type,
            metavar="N",
            help="The most tokens in a forward pass: speed and memory, not scores.",
        ),
        click.option(
            "--max-tokens",
            type=count_type,
            metavar="N",
            help="The most tokens of query and document together; longer documents are cut, and counted.",
        ),
    ):
        command = decorate(command)
    return command


def long_document_options(command: Command) -> Command:
    """--long-documents and what says more of windows."""
    for decorate in (
        click.option(
            "--preselected",
            type=count_type,
            metavar="N",
            help="How many windows of a document --preselect chooses.  [default: 4]",
        ),
        click.option(
            "--preselect",
            metavar="NAME",
            help="A cheap checkpoint that chooses which windows are asked about.  [default: all are]",
        ),
        click.option(
            "--best-windows",
            type=count_type,
            metavar="N",
            help="Of k-max: how many windows count.  [default: 3]",
        ),
        click.option(
            "--stride-tokens",
            type=count_type,
            metavar="N",
            help="From the beginning of one window to the next one's.  [default: the window]",
        ),
        click.option(
            "--window-tokens",
            type=count_type,
            metavar="N",
            help="The most tokens of a window.  [default: what fits beside the query]",
        ),
        click.option(
            "--long-documents",
            metavar="NAME",
            help="truncate, or ask about windows: first, max, sum, mean, k-max.  [default: truncate]",
        ),
    ):
        command = decorate(command)
    return command


def budget_options(command: Command) -> Command:
    """--query-pflop and --query-seconds."""
    for decorate in (
        click.option(
            "--query-seconds",
            type=float,
            metavar="X",
            help="Ask about documents of a query until X seconds of the model's work are spent; the others stay below.",
        ),
        click.option("--query-pflop", type=float, metavar="X", help="The same for X PetaFLOP."),
    ):
        command = decorate(command)
    return command


def calibration_options(command: Command) -> Command:
    """--calibration and --threshold."""
    for decorate in (
        click.option(
            "--threshold",
            type=float,
            metavar="P",
            help="With --calibration: keep candidates of at least this probability alone.",
        ),
        click.option(
            "--calibration",
            type=file_type,
            metavar="FILE",
            help="Write probabilities in place of scores, by what `rerank calibrate` has written.",
        ),
    ):
        command = decorate(command)
    return command


def device_options(command: Command) -> Command:
    """How a model is loaded and run."""
    for decorate in (
        click.option(
            "--deterministic",
            flag_value=True,
            default=None,
            type=bool,
            help="The same bits whatever the batch, on CUDA and in int8 too; in float32 on the CPU they always are.",
        ),
        click.option("--compile", flag_value=True, default=None, type=bool, help="torch.compile the model."),
        click.option(
            "--device-map",
            type=click.Choice(["auto", "balanced", "sequential"]),
            metavar="NAME",
            help="Spread the model over all GPUs: auto, balanced or sequential.",
        ),
        click.option(
            "--adapter", metavar="NAME", help="A LoRA adapter, a folder or hub id, that is merged into the model."
        ),
        click.option(
            "--quantize",
            type=click.Choice(["8bit", "4bit"]),
            metavar="NAME",
            help="Quantise the weights while they are loaded (bitsandbytes): 8bit or 4bit.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "bfloat16", "float16", "int8"]),
            metavar="NAME",
            help="float32, bfloat16, float16, or int8 on the CPU.  [default: float32 on the CPU, bfloat16 on CUDA]",
        ),
        click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1 …  [default: cuda where there is one]"),
    ):
        command = decorate(command)
    return command


def measures_option() -> Callable[[Command], Command]:
    """--measures; may be repeated and may hold several names."""
    return click.option(
        "--measures",
        multiple=True,
        metavar="NAMES",
        shell_complete=completing(lambda: MEASURES),
        help='By ir-measures name, "nDCG@10 AP(rel=2)"; may be repeated.  [default: the dataset\'s own, or nDCG@10]',
    )


def output_option(help: str) -> Callable[[Command], Command]:
    """--output."""
    return click.option("--output", "-o", type=file_type, required=True, metavar="FILE", help=help)
