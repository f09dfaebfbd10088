"""`rerank`: the commands, loaded when they are called, and what becomes of their errors.

`rerank --help` imports click and nothing heavy: the table below holds the first line of each command's help, and a
test holds the table to the commands.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from rerank import __version__
from rerank.errors import RerankError
from rerank.registry import unknown

__all__ = ["COMMANDS", "main"]

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("rerank.cli.demo:demo", "Retrieve, rerank and evaluate a real collection that ships with the package."),
    "index": ("rerank.cli.index:index", "Index a dataset for a retriever."),
    "graph": ("rerank.cli.graph:graph", "Find the nearest neighbours of every document of an index."),
    "retrieve": ("rerank.cli.retrieve:retrieve", "Retrieve the best documents of every query."),
    "rerank": ("rerank.cli.rerank:rerank", "Rerank a run, or requests that carry their texts."),
    "fuse": ("rerank.cli.fuse:fuse", "Fuse several runs into one."),
    "evaluate": (
        "rerank.cli.evaluate:evaluate",
        "Evaluate runs: measures, intervals, and whether differences are real.",
    ),
    "compare": ("rerank.cli.compare:compare", "Compare runs with the first of them."),
    "suite": ("rerank.cli.suite:suite", "Run pipelines over a suite of datasets and report on them."),
    "run": ("rerank.cli.run:run", "Retrieve and rerank with a pipeline, from a TOML file or from flags."),
    "distribute": (
        "rerank.cli.distribute:distribute",
        "Index a dataset or run a pipeline on the machines of a Ray cluster.",
    ),
    "train": (
        "rerank.cli.train:train",
        "Train a reranker by a recipe that ships (`rerank list recipes`) or by a file.",
    ),
    "calibrate": ("rerank.cli.calibrate:calibrate", "Fit scores to probabilities of relevance."),
    "threshold": (
        "rerank.cli.calibrate:threshold",
        "Put probabilities in place of scores, and keep what is probable.",
    ),
    "examples": (
        "rerank.cli.examples:examples",
        "Read examples to train on, check and count them, and write them as Arrow.",
    ),
    "rag": (
        "rerank.cli.rag:rag",
        "Answer QUESTION from documents: retrieve, rerank, pack what fits, and let a local model write.",
    ),
    "serve": ("rerank.cli.serve:serve", "Serve rerankers over HTTP, to clients of Cohere, Jina, TEI and vLLM."),
    "mine": (
        "rerank.cli.mine:mine",
        "Mine negatives: relevant documents first, and documents that rank high and are not relevant behind them.",
    ),
    "label": (
        "rerank.cli.label:label",
        "Label examples with a teacher: any reranker says how relevant, in which order, or which of two.",
    ),
    "queries": (
        "rerank.cli.queries:queries",
        "Write queries for documents, where nobody has asked any (InPars).",
    ),
    "distil": (
        "rerank.cli.distil:distil",
        "Distil a student from a teacher in one go: mine negatives, label them, train by a recipe, evaluate.",
    ),
    "models": ("rerank.cli.models:models", "List checkpoints, fetch them, and say where they are."),
    "datasets": ("rerank.cli.datasets:datasets", "List datasets, or show one."),
    "prompt": (
        "rerank.cli.prompt:prompt",
        "Show prompt NAME as a model would see it, with DOCUMENTS (texts) in their places.",
    ),
    "list": ("rerank.cli.list:list_names", "List what can be named: methods, algorithms, checkpoints and so on."),
    "doctor": ("rerank.cli.doctor:doctor", "Show versions, devices, caches, and what is in the way."),
    "completion": ("rerank.cli.completion:completion", "Print the script that makes a shell complete names."),
}
"""name -> (where it is, the first line of its help)."""

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 1
"""Exit codes; 130 is what shells say of a program that Ctrl-C ended."""


LONGEST = 1000
"""Characters of an error; a longer one holds somebody's text, and loses its middle."""


class CommandLine(click.Group):
    """A group that loads its commands late and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first argument, or say which one may have been meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(str(unknown("command", args[0], COMMANDS)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit: 0, or 2 after one line about what was wrong with what was given."""
        _quieten()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(self._exit_code(args, prog_name or "rerank", complete_var, extra))

    def _exit_code(
        self, args: Sequence[str] | None, prog_name: str, complete_var: str | None, extra: Mapping[str, Any]
    ) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            return _fail(f"{_without_stop(error.format_message())}{_hint(error.ctx)}", BAD_INPUT)
        except click.ClickException as error:
            return _fail(error.format_message(), BAD_INPUT)
        except RerankError as error:
            if isinstance(error.__cause__, BrokenPipeError):  # the reader of our output has gone
                return BROKEN_PIPE
            return _fail(str(error), BAD_INPUT)
        except (click.Abort, KeyboardInterrupt) as error:
            return _fail(f"interrupted{f'; {error}' if str(error) else ''}", INTERRUPTED)
        return code if isinstance(code, int) else 0


@click.group(
    "rerank",
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, "--version", "-V", message="rerank-toolkit %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Retrieve, rerank and evaluate.

    \b
    Example:
        rerank run --dataset noveleval --retriever bm25 --retrieve-cutoff 20 \\
            --model cross-encoder/ms-marco-MiniLM-L12-v2 --output reranked.trec --evaluate

    `rerank COMMAND --help` explains a command and shows a call of it.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class _Notices(logging.Handler):
    """What the library has to say, one line each on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"note: {_one_line(record.getMessage())}", err=True)


_NOTICES = _Notices(logging.WARNING)


def _quieten() -> None:
    """Notices of ours in one line; no advice, bars and warnings from the libraries below."""
    for name in ("rerank", "retrievers", "training"):
        logging.getLogger(name).addHandler(_NOTICES)  # a handler is added once, however often it is added
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:  # python -W still shows them
        warnings.simplefilter("ignore")


def _fail(message: str, code: int) -> int:
    click.echo(f"rerank: {_one_line(message)}", err=True)
    return code


def _one_line(message: str) -> str:
    """A message that fits on a screen; its ends, which say what and what to do, stay."""
    line = " ".join(message.split())
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def _without_stop(message: str) -> str:
    return message.rstrip().removesuffix(".")


def _hint(ctx: click.Context | None) -> str:
    return f"; see '{ctx.command_path} --help'" if ctx is not None else ""
