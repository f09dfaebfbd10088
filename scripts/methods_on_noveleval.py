"""Run every method end to end on a few questions of NovelEval, and write docs/methods-measured.md as it comes out.

python scripts/methods_on_noveleval.py --model SmolLM2-135M-Instruct              # all methods that ask a causal model
python scripts/methods_on_noveleval.py --model Qwen2.5-Coder-1.5B-Instruct --questions 2 \\
    --method prp-sliding --method setwise-heapsort --method rankgpt --method first-numbers
python scripts/methods_on_noveleval.py --model SmolLM2-135M-Instruct --questions 21 --passages 20  # on a GPU: all of it

Methods come from the catalogue, so that a new one joins by itself. What was measured stands in
benchmarks/results/methods-noveleval.jsonl, one line each, written when it is there: a run that was cut off goes on
where it stopped, and only what is missing is run.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rerank import Dataset, Document, Ranking, Reranker, checkpoints, methods, prompts
from rerank.errors import RerankError
from rerank.evaluate import evaluate
from rerank.prompts.demonstrations import Demonstration
from rerank.types import Qrels

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "methods-noveleval.jsonl"
PAGE = ROOT / "docs" / "methods-measured.md"
COLUMNS = ("method", "algorithm", "nDCG@10", "questions", "rounds", "tokens", "written", "repairs", "CPU s", "PetaFLOP")
WORDS = 60
WRITTEN = 64
"""The most tokens that a model may write in one answer, for methods that let it think."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a method is run on; the same setting is not run twice."""

    model: str
    questions: int
    passages: int
    words: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table; `why` says what a method that did not run said.

    `seconds` are those of the processor, summed over threads, so that a busy machine changes them little.
    """

    method: str
    setting: Setting
    ndcg: float | None
    before: float
    amounts: Mapping[str, float]
    seconds: float
    date: str
    why: str = ""


def candidates(setting: Setting) -> tuple[list[Ranking], Qrels]:
    """The first passages of the first questions, in the collection's order and cut short; their judgments."""
    dataset = Dataset.load("noveleval")
    queries = dataset.queries[: setting.questions]
    shown = {query.query_id: list(dataset.qrels[query.query_id])[: setting.passages] for query in queries}
    found = dataset.look_up({doc_id for doc_ids in shown.values() for doc_id in doc_ids})
    rankings = [
        Ranking.unscored(query, [_cut(found[doc_id], setting.words) for doc_id in shown[query.query_id]])
        for query in queries
    ]
    qrels = {
        query_id: {doc_id: dataset.qrels[query_id][doc_id] for doc_id in doc_ids} for query_id, doc_ids in shown.items()
    }
    return rankings, qrels


def _cut(document: Document, words: int) -> Document:
    return Document(document.doc_id, " ".join(document.full_text.split()[:words]))


def options_of(method: methods.Method) -> dict[str, Any]:
    """Fewer written tokens for methods that let a model think; demonstrations for those that show some."""
    prompt = prompts.find(method.prompt) if method.prompt else None
    limit = method.options.get("new_tokens", prompt.new_tokens if prompt else None)
    shows = prompt is not None and prompt.shows_demonstrations
    return {
        **({"new_tokens": WRITTEN} if limit is not None and limit > WRITTEN else {}),
        **({"demonstrations": demonstrations()} if shows else {}),
    }


def demonstrations() -> tuple[Demonstration, ...]:
    """The best passage and the worst of the last three questions, which are not measured on by default."""
    dataset = Dataset.load("noveleval")
    ends = {
        query: sorted(dataset.qrels[query.query_id], key=dataset.qrels[query.query_id].__getitem__)
        for query in dataset.queries[-3:]
    }
    found = dataset.look_up({doc_id for ids in ends.values() for doc_id in (ids[0], ids[-1])})
    shown = {query: [_cut(found[ids[end]], WORDS).text for end in (-1, 0)] for query, ids in ends.items()}
    return tuple(Demonstration(query.text, better, worse) for query, (better, worse) in shown.items())


def measure(name: str, setting: Setting, rankings: Sequence[Ranking], qrels: Qrels) -> Measured:
    """Run one method; one that refuses says why."""
    before = _ndcg(rankings, qrels)
    today = time.strftime("%Y-%m-%d")
    started = time.process_time()
    try:
        with Reranker(name, model=setting.model, options=options_of(methods.find(name))) as reranker:
            loaded = time.process_time()
            ranked = reranker.rerank(rankings)
            seconds = time.process_time() - loaded
            return Measured(name, setting, _ndcg(ranked, qrels), before, reranker.ledger.total, seconds, today)
    except RerankError as error:
        return Measured(name, setting, None, before, {}, time.process_time() - started, today, str(error))


def _ndcg(rankings: Sequence[Ranking], qrels: Qrels) -> float:
    return evaluate(qrels, {ranking.query.query_id: ranking for ranking in rankings}).means["nDCG@10"]


def able(model: str) -> list[str]:
    """The methods that can ask a checkpoint of this kind."""
    kind = checkpoints.kind(checkpoints.fetch(model))
    return [name for name in methods.names() if kind in methods.find(name).wants]


# -- what was measured -----------------------------------------------------------------------------------------------


def read() -> list[Measured]:
    """Everything measured so far."""
    if not RESULTS.exists():
        return []
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return [Measured(**{**line, "setting": Setting(**line["setting"])}) for line in lines]


def write(measured: Sequence[Measured]) -> None:
    """The results, and the page's table; both whole or not at all."""
    _replace(RESULTS, "".join(json.dumps(asdict(one)) + "\n" for one in measured))
    front, begin, rest = PAGE.read_text(encoding="utf-8").partition("<!-- measured -->")
    _, end, back = rest.partition("<!-- end of measured -->")
    _replace(PAGE, front + begin + "\n" + "\n".join(_tables(measured)) + end + back)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _tables(measured: Sequence[Measured]) -> Iterator[str]:
    for setting in dict.fromkeys(one.setting for one in measured):
        ours = [one for one in measured if one.setting == setting]
        shown = f"{setting.questions} questions × {setting.passages} passages of {setting.words} words"
        yield f"\n### {setting.model}: {shown}\n"
        yield from (f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * len(COLUMNS)))
        yield f"| the collection's order | | {ours[0].before:.4f} | | | | | | | |"
        for one in sorted(ours, key=lambda one: one.method):
            yield _line(one)
        yield ""


def _line(one: Measured) -> str:
    algorithm = methods.find(one.method).algorithm if one.method in methods.names() else ""
    if one.ndcg is None:
        return f"| `{one.method}` | {algorithm} | refused: {one.why} | | | | | | | |"
    total = one.amounts
    whole = [
        f"{total.get(name, 0):,.0f}" for name in ("questions", "rounds", "tokens_real", "tokens_generated", "repairs")
    ]
    return (
        f"| `{one.method}` | {algorithm} | {one.ndcg:.4f} | {' | '.join(whole)} | {one.seconds:,.1f} "
        f"| {total.get('flops', 0) / 1e15:.4f} |"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", required=True, help="a checkpoint that is asked by prompts")
    parser.add_argument("--method", action="append", help="run these alone; may be repeated")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--again", action="store_true", help="run what was measured or refused before, too")
    parser.add_argument("--minutes", type=float, default=60, help="start no further method after so many")
    asked = parser.parse_args()
    setting = Setting(asked.model, asked.questions, asked.passages, asked.words)
    rankings, qrels = candidates(setting)
    started = time.monotonic()
    for name in asked.method or able(asked.model):
        measured = read()
        done = [one for one in measured if one.method == name and one.setting == setting and one.ndcg is not None]
        if done and not asked.again:
            continue
        if time.monotonic() - started > 60 * asked.minutes:
            print(f"{asked.minutes} minutes are over; the rest is left for another run")
            break
        try:
            found = measure(name, setting, rankings, qrels)
        except Exception:  # a defect: shown, not written down, and no reason to measure nothing else
            traceback.print_exc()
            continue
        print(f"{name}: {found.why or found.ndcg} {found.seconds:.1f} s", flush=True)
        write([*(one for one in read() if (one.method, one.setting) != (name, setting)), found])


if __name__ == "__main__":
    main()
