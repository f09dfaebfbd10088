"""Run a published row again, and put what comes out beside what was published.

python scripts/reproduce.py list                          # the rows: what they are, and their figures
python scripts/reproduce.py check rankzephyr              # what this machine lacks for one, or for all; nothing is run
python scripts/reproduce.py run rankzephyr                # all its collections; goes on where it stopped
python scripts/reproduce.py run rankzephyr --collection dl19=trec-dl19 --run dl19=bm25.trec
python scripts/reproduce.py run rankzephyr --checkpoint SmolLM2-135M-Instruct --queries 2 --depth 10 \\
    --collection dl19=trec-dl19 --run dl19=bm25.trec    # its path alone, with a small model
python scripts/reproduce.py page                          # docs/reproductions.md from rows and results; --check tells

A row is a file in scripts/reproductions/rows. `run` refuses to begin, with 2, where `check` has something to say; it
ends with 1 when a figure is further off than its row says. `--record` writes what was measured into
benchmarks/results/reproductions.jsonl and into the page.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from reproductions import page, row
from reproductions.asked import Asked
from reproductions.lacks import lacks
from reproductions.measured import Measured, published_first, verdict
from reproductions.running import run

from rerank.errors import InputError, RerankError

LACKING, OFF = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    asked = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = asked.command
    try:
        return command(asked)
    except RerankError as error:
        print(f"reproduce: {' '.join(str(error).split())}", file=sys.stderr)
        return LACKING


def _list(asked: argparse.Namespace) -> int:
    for name in row.names():
        one = row.read(name)
        print(f"{name:33} {one.title}: {page.published(one)}")
    return 0


def _check(asked: argparse.Namespace) -> int:
    missing = 0
    for name in row.names() if asked.row == "all" else [asked.row]:
        found = list(lacks(_asked(asked, row.read(name), strict=asked.row != "all")))
        print("\n".join([f"{name}: {'' if found else 'nothing is missing'}", *(f"  - {what}" for what in found)]))
        missing += bool(found)
    return LACKING if missing else 0


def _run(asked: argparse.Namespace) -> int:
    wanted = _asked(asked, row.read(asked.row))
    if found := list(lacks(wanted)):
        print("\n".join([f"{asked.row}: nothing was run", *(f"  - {what}" for what in found)]), file=sys.stderr)
        return LACKING
    if wanted.row.note:
        print(f"note: {wanted.row.note}", file=sys.stderr)
    measured = run(wanted, say=lambda line: print(line, file=sys.stderr, flush=True))
    lines = list(_compared(wanted.row, measured))
    print("\n".join(lines))
    if asked.record:
        page.record(measured)
    return OFF if any("FURTHER OFF" in line for line in lines) else 0


def _compared(one: row.Row, measured: Sequence[Measured]) -> Iterator[str]:
    """Every published figure of what was measured; beside the first stage's, where all of its queries were asked."""
    for found in measured:
        where = f"{' + '.join(found.collections)}, {found.measure}"
        if one.stage:
            yield f"{where}, first stage: {found.first_stage:.4f}{_known(one, found)}"
        figures = [
            each for each in one.figure if (each.collections, each.measure) == (found.collections, found.measure)
        ]
        for figure in figures:
            difference = "" if found.differences else f", difference {found.value - figure.value:+.4f}"
            said = verdict(found, figure, one)
            yield f"{where}, {one.name}: {found.value:.4f}, published {figure.value:.4f}{difference}: {said}"
        if not figures:
            yield f"{where}, {one.name}: {found.value:.4f}: {', '.join(found.differences)}"


def _known(one: row.Row, found: Measured) -> str:
    if len(found.collections) > 1 or any("queries alone" in what for what in found.differences):
        return ""
    first = published_first(one, found.collections[0], found.measure)
    return "" if first is None else f", published {first.value:.4f}"


def _page(asked: argparse.Namespace) -> int:
    if not asked.check:
        page.write()
    elif page.stale():
        print(f"{page.PAGE.name} is stale; run: python scripts/reproduce.py page", file=sys.stderr)
        return OFF
    return 0


def _asked(asked: argparse.Namespace, one: row.Row, *, strict: bool = True) -> Asked:
    """What the options say of a row; of all rows, each takes what it has a use for."""
    collections = _pairs(asked.collection, "--collection")
    named = [name for name in collections if strict or name in one.collections] or list(one.collections)
    runs = {name or _only(named): Path(path) for name, path in _pairs(asked.run, "--run", "").items()}
    return Asked(
        row=one,
        output=asked.output,
        collections=tuple(named),
        places={name: Path(place) for name, place in collections.items() if place and name in named},
        runs={name: path for name, path in runs.items() if strict or name in named},
        checkpoint=asked.checkpoint,
        depth=asked.depth,
        queries=asked.queries,
        device=asked.device,
        dtype=asked.dtype,
    )


def _only(collections: Sequence[str]) -> str:
    if len(collections) > 1:
        raise InputError(f"a run is of one collection: say --run {collections[0]}=FILE, of {', '.join(collections)}")
    return collections[0]


def _pairs(said: Sequence[str], option: str, alone: str | None = None) -> Mapping[str, str]:
    """NAME=PLACE each; without "=" it is the name, or the place of what `alone` says."""
    found: dict[str, str] = {}
    for text in said:
        name, equals, place = text.partition("=")
        if not equals and alone is not None:
            name, place = alone, text
        if name in found or (equals and not place):
            raise InputError(f"{option} {text}: say {option} COLLECTION=PLACE, each collection once")
        found[name] = place
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="name the rows").set_defaults(command=_list)
    for name, command, summary in (("check", _check, "what is missing here"), ("run", _run, "measure")):
        one = commands.add_parser(name, help=summary)
        one.set_defaults(command=command)
        one.add_argument("row", metavar="ROW", help="a row's name" + (", or all" if name == "check" else ""))
        _add_options(one)
    commands.choices["run"].add_argument("--record", action="store_true", help="write it down as a result of ours")
    written = commands.add_parser("page", help="write docs/reproductions.md")
    written.add_argument("--check", action="store_true", help="write nothing; end with 1 when the page is stale")
    written.set_defaults(command=_page)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    say = parser.add_argument
    say("--collection", action="append", default=[], metavar="NAME[=FOLDER]", help="this one alone; where it lies")
    say("--run", action="append", default=[], metavar="[NAME=]FILE", help="a run in place of the first stage")
    say("--output", type=Path, default=Path("reproduced"), help="the folder of runs, journals and bills (reproduced)")
    say("--checkpoint", default="", help="ask this model instead: the path is tried, the figures are not comparable")
    say("--depth", type=int, help="rerank so many candidates instead")
    say("--queries", type=int, help="the first so many alone; wants --run")
    say("--device", default="", help="cpu, cuda …")
    say("--dtype", default="", help="float32, bfloat16, int8 …")


if __name__ == "__main__":
    raise SystemExit(main())
