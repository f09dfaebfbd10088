"""`rerank label`: examples in, the same examples with a teacher's labels out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from rerank import registry
from rerank.cli import names
from rerank.cli.examples import check_output, source_options
from rerank.cli.journals import chosen_journal, journal_options, keeps
from rerank.cli.labelling import teacher_of, written
from rerank.cli.loading import check_reranker
from rerank.cli.reranking import interruptible
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError

__all__ = ["label"]

READING = (
    "format",
    "dataset",
    "split",
    "collection",
    "queries",
    "qrels",
    "permutations",
    "teacher",
    "cutoff",
    "needs",
    "max_documents",
    "strict",
)


@click.command("label")
@click.argument("source")
@source_options
@names.model_option(help="The teacher: a checkpoint or a hosted model.")
@names.method_options()
@names.algorithm_option()
@names.judge_options
@names.token_options
@names.device_options
@click.option(
    "--labels",
    type=click.Choice(["scores", "order", "pairs", "logits"]),
    default="scores",
    show_default=True,
    metavar="WHAT",
    help="What the teacher is asked for: scores, order, pairs, or logits: those of the two words that it answers by.",
)
@click.option(
    "--pairs",
    "strategy",
    type=click.Choice(["all", "uniform", "rank-aware"]),
    metavar="HOW",
    help="Which pairs: all, uniform, or rank-aware, which favours the head.  [default: uniform]",
)
@click.option("--pair-share", type=float, metavar="X", help="How many of the pairs.  [default: 0.02]")
@click.option("--seed", type=int, metavar="N", help="Of the pairs that are drawn.  [default: 0]")
@click.option("--soft", is_flag=True, help="Of pairs: probabilities, in place of 1, 0 and 0.5.")
@click.option(
    "--passes", type=names.count_type, default=1, metavar="N", help="Of an order: improve it N times.  [default: 1]"
)
@click.option("--full-list", is_flag=True, help="Of an order: go on until the whole list is in order.")
@click.option("--shuffle", type=int, metavar="SEED", help="Show each list in another order, drawn from this seed.")
@journal_options
@click.option(
    "--output", "-o", type=names.file_type, required=True, metavar="PLACE", help="A folder (Arrow), or a .jsonl file."
)
@with_screen
def label(
    *,
    screen: Screen,
    source: str,
    model: str,
    method: str | None,
    labels: str,
    strategy: str | None,
    pair_share: float | None,
    seed: int | None,
    soft: bool,
    passes: int,
    full_list: bool,
    shuffle: int | None,
    journal: Path | None,
    no_journal: bool,
    output: Path,
    **options: Any,
) -> None:
    """Label examples with a teacher: any reranker says how relevant, in which order, or which of two.

    One that answers by two words, such as true and false, may give their logits, for students that learn them.

    Every answer is appended to a journal as it comes: after an interruption the same command goes on where it was.

    \b
    Examples:
        rerank label mined --model ms-marco-MiniLM-L12-v2 --max-tokens 256 --output labelled
        rerank label mined --model ./my-llm --method rankzephyr --labels order --shuffle 0 --output ordered.jsonl
        rerank label mined --model ./my-llm --method prp-allpair --labels pairs --pair-share 0.02 --output pairs.jsonl
        rerank label mined --model monot5-3b-msmarco-10k --labels logits --output logits
    """
    check_output(output)
    sampler = _sampler(labels, strategy, pair_share, seed)
    reading = {name: options.pop(name) for name in READING}
    if labels == "logits":
        options = _keeping_logits(model, method, options)
    stream = registry.load("training", "read-examples")(source, **reading)
    record = chosen_journal(output, journal, no_journal)
    with ExitStack() as stack:
        stack.enter_context(interruptible(record))
        teacher = teacher_of(model, method, options, record, screen, stack)
        on_progress = stack.enter_context(screen.progress(f"labelling with {model}", "questions"))
        labelled = registry.load("training", "label")(
            stream,
            teacher,
            labels,
            sampler=sampler,
            soft=soft,
            passes=passes,
            full_list=full_list,
            shuffle=shuffle,
            on_answer=on_progress,
        )
        written(labelled, output, lambda done, total: None, 0)
    _close(screen, stream, labelled, teacher, output, labels)
    if record is not None:
        screen.say(keeps(record))


def _keeping_logits(model: str, method: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Options by which the teacher tells its words' logits; refused when it answers by none."""
    keeping = {**options, "options": {**(options["options"] or {}), "keep_logits": True}}
    check_reranker(*names.asked(model, method, options))  # what is wrong without them is said first
    try:
        check_reranker(*names.asked(model, method, keeping))
    except InputError as error:
        raise InputError(
            f"{model} does not answer by two words, whose logits it could tell; ask a teacher that does, such as monoT5"
        ) from error
    return keeping


def _sampler(labels: str, strategy: str | None, share: float | None, seed: int | None) -> Any:
    """Which pairs; None unless pairs are asked for."""
    said = {"strategy": strategy, "fraction": share, "seed": seed}
    given = {name: value for name, value in said.items() if value is not None}
    if labels != "pairs":
        if given:
            raise wrong_usage("--pairs, --pair-share and --seed are for --labels pairs")
        return None
    if strategy == "all" and (share is not None or seed is not None):
        raise wrong_usage("--pairs all asks about all of them; leave out --pair-share and --seed")
    return registry.load("training", "pair-sampler")(**given)


def _close(screen: Screen, stream: Any, labelled: Any, teacher: Any, output: Path, labels: str) -> None:
    from rerank.report import ledger_table

    read = stream.counts.as_dict()
    screen.answer(
        {
            "output": str(output),
            "teacher": teacher.name,
            "asked_for": labels,
            **labelled.counts.as_dict(),
            "source": {name: read[name] for name in ("read", "refused", "notes")},
            "ledger": teacher.ledger.as_dict(),
        }
    )
    if not screen.as_json:
        screen.show(*labelled.counts.lines(), *stream.counts.lines()[1:])
    screen.add(ledger_table(teacher.ledger))
    screen.say(f"wrote {output}")
