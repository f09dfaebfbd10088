"""MMR and recency: values by hand, orders that keep every document, and what is refused."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import ConfigError, FileError, InputError, UnknownName
from rerank.pipeline import Pipeline
from rerank.rerankers.diversity import MMR, Recency, cosine, overlap
from rerank.types import Candidate, Document, Query, Ranking

TEXTS = {"a": "red fish", "b": "red fish", "c": "blue bird", "d": "red bird"}


def ranking(texts=TEXTS, scores=(1.0, 0.9, 0.5, 0.0)):
    pairs = zip(texts.items(), scores, strict=True)
    return Ranking(Query("q", "a"), tuple(Candidate(Document(key, text), score) for (key, text), score in pairs))


def ids(found):
    return "".join(document.doc_id for document in found.documents)


def test_similarities_by_hand():
    one, other = Counter(["red", "red", "fish"]), Counter(["red", "bird"])

    assert cosine(one, other) == pytest.approx(2 / (5**0.5 * 2**0.5))
    assert overlap(one, other) == pytest.approx(1 / 3)
    assert cosine(Counter(), other) == overlap(Counter(), Counter()) == 0


def test_mmr_by_hand():
    """λ = ½, cosine: a first (½). Then b: .45 − ½ · 1 = −.05, c: .25 − 0 = .25, d: 0 − ½ · ½ = −.25, so c; then b: −.05
    and d: 0 − ½ · ½ (d has a word of c too), so b."""
    [found] = MMR(0.5).rerank([ranking()])

    assert ids(found) == "acbd"
    assert [one.score for one in found] == [None] * 4


def test_relevance_alone_changes_nothing_and_novelty_alone_begins_with_the_best():
    [same], [novel] = MMR(1).rerank([ranking()]), MMR(0).rerank([ranking()])

    assert ids(same) == "abcd"
    assert ids(novel) == "acdb"


def test_a_similarity_of_ones_own():
    """Only a and b are alike: after a, b is worth .45 − .5, less than c (.25) and d (0)."""
    alike = {frozenset("ab"): 1.0}

    [found] = MMR(0.5, lambda one, two: alike.get(frozenset((one.doc_id, two.doc_id)), 0.0)).rerank([ranking()])

    assert ids(found) == "acdb"


@given(st.lists(st.tuples(st.text("ab ", max_size=8), st.floats(-9, 9)), max_size=12), st.floats(0, 1))
def test_mmr_keeps_every_document_and_the_best_on_top(rows, weight):
    rows.sort(key=lambda row: -row[1])
    given_one = ranking({str(n): text for n, (text, _) in enumerate(rows)}, [score for _, score in rows])

    [found] = MMR(weight).rerank([given_one])

    assert sorted(ids(found)) == sorted(ids(given_one))
    assert not rows or weight < 1e-6 or rows[0][1] - rows[-1][1] < 1e-6 or found[0].document.doc_id == "0"


def test_unscored_candidates_stay_below():
    [diverse] = MMR(0.5).rerank([ranking(scores=(1.0, 0.9, None, None))])
    [recent] = Recency({"b": "2024-01-02", "a": "2023-01-02"}, 30).rerank([ranking(scores=(1.0, 0.9, None, None))])

    assert ids(diverse) == "abcd"
    assert ids(recent) == "bacd"
    assert [one.score for one in recent][2:] == [None, None]


def test_what_is_a_half_life_older_counts_half():
    step = Recency({"a": "2024-01-01", "b": date(2024, 1, 11), "c": datetime(2024, 1, 21, tzinfo=UTC)}, 10, undated=0.3)

    [found] = step.rerank([ranking(scores=(1.0, 0.9, 0.5, 0.2))])

    assert [(one.document.doc_id, one.score) for one in found] == [
        ("c", 0.5), ("b", pytest.approx(0.45)), ("a", pytest.approx(0.25)), ("d", pytest.approx(0.06)),
    ]  # fmt: skip


def test_ages_are_counted_to_the_day_said():
    step = Recency({"a": "2024-01-01T12:00:00+00:00", "b": "2024-03-01"}, 1, now="2024-01-02")

    assert step.prior(Document("a", "")) == pytest.approx(2**-0.5)
    assert step.prior(Document("b", "")) == 1


def test_dates_come_from_a_file(tmp_path):
    (tmp_path / "dates.tsv").write_text("a\t2024-01-01\nb\t2024-01-11\n")
    table = {"step": "recency", "dates": str(tmp_path / "dates.tsv"), "half_life": 10, "undated": 0.5}

    pipeline = Pipeline.build([table, {"step": "mmr", "weight": 0.5, "cutoff": 2}])
    [found] = pipeline.rerank([ranking()])

    assert len(found) == 2
    assert pipeline.name == "recency >> mmr % 2"
    assert 'step = "mmr"' in pipeline.dump()
    (tmp_path / "dates.tsv").write_text("a 2024-01-01\n")
    with pytest.raises(FileError, match="line 1: 'a 2024-01-01' is no new document, tab and date"):
        Pipeline.build([table])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="between 0 and 1"):
        MMR(2)
    with pytest.raises(InputError, match="no similarity is called 'cosin'"):
        MMR(0.5, "cosin")
    with pytest.raises(InputError, match="order and no scores"):
        MMR(0.5).rerank([ranking(scores=(None,) * 4)])
    with pytest.raises(InputError, match="half-life is 0"):
        Recency({"a": "2024-01-01"}, 0)
    with pytest.raises(InputError, match="write it like 2024-05-31"):
        Recency({"a": "May"}, 1)
    with pytest.raises(InputError, match="'d' has no date"):
        Recency(dict.fromkeys("abc", "2024-01-01"), 1).rerank([ranking()])
    with pytest.raises(InputError, match="scores of at least 0"):
        Recency(dict.fromkeys("abcd", "2024-01-01"), 1).rerank([ranking(scores=(1.0, 0.5, 0.0, -1.0))])
    with pytest.raises(UnknownName, match="did you mean 'mmr'"):
        Pipeline.check([{"step": "mmrr"}])
    with pytest.raises(ConfigError, match="'retriever', 'reranker' or 'step', and no more than one"):
        Pipeline.check([{"step": "mmr", "reranker": "x"}])
