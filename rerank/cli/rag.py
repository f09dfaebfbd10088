"""`rerank rag`: a question, the passages that it is answered from, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.journals import rerankers_of
from rerank.cli.loading import fetch_model, fetch_reranker
from rerank.cli.screen import Screen, with_screen, wrong_usage

if TYPE_CHECKING:
    from rerank.datasets import Dataset
    from rerank.integrations.rag import Answerer, Reply

__all__ = ["rag"]

MODEL = "SmolLM2-135M-Instruct"


@click.command("rag")
@click.argument("question")
@click.option(
    "--documents", type=names.file_type, metavar="FOLDER", help="Text files (.txt, .md, .rst), each a document."
)
@names.dataset_option(required=False)
@click.option(
    "--pipeline",
    "file",
    type=names.file_type,
    metavar="FILE.toml",
    help="Stages that find the passages.  [default: BM25's best 20, reranked by MiniLM-L12]",
)
@click.option("--model", default=MODEL, show_default=True, metavar="NAME", help="Who answers.")
@click.option("--chunk", type=names.count_type, default=96, show_default=True, help="Tokens of a passage.")
@click.option("--overlap", type=names.Count(0), default=16, show_default=True, help="Tokens that two have in common.")
@click.option("--budget", type=names.count_type, default=384, show_default=True, help="Tokens of all passages.")
@click.option(
    "--order",
    metavar="NAME",
    default="best-first",
    show_default=True,
    help="How passages are shown to the model: best-first, best-last, ends or source.",
)
@click.option("--repeats", type=float, default=0.8, show_default=True, help="Share of words that makes a repetition.")
@click.option("--mmr", type=float, metavar="X", help="Weight of relevance against novelty, from 0 to 1.")
@click.option("--new-tokens", type=names.count_type, metavar="N", help="The most of an answer.  [default: 64]")
@with_screen
def rag(
    *,
    screen: Screen,
    question: str,
    documents: Path | None,
    dataset: str | None,
    file: Path | None,
    model: str,
    chunk: int,
    overlap: int,
    budget: int,
    **options: Any,
) -> None:
    """Answer QUESTION from documents: retrieve, rerank, pack what fits, and let a local model write.

    Documents are cut into passages of whole sentences. Standard output has the numbered passages that the model was
    shown, and its answer behind them; what that says beyond them is the model's own.

    \b
    Examples:
        rerank rag "how do I renew my passport?" --documents notes/
        rerank rag "Which film was the 2023 Palme d'Or winner?" --dataset noveleval --pipeline configs/rag-bm25.toml
    """
    from rerank import config
    from rerank.cli.run import PipelineFile
    from rerank.integrations.chunks import in_chunks
    from rerank.integrations.rag import STAGES, Answerer, ModelTokens
    from rerank.pipeline import Pipeline

    whole = _collection(documents, dataset)
    tables = STAGES if file is None else config.read(PipelineFile, file).stage
    where = "the usual stages" if file is None else str(file)
    Pipeline.check(tables, whole, where=where)
    for table in rerankers_of(tables):
        fetch_reranker(table["reranker"], table, screen)
    fetch_model(model, screen)
    chunks = in_chunks(whole, tokens=chunk, overlap=overlap, count=ModelTokens(model))
    answerer = Answerer(Pipeline.build(tables, chunks, where=where), model=model, budget=budget, **options)
    _show(answerer.ask(question), answerer, screen)


def _collection(folder: Path | None, dataset: str | None) -> Dataset:
    from rerank.datasets import Dataset
    from rerank.datasets.text_folder import TextFolder

    if (folder is None) == (dataset is None):
        raise wrong_usage("name one of --documents FOLDER and --dataset NAME")
    return Dataset(str(folder), TextFolder(folder)) if folder is not None else Dataset.load(str(dataset))


def _show(reply: Reply, answerer: Answerer, screen: Screen) -> None:
    scores = {candidate.document.doc_id: candidate.score for candidate in reply.ranking}
    passages = [
        {"number": number, "doc_id": each.doc_id, "score": scores[each.doc_id], "text": each.full_text}
        for number, each in enumerate(reply.context.documents, start=1)
    ]
    left = {"repeated": reply.context.repeated, "over_budget": reply.context.over_budget}
    cost = answerer.ledger.as_dict()
    screen.answer({"answer": reply.text, "passages": passages, "tokens": reply.context.tokens, **left, "ledger": cost})
    if screen.as_json:
        return
    for passage in passages:
        score = "" if passage["score"] is None else f" ({passage['score']:.3f})"
        screen.show(f"[{passage['number']}] {passage['doc_id']}{score}: {passage['text']}\n")
    screen.show(reply.text or "(the model wrote nothing)")
    screen.say(
        f"{answerer.pipeline.name}; {len(passages)} passages, {reply.context.tokens} tokens, {left['repeated']} left "
        f"out as repetitions and {left['over_budget']} for want of room; answered by {answerer.count.model}"
    )
