"""`rerank mine`: queries with judgments, and a first stage; out come examples with negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rerank import registry
from rerank.cli import names
from rerank.cli.examples import check_output
from rerank.cli.first_stage import bm25_options, given
from rerank.cli.journals import chosen_journal, journal_options, keeps
from rerank.cli.labelling import teacher_of, written
from rerank.cli.reranking import interruptible
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.types import Query, Ranking

if TYPE_CHECKING:
    from rerank.datasets import Dataset

__all__ = ["mine", "rule_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

RULES = (
    "negatives",
    "randoms",
    "first_rank",
    "last_rank",
    "margin",
    "relative_margin",
    "max_score",
    "min_score",
    "sampling",
    "positives",
    "relevant_from",
    "consistent_within",
    "positive_min",
    "least",
)

SAMPLE = 10_000
"""Documents of the collection that random negatives are drawn from."""


def rule_options(command: Command) -> Command:
    """Which negatives: the fields of `training.mining.Rules`."""
    for decorate in (
        click.option("--least", type=names.Count(0), metavar="N", help="Leave out examples with fewer.  [default: 1]"),
        click.option("--positive-min", type=float, metavar="X", help="Leave out positives that score less."),
        click.option(
            "--consistent-within",
            type=names.count_type,
            metavar="N",
            help="Leave out positives that are not among the best N, by the teacher where there is one.",
        ),
        click.option(
            "--relevant-from",
            type=names.count_type,
            metavar="N",
            help="The least relevance of a positive.  [default: 1]",
        ),
        click.option(
            "--positives",
            type=click.Choice(["each", "together"]),
            metavar="HOW",
            help="An example for each positive, or one with all together.  [default: each]",
        ),
        click.option(
            "--sampling",
            type=click.Choice(["top", "random"]),
            metavar="HOW",
            help="The top of what may be chosen, or random ones of it.  [default: top]",
        ),
        click.option("--min-score", type=float, metavar="X", help="A negative scores at least X."),
        click.option("--max-score", type=float, metavar="X", help="A negative scores at most X."),
        click.option(
            "--relative-margin",
            type=float,
            metavar="X",
            help="A negative scores at most (1 - X) times the positive's score, such as 0.05.",
        ),
        click.option("--margin", type=float, metavar="X", help="A negative scores at least X less than the positive."),
        click.option("--last-rank", type=names.count_type, metavar="N", help="The last rank that may be chosen."),
        click.option(
            "--first-rank", type=names.count_type, metavar="N", help="The first rank that may be chosen.  [default: 1]"
        ),
        click.option(
            "--randoms",
            type=names.Count(0),
            metavar="N",
            help="Random negatives of the whole collection beside them.  [default: 0]",
        ),
        click.option(
            "--negatives", type=names.Count(0), metavar="N", help="For each example, of the ranking.  [default: 8]"
        ),
    ):
        command = decorate(command)
    return command


@click.command("mine")
@names.dataset_option()
@names.split_option()
@click.option("--run", type=names.file_type, metavar="FILE", help="The TREC run that negatives are taken from.")
@names.retriever_option(required=False)
@bm25_options
@click.option(
    "--retrieve-cutoff",
    type=names.count_type,
    default=100,
    show_default=True,
    metavar="N",
    help="How many documents the retriever finds for each query.",
)
@click.option(
    "--examples",
    "examples_file",
    metavar="SOURCE",
    help="Queries and relevant documents from examples, such as `rerank queries` wrote, in place of the judgments.",
)
@click.option("--first-queries", type=names.count_type, metavar="N", help="Of the queries, the first N.")
@rule_options
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of what is drawn.")
@click.option("--epoch", type=names.Count(0), default=0, metavar="N", help="Draw as for this epoch.  [default: 0]")
@names.model_option(
    required=False,
    help="A teacher that scores candidates and positives: margins are then of its scores, and they are labels.",
)
@names.method_options()
@names.token_options
@names.device_options
@journal_options
@click.option(
    "--output", "-o", type=names.file_type, required=True, metavar="PLACE", help="A folder (Arrow), or a .jsonl file."
)
@with_screen
def mine(
    *,
    screen: Screen,
    dataset: str,
    split: str | None,
    run: Path | None,
    retriever: str | None,
    others: tuple[str, ...],
    retrieve_cutoff: int,
    examples_file: str | None,
    first_queries: int | None,
    seed: int,
    epoch: int,
    model: str | None,
    method: str | None,
    journal: Path | None,
    no_journal: bool,
    output: Path,
    **options: Any,
) -> None:
    """Mine negatives: relevant documents first, and documents that rank high and are not relevant behind them.

    Candidates come from a run or a retriever. Margins keep negatives away from the positive's score, so that fewer of
    them are relevant documents that nobody has judged; a teacher (--model) judges that better than a first stage.

    \b
    Examples:
        rerank mine --dataset scifact --split train --retriever bm25 --negatives 8 --output mined
        rerank mine --dataset scifact --split train --retriever bm25 --negatives 3 --output mined.jsonl \\
            --model ms-marco-MiniLM-L12-v2 --max-tokens 256 --margin 2
    """
    from rerank.datasets import Dataset

    if (run is None) == (retriever is None):
        raise wrong_usage("give either --run or --retriever")
    check_output(output, run)
    said = {name: options.pop(name) for name in RULES}
    rules = registry.load("training", "mining-rules")(**{name: one for name, one in said.items() if one is not None})
    stage = given({name: options.pop(name) for name in ("k1", "b", "stop_words", "stemmer")}, others)
    loaded = Dataset.load(dataset, split)
    queries, qrels = _judged(loaded, examples_file, first_queries)
    record = chosen_journal(output, journal, no_journal, run) if model else None
    with ExitStack() as stack:
        stack.enter_context(interruptible(record))
        teacher = teacher_of(model, method, options, record, screen, stack)
        on_progress = stack.enter_context(screen.progress("mining", "examples"))
        stream = registry.load("training", "mine")(
            _rankings(loaded, queries, run, retriever, stage, retrieve_cutoff),
            qrels,
            rules=rules,
            texts=registry.load("training", "indexed-collection").of_dataset(loaded).documents,
            teacher=None if teacher is None else registry.load("training", "scored-by")(teacher),
            corpus=registry.load("training", "sample")(loaded.documents(), SAMPLE, seed) if rules.randoms else (),
            seed=seed,
            epoch=epoch,
        )
        written(stream, output, on_progress, len(queries))
    facts = {"dataset": loaded.name, "queries": len(queries), "seed": seed, "epoch": epoch}
    _close(screen, stream, output, facts, teacher)
    if record is not None:
        screen.say(keeps(record))


def _judged(dataset: Dataset, source: str | None, first: int | None) -> tuple[list[Query], Any]:
    """The queries and their judgments, of the dataset or of examples."""
    if source is None:
        return dataset.queries[:first], dataset.qrels
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}
    for number, example in enumerate(registry.load("training", "read-examples")(source, needs=["relevance"])):
        if example.doc_ids is None:
            raise wrong_usage(f"{source}: its documents have no ids, by which the dataset could be asked for them")
        query_id = example.query_id or f"example {number}"
        queries[query_id] = Query(query_id, example.query)
        grades = zip(example.doc_ids, example.relevance, strict=True)
        qrels.setdefault(query_id, {}).update((doc_id, round(grade)) for doc_id, grade in grades)
    return list(queries.values())[:first], qrels


def _rankings(
    dataset: Dataset,
    queries: list[Query],
    run: Path | None,
    retriever: str | None,
    options: dict[str, Any],
    cutoff: int,
) -> Iterable[Ranking]:
    """The candidates of these queries."""
    from rerank import stages
    from rerank.io import read_run

    if run is not None:
        asked = {query.query_id for query in queries}
        scores = {query_id: scored for query_id, scored in read_run(run).items() if query_id in asked}
        return dataset.rankings(scores)
    first_stage = stages.make({"retriever": retriever, **options}, dataset, "the options")[0]
    rankings: Iterable[Ranking] = registry.load("training", "retrieved")(first_stage, queries, cutoff, dataset.excluded)
    return rankings


def _close(screen: Screen, stream: Any, output: Path, facts: dict[str, Any], teacher: Any) -> None:
    from rerank.report import ledger_table

    bill = {} if teacher is None else {"teacher": teacher.name, "ledger": teacher.ledger.as_dict()}
    screen.answer({"output": str(output), **facts, **stream.counts.as_dict(), **bill})
    if not screen.as_json:
        screen.show(*stream.counts.lines())
    if teacher is not None:
        screen.add(ledger_table(teacher.ledger))
    screen.say(f"wrote {output}; seed {facts['seed']}")
