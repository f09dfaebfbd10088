"""python -m benchmarks C1 C2 · --group cpu · list · profile C1 · table."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded, by us or by any peer
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import click

GROUPS = ("cpu", "encoders", "t5", "llm", "pairwise", "listwise", "kernels")


class _RunByDefault(click.Group):
    """`C1` means `run C1`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(context, args)


@click.group(cls=_RunByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Our speed against peers, in one process and one run; rows go to benchmarks/results."""


@main.command("run")
@click.argument("names", nargs=-1)
@click.option("--group", type=click.Choice(GROUPS), help="All workloads of a group.")
@click.option("--smoke", is_flag=True, help="Tiny shapes on the CPU, twice: does everything run? Nothing is written.")
@click.option("--repeats", default=7, show_default=True, help="Turns of each.")
@click.option("--threads", type=int, help="That torch and peers use on the CPU.  [default: as torch has it]")
def run_command(names: Sequence[str], group: str | None, smoke: bool, repeats: int, threads: int | None) -> None:
    """Run workloads by name, or all of a group."""
    from benchmarks.contest import WORKLOADS, Absent, Setting
    from benchmarks.measure import RESULTS, Refused, run
    from benchmarks.workloads import load

    load()
    chosen = [name for name in WORKLOADS if name in names or WORKLOADS[name].group == group]
    if unknown := sorted(set(names) - set(WORKLOADS)):
        raise click.UsageError(f"there is no workload {unknown[0]!r}; there is {', '.join(WORKLOADS)}")
    if not chosen:
        raise click.UsageError("name a workload, or a group; `python -m benchmarks list` shows them")
    _prepare(threads, chosen, smoke)
    refused = []
    with tempfile.TemporaryDirectory(prefix="rerank-bench-") as folder:  # one, so that nothing is exported twice
        for name in chosen:
            device = "cpu" if smoke or WORKLOADS[name].group == "cpu" else "cuda"
            setting = Setting(Path(folder), device, smoke, 2 if smoke else repeats)
            click.echo(f"{name}: {WORKLOADS[name].title}")
            started = time.perf_counter()
            try:
                for row in run(WORKLOADS[name], setting, results=None if smoke else RESULTS):
                    click.echo(f"  {_line(row)}")
            except Absent as error:
                click.echo(f"  cannot run here: {error}", err=True)
            except Refused as error:
                click.echo(f"  refused: {error}", err=True)
                refused.append(name)
            click.echo(f"  {time.perf_counter() - started:.0f} s")
    if refused:
        sys.exit(f"refused, because scores are not what they should be: {', '.join(refused)}")


@main.command("profile")
@click.argument("name")
@click.option("--smoke", is_flag=True, help="Tiny shapes on the CPU.")
@click.option("--threads", type=int, help="That torch uses on the CPU.  [default: as torch has it]")
def profile_command(name: str, smoke: bool, threads: int | None) -> None:
    """Where the time of our way of doing workload NAME goes."""
    from benchmarks.contest import WORKLOADS, Setting
    from benchmarks.profiling import profiles
    from benchmarks.workloads import load

    load()
    if name not in WORKLOADS:
        raise click.UsageError(f"there is no workload {name!r}; there is {', '.join(WORKLOADS)}")
    _prepare(threads, [name], smoke)
    device = "cpu" if smoke or WORKLOADS[name].group == "cpu" else "cuda"
    with tempfile.TemporaryDirectory(prefix="rerank-bench-") as folder:
        for each in profiles(WORKLOADS[name], Setting(Path(folder), device, smoke)):
            for line in each.lines():
                click.echo(line)


@main.command("table")
def table_command() -> None:
    """Write the latest results into docs/performance.md."""
    from benchmarks import table

    page = table.PAGE.read_text(encoding="utf-8")
    table.PAGE.write_text(table.written(page, table.rendered(table.latest())), encoding="utf-8")


@main.command("list")
def list_command() -> None:
    """Every workload with its group."""
    from benchmarks.contest import WORKLOADS
    from benchmarks.workloads import load

    load()
    for workload in WORKLOADS.values():
        click.echo(f"{workload.name:4} {workload.group:9} {workload.title}")


def _prepare(threads: int | None, chosen: Sequence[str], smoke: bool) -> None:
    """Threads, quiet libraries, and a GPU where one is needed."""
    import torch

    from benchmarks.contest import WORKLOADS

    warnings.simplefilter("ignore")
    for name in ("transformers", "sentence_transformers", "rank_llm", "nncf", "torch.onnx", "onnxscript", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if threads:
        torch.set_num_threads(threads)
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    needy = [name for name in chosen if WORKLOADS[name].group != "cpu"]
    if needy and not smoke and not torch.cuda.is_available():
        click.echo(f"{', '.join(needy)}: needs a CUDA GPU, and torch {torch.__version__} finds none here", err=True)
        sys.exit(2)


def _line(row: dict[str, object]) -> str:
    if "absent" in row:
        return f"{row['contest']}: {row['peer']} is absent: {row['absent']}"
    seconds = row["seconds"]
    assert isinstance(seconds, dict)
    return (
        f"{row['contest']}: {row['ratio']} x {row['peer']} {row['peer_version']} {row['interval']}, batch size "
        f"{row['batch_size']}, {seconds['ours']} s against {seconds['peer']} s, HFU {row.get('hfu', '-')}"
    )


if __name__ == "__main__":
    main()
