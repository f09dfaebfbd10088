"""Windows of long documents: nothing is left out, everything fits, and their scores become one by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rerank import Document, Query, Ranking, Reranker
from rerank.algorithms.sorting import heapsort
from rerank.engine.tokens import PairTokens
from rerank.engine.windows import document_windows, spans
from rerank.errors import InputError, UnknownName
from rerank.judges.fake import Oracle
from rerank.pipeline import Pipeline
from rerank.questions import Bill, Compare, Compared, Grade, Graded, Question
from rerank.rerankers.long_documents import POLICIES, LongDocuments, Passage

QUERY = Query("q", "a b")


@pytest.fixture(scope="module")
def tokenizer():
    """One token a letter: every word is as long as its tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    made = Tokenizer(models.WordPiece({token: number for number, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


class Letters:
    """Gives a text the number of its letters "z"; reads at most 10 letters."""

    key = "letters"
    answers = frozenset({Grade})
    reads_ids = False

    def __init__(self, tokenizer, max_tokens=15):
        self.pairs = PairTokens(tokenizer, max_tokens)
        self.asked: list[str] = []

    def windows(self, query, document, *, max_tokens=None, stride=None):
        return document_windows(self.pairs, query, document, window=max_tokens, stride=stride)

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Graded]]:
        for index, question in enumerate(questions):
            self.asked.append(question.documents[0].full_text)
            yield index, Graded(float(question.documents[0].full_text.count("z")))


def texts(windows):
    return [window.text for window in windows]


def cut(tokenizer, text, title="", **options):
    return document_windows(PairTokens(tokenizer, 15), QUERY, Document("d", text, title), **options)


def test_windows_end_between_words(tokenizer):
    """15 tokens less [CLS] a b [SEP] … [SEP] leave 10."""
    assert texts(cut(tokenizer, "abcd efgh ijkl mnop")) == ["abcd efgh", "ijkl mnop"]
    assert texts(cut(tokenizer, "abcd efgh ijkl mnop", window=4)) == ["abcd", "efgh", "ijkl", "mnop"]
    assert texts(cut(tokenizer, "abcd efgh ijkl mnop", window=8, stride=4)) == ["abcd efgh", "efgh ijkl", "ijkl mnop"]
    assert texts(cut(tokenizer, "abcdefghijklmnop qr")) == ["abcdefghij", "klmnop qr"]


def test_a_document_that_fits_is_itself(tokenizer):
    document = Document("d", "abcd efgh", "t")

    assert document_windows(PairTokens(tokenizer, 15), QUERY, document) == [document]
    assert [window.doc_id for window in cut(tokenizer, "abcdefgh ijklm")] == ["d#1", "d#2"]


def test_a_text_that_nobody_can_read_is_left_to_the_judge(tokenizer):
    assert texts(cut(tokenizer, "\ud800 abc")) == ["\ud800 abc"]


def test_a_title_stands_in_front_of_every_window_unless_it_is_long(tokenizer):
    found = cut(tokenizer, "efgh ijkl mnop", title="abc")

    assert [window.full_text for window in found] == ["abc efgh", "abc ijkl", "abc mnop"]
    assert [window.full_text for window in cut(tokenizer, "gh", title="abcdef ijkl")] == ["abcdef ijkl", "gh"]


WORD = st.text("abcz", min_size=1, max_size=14)


@settings(max_examples=60)
@given(words=st.lists(WORD, min_size=1, max_size=30), window=st.integers(1, 12), data=st.data())
def test_no_letter_is_left_out_and_every_window_fits(tokenizer, words, window, data):
    stride = data.draw(st.integers(1, window))
    text = " ".join(words)
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets

    found = spans(text, offsets, window, stride, lambda piece: window - len(piece.replace(" ", "")))

    assert all(len(text[start:stop].replace(" ", "")) <= window for start, stop in found)
    assert all(one[0] < two[0] and text[one[1] : two[0]].strip() == "" for one, two in pairwise(found))
    assert (found[0][0], found[-1][1]) == (0, len(text))


def test_a_piece_that_has_more_tokens_alone_is_cut_shorter():
    """Read alone, a piece begins with a token more."""
    text, offsets = "a b c d", [(0, 1), (2, 3), (4, 5), (6, 7)]

    found = spans(text, offsets, 2, 2, lambda piece: 2 - (len(piece.split()) + 1))

    assert [text[start:stop] for start, stop in found] == ["a", "b", "c", "d"]


def test_a_query_that_leaves_less_room_shortens_windows_and_strides(tokenizer):
    assert texts(cut(tokenizer, "abcd efgh ijkl mnop", window=40, stride=30)) == ["abcd efgh", "ijkl mnop"]


@pytest.mark.parametrize(
    ("policy", "score"), [("first", 1), ("max", 3), ("sum", 6), ("mean", 1.5), ("k-max", 2), ("truncate", 1)]
)
def test_scores_of_windows_become_one(tokenizer, policy, score):
    """Windows with 1, 3, 0 and 2 letters z; the best three have 6 / 3. A document without z stays below."""
    judge = Letters(tokenizer)
    judge_cut = "zaaaa aaaaa zzzaa aaaaa aaaaa aaaaa zzaaa aaaaa"
    if policy == "truncate":
        judge_cut = "zaaaa aaaaa"
    documents = [Document("none", "aaa"), Document("long", judge_cut)]
    reranker = Reranker(judge=judge, long_documents=policy)

    [found] = reranker.rerank([Ranking.unscored(QUERY, documents)])

    assert [(one.document.doc_id, one.score) for one in found] == [("long", score), ("none", 0.0)]
    if policy not in ("truncate", "first"):
        assert reranker.passages["q"]["long"] == Passage("zzzaa aaaaa", 2, 4, 3.0)
        assert reranker.ledger.total["windows"] == 4
    if policy == "first":
        assert (reranker.ledger.total["windows"], reranker.ledger.total["windows_left_out"]) == (1, 3)


def test_weights_of_the_best_windows():
    policy = LongDocuments("k-max", best=2, weights=(3, 1))
    assert POLICIES["k-max"]([1.0, 5.0, 3.0], policy.best, policy.weights) == (3 * 5 + 3) / 4
    assert POLICIES["k-max"]([2.0], policy.best, policy.weights) == 2.0


def test_a_cheap_reranker_chooses_the_windows(tokenizer):
    """The cheap one counts z and leaves the two best windows of the long document to the other, which counts too."""
    cheap, judge = Letters(tokenizer), Letters(tokenizer)
    policy = LongDocuments("sum", preselect=Reranker(judge=cheap), preselected=2)
    reranker = Reranker(judge=judge, long_documents=policy)
    documents = [Document("short", "zz aaaa"), Document("long", "zaaaa aaaaa zzzaa aaaaa aaaaa aaaaa zzaaa aaaaa")]

    [found] = reranker.rerank([Ranking.unscored(QUERY, documents)])

    assert len(cheap.asked) == 4
    assert judge.asked == ["zz aaaa", "zzzaa aaaaa", "zzaaa aaaaa"]
    assert [one.score for one in found] == [5.0, 2.0]
    assert reranker.ledger.total["windows_left_out"] == 2


def test_what_is_below_the_cutoff_is_not_cut(tokenizer):
    reranker = Reranker(judge=Letters(tokenizer), long_documents="max", window_tokens=4, stride_tokens=2)
    documents = [Document("a", "aaaa zz aaaa"), Document("b", "zzzz zzzz zzzz")]

    [found] = reranker.rerank([Ranking.unscored(QUERY, documents)], cutoff=1)

    assert [(one.document.doc_id, one.score) for one in found] == [("a", 2.0), ("b", None)]
    assert reranker.scores_key == "letters pointwise max, window 4, stride 2"


class Pairs:
    key, answers, reads_ids = "pairs", frozenset({Compare}), False

    def answer(self, questions, bill):
        yield from ((index, Compared(1.0)) for index in range(len(questions)))


def test_what_cannot_be_is_refused(tokenizer):
    judge = Letters(tokenizer)
    long = [Ranking.unscored(QUERY, [Document("d", "abcd efgh ijkl")])]

    with pytest.raises(UnknownName, match="did you mean 'mean'"):
        Reranker(judge=judge, long_documents="meam")
    with pytest.raises(InputError, match="of no use to long_documents='truncate'"):
        Reranker(judge=judge, window_tokens=3)
    with pytest.raises(InputError, match="heapsort gives none"):
        Reranker(judge=Pairs(), algorithm=heapsort, long_documents="max")
    with pytest.raises(InputError, match="of no use to 'max'"):
        LongDocuments("max", weights=(1, 1, 1))
    with pytest.raises(InputError, match="nothing to preselect"):
        LongDocuments("first", preselect=Reranker(judge=judge))
    with pytest.raises(InputError, match="window=0"):
        Reranker(judge=judge, long_documents="max", window_tokens=0)
    with pytest.raises(InputError, match="a stride of 5 tokens over windows of 3 would skip"):
        Reranker(judge=judge, long_documents="max", window_tokens=3, stride_tokens=5).rerank(long)
    with pytest.raises(InputError, match="cannot cut documents into windows"):
        Reranker(judge=Oracle({}), long_documents="max").rerank(long)
    with pytest.raises(InputError, match="leaves no room"):
        Reranker(judge=Letters(tokenizer, 5), long_documents="max").rerank(long)


def test_a_pipeline_file_names_the_policy(tmp_path):
    table = {"reranker": "ms-marco-MiniLM-L12-v2", "long_documents": "max", "window_tokens": 200}

    Pipeline.check([table])


def test_real_windows_fit_the_real_model(minilm):
    from rerank.judges.cross_encoder import CrossEncoder

    judge = CrossEncoder(minilm, max_tokens=64)
    text = "The (2023) Ünïcode naïveté of re-ranking, e.g. 東京 texts; supercalifragilisticexpialidocious! " * 8
    reranker = Reranker(judge=judge, long_documents="max", stride_tokens=20)

    [found] = reranker.rerank([Ranking.unscored(QUERY, [Document("d", text), Document("e", "short")])])

    assert "truncated_documents" not in reranker.ledger.total
    assert reranker.ledger.total["windows"] > 5
    best = reranker.passages["q"]["d"]
    assert best.text in text
    assert next(one.score for one in found if one.document.doc_id == "d") == best.score


def test_a_checkpoint_is_named_that_chooses_windows_in_python_and_in_a_pipelines_file(tokenizer, tmp_path):
    from small_folders import bert

    folder = bert(tmp_path)
    said = {"long_documents": "k-max", "best_windows": 2, "preselect": folder, "preselected": 2}
    text = "zaaaa aaaaa zzzaa aaaaa aaaaa aaaaa zzaaa aaaaa"
    judge = Letters(tokenizer)

    with Reranker(judge=judge, **said) as reranker:
        [found] = reranker.rerank([Ranking.unscored(QUERY, [Document("d", text)])])
    Pipeline.check([{"reranker": "ms-marco-MiniLM-L12-v2", **said, "preselect": str(folder)}])

    cheap = LongDocuments("k-max", best=2, preselect=Reranker(folder), preselected=2)
    assert reranker.long_documents.description == cheap.description
    assert len(judge.asked) == 2
    assert found[0].score == sum(window.count("z") for window in judge.asked) / 2
    assert (reranker.ledger.total["windows"], reranker.ledger.total["windows_left_out"]) == (2, 2)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"preselect": "x"}, "preselect: of no use to long_documents='truncate'"),
        ({"long_documents": "first", "preselect": "x"}, "preselect: of no use to long_documents='first'"),
        ({"long_documents": "max", "best_windows": 2}, "best_windows=2 is of long_documents='k-max', and of no use"),
        ({"long_documents": "max", "preselected": 2}, "preselected=2, and nobody preselects; give preselect="),
        ({"long_documents": "k-max", "best_windows": 0}, "best=0; it must be at least 1"),
    ],
)
def test_what_says_nothing_about_windows_is_refused(tokenizer, said, complaint):
    with pytest.raises(InputError, match=complaint):
        Reranker(judge=Letters(tokenizer), **said)
