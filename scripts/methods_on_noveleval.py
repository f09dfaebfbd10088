"""Run every method end to end on a few questions of NovelEval, and write what it did into the pages as it comes out.

python scripts/methods_on_noveleval.py --model SmolLM2-135M-Instruct              # all methods that ask a causal model
python scripts/methods_on_noveleval.py --model Qwen2.5-Coder-1.5B-Instruct --questions 2 \\
    --method prp-sliding --method setwise-heapsort --method rankgpt --method first-numbers
python scripts/methods_on_noveleval.py --model SmolLM2-135M-Instruct --questions 21 --passages 20  # on a GPU: all of it
python scripts/methods_on_noveleval.py              # no run: docs/methods-measured.md and docs/methods from the results
python scripts/methods_on_noveleval.py --check      # end with 1 when a page is not what the results say

Methods come from the catalogue, so that a new one joins by itself. What was measured stands in
benchmarks/results/methods-noveleval.jsonl, one line each, written when it is there: a run that was cut off goes on
where it stopped, and only what is missing is run. A page of docs/methods shows those that its headings name.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
PAGES = ROOT / "docs" / "methods"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
COLUMNS = ("method", "algorithm", "nDCG@10", "questions", "rounds", "tokens", "written", "repairs", "CPU s", "PetaFLOP")
SHARES = ("questions", "rounds", "tokens computed", "reused", "written", "CPU s", "PFLOP")
"""Of one question of the collection, on the page of a method's family."""

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
    """The results, and the pages' tables; each file whole or not at all."""
    _replace(RESULTS, "".join(json.dumps(asdict(one)) + "\n" for one in measured))
    for path, text in pages(measured):
        _replace(path, text)


def pages(measured: Sequence[Measured]) -> Iterator[tuple[Path, str]]:
    """Every page that shows results, and its whole text."""
    yield PAGE, _filled(PAGE.read_text(encoding="utf-8"), [*_sums(measured), *_tables(measured)])
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if BEGIN in text:
            yield path, _filled(text, _family(_named(text), measured))


def _filled(page: str, lines: Iterable[str]) -> str:
    front, _, rest = page.partition(BEGIN)
    _, _, back = rest.partition(END)
    return f"{front}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{back}"


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _named(page: str) -> list[str]:
    """The methods that a page's headings name, in their order."""
    headings = re.findall(r"^## (.*)$", page, re.M)
    known = set(methods.names())
    return [word for heading in headings for word in re.findall(r"[\w.-]+", heading) if word in known]


def _family(names: Sequence[str], measured: Sequence[Measured]) -> Iterator[str]:
    """The methods of a page, each on every model that it was measured on with the usual passages."""
    columns = ("method", "model", *SHARES)
    yield from (_row(cells) for cells in (columns, ["---"] * len(columns)))
    usual = {(asked, 8, WORDS) for asked in (2, 4)}
    for name in names:
        ours = [one for one in measured if one.method == name]
        for one in ours:
            if (one.setting.questions, one.setting.passages, one.setting.words) in usual:
                yield _row([f"`{name}`", one.setting.model, *_share(one)])
        if not ours:
            yield _row([f"`{name}`", _why_not(methods.find(name)), *[""] * len(SHARES)])


def _why_not(method: methods.Method) -> str:
    if {"causal", "encoder-decoder", "cross-encoder"} & {*method.wants}:
        return "not run"
    return f"needs a trained {' or '.join(method.wants)}, and none is small and at hand"


def _share(one: Measured) -> list[str]:
    """What a question took, the mean over all; why not, where the method refused."""
    if one.ndcg is None:
        return [f"refused: {one.why}", *[""] * (len(SHARES) - 1)]
    each = {name: amount / one.setting.questions for name, amount in one.amounts.items()}
    names = ("questions", "rounds", "tokens_real", "tokens_reused", "tokens_generated")
    amounts = [f"{each.get(name, 0):,.0f}" for name in names]
    return [*amounts, f"{one.seconds / one.setting.questions:,.1f}", f"{each.get('flops', 0) / 1e15:.6f}"]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sums(measured: Sequence[Measured]) -> Iterator[str]:
    """How long all of it took."""
    for model in dict.fromkeys(one.setting.model for one in measured):
        ran = [one for one in measured if one.setting.model == model and one.ndcg is not None]
        minutes = sum(one.seconds for one in ran) / 60
        yield f"- {model}: {len(ran)} methods, {minutes:,.1f} minutes of the processor"
    total = sum(one.seconds for one in measured) / 60
    yield f"- all together: {total:,.1f} minutes of the processor, of 120 that two cores have in an hour"
    yield ""


def _tables(measured: Sequence[Measured]) -> Iterator[str]:
    for setting in dict.fromkeys(one.setting for one in measured):
        ours = [one for one in measured if one.setting == setting]
        shown = f"{setting.questions} questions × {setting.passages} passages of {setting.words} words"
        yield f"\n### {setting.model}: {shown}\n"
        yield from (_row(cells) for cells in (COLUMNS, ["---"] * len(COLUMNS)))
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


def run(asked: argparse.Namespace) -> None:
    """Measure what is missing."""
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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", help="a checkpoint; without one, the pages are written from what was measured")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a page is stale")
    parser.add_argument("--method", action="append", help="run these alone; may be repeated")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--again", action="store_true", help="run what was measured or refused before, too")
    parser.add_argument("--minutes", type=float, default=60, help="start no further method after so many")
    asked = parser.parse_args()
    if asked.check:
        if stale := [path for path, text in pages(read()) if path.read_text(encoding="utf-8") != text]:
            sys.exit(f"{stale[0]} is stale; run: python scripts/methods_on_noveleval.py")
    elif asked.model is None:
        write(read())
    else:
        run(asked)


if __name__ == "__main__":
    main()
