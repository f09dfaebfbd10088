"""A small collection in MS MARCO's names and layouts, and what teachers say about it in theirs, out of real words.

Countries have capitals, languages, dishes, rivers and animals; a query asks for one of these, one passage says it, and
the others are of another country or of another thing. Nothing is drawn: the files are the same each time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["FILES", "PASSAGES", "QUERIES", "write_files"]

FACTS = """
France: Paris, French, ratatouille, Loire, rooster
Spain: Madrid, Spanish, paella, Ebro, bull
Portugal: Lisbon, Portuguese, caldo verde, Tagus, wolf
Italy: Rome, Italian, risotto, Po, bear
Austria: Vienna, German, strudel, Danube, eagle
Poland: Warsaw, Polish, pierogi, Vistula, bison
Hungary: Budapest, Hungarian, goulash, Tisza, hound
Greece: Athens, Greek, moussaka, Achelous, dolphin
Turkey: Ankara, Turkish, baklava, Sakarya, leopard
Egypt: Cairo, Arabic, koshari, Nile, falcon
Kenya: Nairobi, Swahili, ugali, Tana, lion
India: Delhi, Hindi, biryani, Ganges, tiger
China: Beijing, Mandarin, dumplings, Yangtze, panda
Japan: Tokyo, Japanese, ramen, Shinano, pheasant
Peru: Lima, Quechua, ceviche, Ucayali, condor
Brazil: Brasilia, Brazilian Portuguese, feijoada, Amazon, jaguar
"""
ASKED = (
    ("what is the capital of {0}", "{1} is the capital of {0} and the seat of its government, with old streets."),
    ("which language is spoken in {0}", "Most people in {0} speak {1}, which schools teach and the radio speaks."),
    ("national dish of {0}", "A dish that travellers in {0} should try is {1}, which families cook on holidays."),
    ("longest river in {0}", "The {1} is the longest river in {0}; farmers along its banks use its water."),
    ("national animal of {0}", "The {1} is the animal that stands for {0} on coins, shirts and old coats of arms."),
)  # fmt: skip
DEPTH = 10
"""Candidates of a query."""

TURNS = (
    "You are RankLLM, an intelligent assistant that ranks passages by their relevance to the query.",
    "human",
    "gpt",
)


@cache
def _facts() -> list[tuple[str, list[str]]]:
    rows = [line.partition(": ") for line in FACTS.strip().splitlines()]
    return [(country, words.split(", ")) for country, _, words in rows]


QUERIES: Mapping[str, str] = {
    str(1000 + 5 * number + at): query.format(country)
    for number, (country, _) in enumerate(_facts())
    for at, (query, _) in enumerate(ASKED)
}
"""id -> text; the passage of the same place answers it."""

PASSAGES: Mapping[str, str] = {
    str(7000 + 5 * number + at): passage.format(country, words[at])
    for number, (country, words) in enumerate(_facts())
    for at, (_, passage) in enumerate(ASKED)
}
"""id -> text."""


def answer_of(query_id: str) -> str:
    """The passage that answers a query."""
    return str(int(query_id) + 6000)


def candidates(query_id: str) -> list[str]:
    """Passages for a query: of its country, the answer among them where its turn is, then of others."""
    answer, all_ids = int(answer_of(query_id)), list(PASSAGES)
    same = [str(answer // 5 * 5 + at) for at in range(5)]
    others = [all_ids[(all_ids.index(str(answer)) + 5 * step) % len(all_ids)] for step in range(1, DEPTH)]
    return (same + others)[:DEPTH]


def scores(query_id: str) -> dict[str, float]:
    """A teacher's: 6 for the answer, more for another passage of the country than for one of another country."""
    ids, answer = candidates(query_id), answer_of(query_id)
    return {
        one: 6.0 if one == answer else (-1.0 if place < 5 else -6.0) - 0.25 * place for place, one in enumerate(ids)
    }


def grades(query_id: str) -> dict[str, int]:
    """From 0 to 4: 4 answers, 1 is about the same country."""
    return {one: 4 if score > 0 else int(score > -3) for one, score in scores(query_id).items()}


def best_first(query_id: str) -> list[str]:
    """A teacher's order."""
    taught = scores(query_id)
    return sorted(taught, key=lambda one: -taught[one])


def _triples() -> Iterator[tuple[str, str, str]]:
    for query_id in QUERIES:
        answer = answer_of(query_id)
        yield from ((query_id, answer, one) for one in candidates(query_id)[:3] if one != answer)


def _run(score: Callable[[str], Mapping[str, float]]) -> Iterator[str]:
    for query_id in QUERIES:
        found = score(query_id)
        for rank, one in enumerate(sorted(found, key=lambda one: -found[one]), start=1):
            yield f"{query_id} Q0 {one} {rank} {found[one]} made-up"


def _as_retrieved(query_id: str) -> dict[str, float]:
    return {one: 20.0 - place for place, one in enumerate(candidates(query_id))}


def _from_nought_to_two(query_id: str) -> dict[str, float]:
    return {one: grade / 2 for one, grade in grades(query_id).items()}


def _passage(doc_id: str) -> dict[str, str]:
    return {"docid": doc_id, "title": "-", "text": PASSAGES[doc_id]}


def _hard_negatives() -> Iterator[dict[str, Any]]:
    for query_id, query in QUERIES.items():
        good = [one for one in candidates(query_id) if one == answer_of(query_id)]
        bad = [one for one in candidates(query_id) if one != answer_of(query_id)]
        sides = {"positive_passages": [*map(_passage, good)], "negative_passages": [*map(_passage, bad)]}
        yield {"query_id": query_id, "query": query, **sides}


def _retrieved() -> Iterator[dict[str, Any]]:
    for query_id, query in QUERIES.items():
        shown = [_passage(one) for one in candidates(query_id)]
        yield {"query": query, "positive_passages": [_passage(answer_of(query_id))], "retrieved_passages": shown}


def permutation(query_id: str, names: Sequence[str]) -> str:
    """ "[2] > [1]", as a language model writes it."""
    shown = candidates(query_id)
    return " > ".join(f"[{names[shown.index(one)]}]" for one in best_first(query_id))


def _conversations(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for query_id, query in QUERIES.items():
        passages = "\n".join(
            f"[{name}] {PASSAGES[one]}" for name, one in zip(names, candidates(query_id), strict=False)
        )
        asked = f"I will provide you with passages.\n\n{passages}\n\nSearch Query: {query}.\nRank the passages above."
        said = zip(("system", "human", "gpt"), (TURNS[0], asked, permutation(query_id, names)), strict=True)
        yield {"id": query_id, "conversations": [{"from": who, "value": value} for who, value in said]}


def _record(query_id: str, shown: Sequence[str], **more: Any) -> dict[str, Any]:
    relevance = [float(one == answer_of(query_id)) for one in shown]
    return {"query": QUERIES[query_id], "documents": [PASSAGES[one] for one in shown], "relevance": relevance, **more}


def _thoughts_about_one() -> Iterator[dict[str, Any]]:
    for number, query_id in enumerate(QUERIES):
        one = candidates(query_id)[number % 2] if number % 3 else answer_of(query_id)
        verdict = "true" if one == answer_of(query_id) else "false"
        yield _record(query_id, [one], completion=f"<think>Does it say {QUERIES[query_id]}?</think> {verdict}")


def _thoughts_about_lists(tags: tuple[str, str]) -> Iterator[dict[str, Any]]:
    names = [str(number) for number in range(1, DEPTH + 1)]
    for query_id in QUERIES:
        shown = candidates(query_id)
        order = [shown.index(one) for one in best_first(query_id)]
        said = (
            f"<think>{QUERIES[query_id]}: one passage says it.</think>{tags[0]}{permutation(query_id, names)}{tags[1]}"
        )
        yield _record(query_id, shown, order=order, completion=said)


def _pairs() -> Iterator[dict[str, Any]]:
    for query_id in QUERIES:
        shown, taught = candidates(query_id), scores(query_id)
        asked = [(first, (first + step) % DEPTH) for first in range(0, DEPTH, 2) for step in (1, 3)]
        wins = [float(taught[shown[first]] > taught[shown[second]]) for first, second in asked]
        pairs = [{"first": one, "second": two, "wins": won} for (one, two), won in zip(asked, wins, strict=True)]
        yield _record(query_id, shown, pairs=pairs)


def _json(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    return map(json.dumps, rows)


NUMBERS, LETTERS = [str(number) for number in range(1, DEPTH + 1)], [chr(65 + place) for place in range(DEPTH)]

FILES: Mapping[str, Callable[[], Iterable[str]]] = {
    "collection.tsv": lambda: (f"{doc_id}\t{text}" for doc_id, text in PASSAGES.items()),
    "queries.train.tsv": lambda: (f"{query_id}\t{text}" for query_id, text in QUERIES.items()),
    "qrels.train.tsv": lambda: (f"{query_id}\t0\t{answer_of(query_id)}\t1" for query_id in QUERIES),
    "graded.qrels.tsv": lambda: (
        f"{query_id}\t0\t{one}\t{grade}" for query_id in QUERIES for one, grade in grades(query_id).items()
    ),
    "judged.qrels.tsv": lambda: (
        f"{query_id}\t0\t{one}\t{int(one == answer_of(query_id))}"
        for query_id in QUERIES
        for one in candidates(query_id)
    ),
    "triples.train.small.tsv": lambda: (
        f"{QUERIES[query_id]}\t{PASSAGES[good]}\t{PASSAGES[bad]}" for query_id, good, bad in _triples()
    ),
    "qidpidtriples.train.full.2.tsv.gz": lambda: ("\t".join(triple) for triple in _triples()),
    "bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv": lambda: (
        f"{scores(query_id)[good]}\t{scores(query_id)[bad]}\t{query_id}\t{good}\t{bad}"
        for query_id, good, bad in _triples()
    ),
    "InRanker_msmarco.tsv": lambda: (
        f"{score / 2}\t{-score / 2}\t{query_id}\t{one}"
        for query_id in QUERIES
        for one, score in scores(query_id).items()
    ),
    "passages.jsonl": lambda: _json({"title": doc_id, "text": text} for doc_id, text in PASSAGES.items()),
    "bm25.trec": lambda: _run(_as_retrieved),
    "teacher.trec": lambda: _run(scores),
    "teacher-0-2.trec": lambda: _run(_from_nought_to_two),
    "__rankzephyr-colbert-10000-sampled-100__msmarco-passage-train-judged.run": lambda: _run(scores),
    "train.jsonl": lambda: _json(_hard_negatives()),
    "marco-train-10k.jsonl": lambda: _json(_retrieved()),
    "marco-train-10k-gpt3.5.json": lambda: [json.dumps([permutation(query_id, NUMBERS) for query_id in QUERIES])],
    "rank_zephyr_training_data.jsonl": lambda: _json(_conversations(NUMBERS)),
    "first_training_data.jsonl": lambda: _json(_conversations(LETTERS)),
    "traces-of-one.jsonl": lambda: _json(_thoughts_about_one()),
    "traces-of-lists.jsonl": lambda: _json(_thoughts_about_lists((" ", ""))),
    "traces-with-answers.jsonl": lambda: _json(_thoughts_about_lists((" <answer>", "</answer>"))),
    "pairs.jsonl": lambda: _json(_pairs()),
}
"""Name -> its lines."""


def write_files(folder: Path) -> None:
    """All of them; those that are there already are written again, and are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in FILES.items():
        data = "".join(f"{line}\n" for line in lines()).encode()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
