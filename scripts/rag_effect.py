"""What reranking does to a language model's answers, measured: documents, chunks, hybrid retrieval, reranking, packing
under a budget of tokens, an answer by a local model.

python scripts/rag_effect.py --dataset noveleval
python scripts/rag_effect.py --dataset ../shared/data/scifact --no-answers

Stages are those of configs/rag.toml; every further one stands for its argument. Prints a table, and appends what was
measured to benchmarks/results/rag.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rerank import Dataset, Document, Pipeline, Ranking, checkpoints, config, significance
from rerank.cost import Ledger
from rerank.engine.scheduler import Scheduler
from rerank.integrations.chunks import in_chunks, whole_id
from rerank.integrations.context import Context, pack
from rerank.integrations.rag import ModelTokens
from rerank.judges.stop_tokens import STOP_WORDS
from rerank.judges.writer import Writer
from rerank.questions import Plan, Write
from rerank.rerankers.diversity import words

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "rag.jsonl"


@dataclass(frozen=True)
class Setting:
    """What is measured; all of it stands in the results."""

    dataset: str
    split: str | None
    pipeline: str
    model: str
    answers: bool
    chunk: int
    overlap: int
    budget: int
    order: str
    repeats: float
    mmr: float | None
    relevant: int
    questions: int | None


def main() -> None:
    """Measure both sides on the same questions."""
    setting = _setting()
    dataset = Dataset.load(setting.dataset, setting.split)
    count = ModelTokens(setting.model)
    chunks = in_chunks(dataset, tokens=setting.chunk, overlap=setting.overlap, count=count)
    queries = dataset.queries[: setting.questions]
    tables = config.table(ROOT / setting.pipeline)["stage"]
    first = Pipeline.build(tables[:1], chunks, where=setting.pipeline)
    rest = Pipeline.build(tables[1:], chunks, where=setting.pipeline)
    started = time.perf_counter()
    found = first.run(queries)
    retrieved = time.perf_counter()
    ranked = rest.rerank(found)
    reranked = time.perf_counter()
    contexts = {name: _packed(run, setting, count) for name, run in (("first stage", found), ("reranked", ranked))}
    answers = _answers(setting, contexts) if setting.answers else {name: {} for name in contexts}
    values = {name: _values(contexts[name], answers[name], dataset, setting) for name in contexts}
    _told(setting, values, {"retrieval": retrieved - started, "reranking": reranked - retrieved})


def _packed(run: Sequence[Ranking], setting: Setting, count: ModelTokens) -> dict[str, tuple[Ranking, Context]]:
    options = {"budget": setting.budget, "order": setting.order, "repeats": setting.repeats}
    return {name: (ranking, pack(ranking, count=count, mmr=setting.mmr, **options)) for name, ranking in _named(run)}


def _named(run: Sequence[Ranking]) -> list[tuple[str, Ranking]]:
    return [(ranking.query.query_id, ranking) for ranking in run]


def _answers(
    setting: Setting, contexts: Mapping[str, Mapping[str, tuple[Ranking, Context]]]
) -> dict[str, dict[str, str]]:
    """One answer for each question and side, all of them asked at once."""
    judge = Writer(checkpoints.fetch(setting.model), prompt="answer-from-passages")
    texts: dict[tuple[str, str], str] = {}

    def plan(name: str, ranking: Ranking, context: Context) -> Plan:
        [answer] = yield [Write(ranking.query, context.documents)]
        texts[name, ranking.query.query_id] = answer.text
        return ranking

    ledger = Ledger()
    with Scheduler(judge, ledger=ledger) as scheduler:
        scheduler.run([plan(name, *side) for name, sides in contexts.items() for side in sides.values()])
    print({name: round(amount) for name, amount in ledger.total.items()})
    return {name: {query: text for (side, query), text in texts.items() if side == name} for name in contexts}


def _values(
    contexts: Mapping[str, tuple[Ranking, Context]], answers: Mapping[str, str], dataset: Dataset, setting: Setting
) -> dict[str, dict[str, float]]:
    """Measure by question. Answers are compared with the judged documents, as whole documents hold them."""
    qrels = dataset.qrels
    texts = dataset.source.find({doc for judged in qrels.values() for doc in judged})
    measured: dict[str, dict[str, float]] = {}
    for query_id, (_, context) in contexts.items():
        judged = qrels.get(query_id, {})
        relevant = {doc for doc, grade in judged.items() if grade >= setting.relevant}
        if not relevant:
            continue
        shown = [whole_id(document.doc_id) for document in context.documents]
        row = {
            "support": float(any(doc in relevant for doc in shown)),
            "first shown is relevant": float(bool(shown) and shown[0] in relevant),
            "recall": len(relevant & set(shown)) / len(relevant),
            "relevant share of what is shown": fmean([doc in relevant for doc in shown]) if shown else 0.0,
            "tokens": float(context.tokens),
        }
        if setting.answers:
            row["answer in relevant documents"] = _held(answers[query_id], [texts[doc] for doc in relevant])
        for name, value in row.items():
            measured.setdefault(name, {})[query_id] = value
    return measured


def _held(answer: str, documents: Sequence[Document]) -> float:
    """The share of an answer's distinct content words that one relevant document holds; the best one counts."""
    said = {word for word in words(Document("answer", answer)) if word not in STOP_WORDS}
    return max(len(said & words(document).keys()) / len(said) for document in documents) if said else 0.0


def _told(setting: Setting, values: Mapping[str, Mapping[str, Mapping[str, float]]], seconds: dict[str, float]) -> None:
    before, after = values["first stage"], values["reranked"]
    rows = []
    for name in before:
        compared = significance.paired(after[name], before[name])
        low, high = compared.interval.low, compared.interval.high
        row = [fmean(before[name].values()), fmean(after[name].values()), low, high, compared.p_randomisation]
        rows.append([name, *row])
        print(f"| {name} | {row[0]:.3f} | {row[1]:.3f} | {low:+.3f} … {high:+.3f} | {row[4]:.4f} |")
    measured = {"questions": len(before["support"]), "seconds": seconds, "rows": rows}
    print(measured["questions"], "questions;", {name: round(value, 1) for name, value in seconds.items()})
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"setting": asdict(setting), **measured}) + "\n")


def _setting() -> Setting:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="noveleval")
    parser.add_argument("--split")
    parser.add_argument("--pipeline", default="configs/rag.toml", help="stages: a retriever, then rerankers")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="who answers, and whose tokens are counted")
    parser.add_argument("--answers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--chunk", type=int, default=96, help="tokens of a chunk")
    parser.add_argument("--overlap", type=int, default=16)
    parser.add_argument("--budget", type=int, default=384, help="tokens of the context")
    parser.add_argument("--order", default="best-first")
    parser.add_argument("--repeats", type=float, default=0.8)
    parser.add_argument("--mmr", type=float)
    parser.add_argument("--relevant", type=int, default=1, help="the least relevance that counts")
    parser.add_argument("--questions", type=int, help="the first so many; all by default")
    return Setting(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
