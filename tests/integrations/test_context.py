"""Documents in chunks, and rankings packed into a budget of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import Dataset, Document, Pipeline, Query, Ranking, prompts
from rerank.errors import InputError, UnknownName
from rerank.integrations.chunks import chunked, count_words, in_chunks, whole_id
from rerank.integrations.context import ORDERS, pack

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)
sentences = st.lists(st.lists(words, min_size=1, max_size=9).map(lambda some: " ".join(some) + "."), max_size=8)


def texts(text, **options):
    return [chunk.text for chunk in chunked([Document("d", text)], **options)]


def ranked(*texts, scores=None):
    documents = [Document(f"d{index}", text) for index, text in enumerate(texts)]
    query = Query("q", "query")
    return Ranking.unscored(query, documents) if scores is None else Ranking.by_score(query, documents, scores)


def test_chunks_are_whole_sentences_with_what_fits_in_common():
    text = "One two three. Four five. Six seven eight nine. Ten."

    assert texts(text, tokens=5) == ["One two three. Four five.", "Six seven eight nine. Ten."]
    assert texts(text, tokens=6, overlap=2) == ["One two three. Four five.", "Four five. Six seven eight nine.", "Ten."]
    assert texts(text, tokens=100) == [text]
    assert texts("", tokens=5) == [""]


def test_a_sentence_that_is_too_long_is_divided_and_a_word_stays_whole():
    assert texts("one two three four five six seven.", tokens=3) == ["one two three", "four five six", "seven."]
    assert texts("unbelievable a", tokens=3, count=len) == ["unbelievable", "a"]


@given(sentences, st.integers(1, 12), st.data())
def test_no_word_is_lost_and_no_chunk_too_long(given_sentences, tokens, data):
    overlap = data.draw(st.integers(0, tokens - 1))
    text = " ".join(given_sentences)

    found = texts(text, tokens=tokens, overlap=overlap)
    alone = texts(text, tokens=tokens)

    assert all(count_words(chunk) <= tokens for chunk in found)
    assert " ".join(alone).split() == text.split()
    assert len(found) >= len(alone) or overlap == 0
    assert [word for chunk in found for word in chunk.split()] != [] or not text


def test_a_dataset_in_chunks_is_indexed_and_its_chunks_are_found():
    dataset = in_chunks(Dataset.load("noveleval"), tokens=60)
    pipeline = Pipeline.build([{"retriever": "bm25", "cutoff": 5}], dataset)

    [ranking] = pipeline.run(dataset.queries[:1])

    found = dataset.source.find({document.doc_id for document in ranking.documents})
    assert {found[document.doc_id].text for document in ranking.documents} == {d.text for d in ranking.documents}
    assert len(ranking) == 5
    assert all(whole_id(document.doc_id).startswith("0-") for document in ranking.documents)
    assert dataset.source.corpus_key() != in_chunks(Dataset.load("noveleval"), tokens=61).source.corpus_key()


@pytest.mark.parametrize("options", [{"tokens": 0}, {"tokens": 5, "overlap": 5}, {"tokens": 5, "overlap": -1}])
def test_chunks_that_say_nothing_new_are_refused(options):
    with pytest.raises(InputError, match="choose overlap < tokens"):
        in_chunks(Dataset.load("noveleval"), **options)


def test_the_best_that_fits_is_taken_and_what_is_left_out_is_counted():
    ranking = ranked("a b c d", "e f g h i j k l", "a b c d", "m n")

    context = pack(ranking, budget=9)

    assert [document.doc_id for document in context.documents] == ["d0", "d3"]
    assert context.text == "[1] a b c d\n\n[2] m n"
    assert (context.tokens, context.over_budget, context.repeated) == (8, 1, 1)
    assert len(pack(ranking, budget=100, repeats=2).documents) == 4


@given(st.lists(st.lists(words, max_size=8).map(" ".join), max_size=8), st.integers(1, 30))
def test_a_context_is_never_over_its_budget_and_everything_is_accounted_for(given_texts, budget):
    context = pack(ranked(*given_texts), budget=budget)

    assert context.tokens == count_words(context.text) <= budget
    assert len(context.documents) + context.repeated + context.over_budget == len(given_texts)


def test_orders_put_the_best_where_they_say():
    documents = [Document(name, name) for name in ("x#2", "y#1", "x#1", "z#1", "y#3")]

    shown = {name: [document.doc_id for document in order(documents)] for name, order in ORDERS.items()}

    assert shown == {
        "best-first": ["x#2", "y#1", "x#1", "z#1", "y#3"],
        "best-last": ["y#3", "z#1", "x#1", "y#1", "x#2"],
        "ends": ["x#2", "x#1", "y#3", "z#1", "y#1"],
        "source": ["x#1", "x#2", "y#1", "y#3", "z#1"],
    }


def test_novelty_may_be_wanted():
    ranking = ranked("a b c", "a b d", "x y z", scores=[3.0, 2.9, 2.0])

    assert [document.doc_id for document in pack(ranking, budget=8, mmr=0.3).documents] == ["d0", "d2"]
    assert [document.doc_id for document in pack(ranking, budget=8).documents] == ["d0", "d1"]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'best-first'"):
        pack(ranked("a"), budget=5, order="bestfirst")
    with pytest.raises(InputError, match="both are above 0"):
        pack(ranked("a"), budget=0)


def test_the_prompt_shows_the_passages_as_they_were_packed():
    context = pack(ranked("a b", "c [2] d"), budget=50)

    shown = prompts.find("answer-from-passages")

    assert shown.shows is None
    text = "".join(
        part if isinstance(part, str) else shown.texts(Query("q", "why?"), context.documents)[part.name]
        for _, parts in shown.render(len(context.documents))
        for part in parts
    )
    assert text.endswith("[1] a b\n\n[2] c (2) d\n\nQuestion: why?\nAnswer:")
