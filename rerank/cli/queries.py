"""`rerank queries`: documents in, queries that a language model writes for them out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from rerank import registry
from rerank.cli import names
from rerank.cli.examples import check_output
from rerank.cli.journals import chosen_journal, journal_options, keeps
from rerank.cli.labelling import teacher_of, written
from rerank.cli.reranking import interruptible
from rerank.cli.screen import Screen, with_screen

__all__ = ["queries"]


@click.command("queries")
@names.dataset_option()
@names.split_option()
@names.model_option(help="The language model that writes: a checkpoint or a hosted model.")
@click.option(
    "--prompt",
    metavar="NAME",
    default="inpars",
    show_default=True,
    help="How it is asked: inpars, inpars-gbq, or a TOML file that asks to write and shows {document}.",
)
@click.option("--documents", type=names.count_type, default=1000, show_default=True, metavar="N", help="For how many.")
@click.option("--each", type=names.count_type, default=1, show_default=True, metavar="N", help="For each of them.")
@click.option("--temperature", type=float, metavar="X", help="Draw words, for --each above 1.")
@click.option("--new-tokens", type=names.count_type, metavar="N", help="The most tokens of a query.  [default: 64]")
@click.option("--least-words", type=names.count_type, default=3, show_default=True, metavar="N", help="Of a query.")
@click.option("--most-words", type=names.count_type, default=64, show_default=True, metavar="N", help="Of a query.")
@click.option("--copied", is_flag=True, help="Keep queries that stand word for word in their document.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Which documents, and what is drawn.")
@click.option("--keep", type=names.count_type, metavar="N", help="Keep the N that the scorer scores highest.")
@click.option("--scorer", metavar="NAME", help="What scores queries for --keep: a reranker, as InPars v2 does.")
@names.token_options
@names.device_options
@journal_options
@click.option(
    "--output", "-o", type=names.file_type, required=True, metavar="PLACE", help="A folder (Arrow), or a .jsonl file."
)
@with_screen
def queries(
    *,
    screen: Screen,
    dataset: str,
    split: str | None,
    model: str,
    prompt: str,
    documents: int,
    each: int,
    temperature: float | None,
    new_tokens: int | None,
    least_words: int,
    most_words: int,
    copied: bool,
    seed: int,
    keep: int | None,
    scorer: str | None,
    journal: Path | None,
    no_journal: bool,
    output: Path,
    **options: Any,
) -> None:
    """Write queries for documents, where nobody has asked any (InPars).

    Queries that are too short, copied or double are refused and counted. InPars-light then keeps those whose document a
    ranker finds again: `rerank mine --examples QUERIES --consistent-within 3`.

    \b
    Example:
        rerank queries --dataset scifact --model SmolLM2-135M-Instruct --documents 100 --output queries.jsonl
        rerank mine --dataset scifact --examples queries.jsonl --retriever bm25 --consistent-within 3 --output mined
    """
    from rerank.cli.screen import wrong_usage
    from rerank.datasets import Dataset

    check_output(output)
    if (keep is None) != (scorer is None):
        raise wrong_usage("--keep and --scorer go together: the scorer says which are the best")
    if each > 1 and not temperature:
        raise wrong_usage("--each above 1 needs --temperature: without drawing, a model writes the same each time")
    loaded = Dataset.load(dataset, split)
    record = chosen_journal(output, journal, no_journal)
    writing = {"temperature": temperature, "new_tokens": new_tokens, "seed": seed if temperature else None}
    options["options"] = {name: value for name, value in writing.items() if value is not None} or None
    options |= {"judge": "writer", "prompt": prompt, "algorithm": registry.load("training", "writing")}
    with ExitStack() as stack:
        stack.enter_context(interruptible(record))
        writer = teacher_of(model, None, options, record, screen, stack)
        on_progress = stack.enter_context(screen.progress(f"writing with {model}", "queries"))
        chosen = registry.load("training", "sample")(loaded.documents(), documents, seed)
        stream = registry.load("training", "write-queries")(
            chosen,
            writer,
            each=each,
            least_words=least_words,
            most_words=most_words,
            copied=copied,
            on_answer=on_progress,
        )
        best = stream
        if scorer is not None:
            with_scores = teacher_of(scorer, None, {}, None, screen, stack)
            best = registry.load("training", "best-scored")(stream, with_scores, keep)
        written(best, output, lambda done, total: None, 0)
    _close(screen, stream, best, writer, output, {"dataset": loaded.name, "prompt": prompt, "seed": seed})
    if record is not None:
        screen.say(keeps(record))


def _close(screen: Screen, stream: Any, best: Any, writer: Any, output: Path, facts: dict[str, Any]) -> None:
    from rerank.report import ledger_table

    counts = stream.counts.as_dict() | {"kept": best.counts.kept, "written": stream.counts.kept}
    screen.answer({"output": str(output), "model": writer.name, **facts, **counts, "ledger": writer.ledger.as_dict()})
    if not screen.as_json:
        kept = [] if best is stream else [f"kept the best {best.counts.kept:,}"]
        screen.show(*stream.counts.lines(), *kept)
    screen.add(ledger_table(writer.ledger))
    screen.say(f"wrote {output}; seed {facts['seed']}")
