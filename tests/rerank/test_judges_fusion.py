"""Fusion in decoder: what is written, read and graded over fused texts is what plain loops of transformers give."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from fusion_models import (
    PASSAGES,
    QUESTION,
    counting_t5,
    fit5_folder,
    plain_fit5,
    plain_reading,
    plain_writing,
)
from judge_models import _tokenizer, answers, some_documents, tiny_lm

from rerank import prompts
from rerank.algorithms.groups import group_scores, priors
from rerank.algorithms.tournament import tournament
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.choosing import judge_for
from rerank.judges.fake import Oracle
from rerank.judges.fusion_attention import FusionAttention
from rerank.judges.fusion_in_decoder import FusionInDecoder
from rerank.judges.fusion_in_t5 import FusionInT5
from rerank.judges.permutation import Permutation
from rerank.judges.spelling import Spelling
from rerank.questions import GradedSet, GradeSet, Permute, Permuted, content_key
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking

ASKED = Permute(QUESTION, PASSAGES)


@pytest.fixture(scope="module")
def numbers(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes 1 to 5 and ends when it likes."""
    return counting_t5(tmp_path_factory.mktemp("numbers"), flan, "3 1 5 2 4")


@pytest.fixture(scope="module")
def brackets(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counting_t5(tmp_path_factory.mktemp("brackets"), flan, "[3] > [1] > [5] > [2] > [4]")


@pytest.fixture(scope="module")
def fit5(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit5_folder(tmp_path_factory.mktemp("fit5"), flan)


def listt5_texts(documents: tuple[Document, ...]) -> list[str]:
    return [
        f"Query: {QUESTION.text}, Index: {index}, Context: {document.full_text}"
        for index, document in enumerate(documents, start=1)
    ]


def best_last(ids: list[int]) -> list[int]:
    """Indices of what was written in numbers, the last first; a number counts where it stands last."""
    digits = {209: 0, 204: 1, 220: 2, 314: 3, 305: 4}  # ▁1 to ▁5
    return list(dict.fromkeys(digits[token] for token in reversed(ids) if token in digits))


# -- ListT5 ------------------------------------------------------------------------------------------------------------


def test_listt5_reads_what_the_plain_loop_writes_from_the_end(numbers: Path, flan: Path) -> None:
    assert _tokenizer(flan)("1 2 3 4 5")["input_ids"][:-1] == [209, 204, 220, 314, 305]
    judge = FusionInDecoder(numbers, prompt="listt5")
    for shown in (PASSAGES, PASSAGES[::-1], PASSAGES[1:4]):
        named = best_last(plain_writing(numbers, listt5_texts(shown), len(shown) + 1))
        named = [index for index in named if index < len(shown)]
        [answer] = answers(judge, [Permute(QUESTION, shown)])

        assert isinstance(answer, Permuted)
        assert named
        assert list(answer.order[: len(named)]) == named
        assert list(answer.order[len(named) :]) == [index for index in range(len(shown)) if index not in named]
        assert any(repair.endswith("not named") for repair in answer.repairs) == (len(named) < len(shown))


def test_real_weights_write_the_same_ids(flan: Path) -> None:
    """A title with a number in it, which names no document: everything stays in the order shown, and that is told."""
    judge = FusionInDecoder(flan, prompt="listt5", new_tokens=12)
    asked = judge.render(ASKED)
    [written] = judge.model.model.generate([asked.texts], max_tokens=12).texts

    assert written == plain_writing(flan, listt5_texts(PASSAGES), 12)
    [answer] = answers(judge, [ASKED])
    assert answer.order == (0, 1, 2, 3, 4)
    assert answer.repairs[-1] == "5 not named"


def test_the_most_relevant_is_named_last_and_of_two_mentions_the_last_counts(numbers: Path) -> None:
    judge = FusionInDecoder(numbers)

    read = judge.read(ASKED, "3 1 5 2 4")
    assert (read.order, read.repairs) == ((3, 1, 4, 0, 2), ())
    read = judge.read(ASKED, "4 4 9 2 1 2")
    assert (read.order, read.repairs) == ((1, 0, 3, 2, 4), ("2 named twice", "1 not there", "2 not named"))
    assert judge.read(ASKED, "nothing").order == (0, 1, 2, 3, 4)
    assert judge._complete(5) == 6  # five numbers and the end, as published


@pytest.mark.parametrize("prompt", ["listt5", "lit5"])
def test_constrained_writing_is_the_likeliest_valid_list_step_by_step(
    prompt: str, numbers: Path, brackets: Path
) -> None:
    folder = numbers if prompt == "listt5" else brackets
    judge = FusionInDecoder(folder, prompt=prompt, constrained=True)
    between, form = (" ", "{}") if prompt == "listt5" else (" > ", "[{}]")
    orders = [*permutations("1234")]
    valid = [between.join(map(form.format, order)) for order in orders]
    texts = [
        _tokenizer(folder).decode(segment[:-1]) for segment in judge.render(Permute(QUESTION, PASSAGES[:4])).segments
    ]
    said = _tokenizer(folder).decode(plain_writing(folder, texts, 99, valid)[:-1])
    [answer] = answers(judge, [Permute(QUESTION, PASSAGES[:4])])

    expected = [int(number) - 1 for number in orders[valid.index(said)]]
    assert list(answer.order) == (expected[::-1] if prompt == "listt5" else expected)
    assert answer.repairs == ()
    assert judge.key != FusionInDecoder(folder, prompt=prompt).key


def test_a_spelling_lets_nothing_but_each_identifier_once() -> None:
    spelling = Spelling([[5], [6, 7], [6, 8]], [[5], [9, 7], [9, 8]], end=1)

    assert spelling.next([]) == [5, 6]
    assert spelling.next([6]) == [7, 8]
    assert spelling.next([6, 8]) == [5, 9]
    assert spelling.next([6, 8, 9]) == [7]
    assert spelling.next([6, 8, 9, 7, 5]) == [1]
    with pytest.raises(InputError, match=r"tokens \(5,\) of one identifier begin \(5, 6\) of another"):
        Spelling([[5], [5, 6]], [[5], [5, 6]], end=1)


def test_groups_are_filled_with_what_they_hold(numbers: Path) -> None:
    judge = FusionInDecoder(numbers, group=5)
    asked = judge.render(Permute(QUESTION, PASSAGES[:2]))
    shown = [PASSAGES[index % 2] for index in range(5)]

    assert [_tokenizer(numbers).decode(ids[:-1]) for ids in asked.segments] == listt5_texts(tuple(shown))
    read = judge.read(Permute(QUESTION, PASSAGES[:2]), "1 2 4 3 5")
    assert (read.order, read.repairs) == ((0, 1), ())
    [answer] = answers(judge, [Permute(QUESTION, PASSAGES[:2])])
    assert sorted(answer.order) == [0, 1]
    assert judge.key != FusionInDecoder(numbers).key
    assert answers(judge, [ASKED]) == answers(FusionInDecoder(numbers), [ASKED])
    with pytest.raises(InputError, match="group=1; an order takes at least 2"):
        FusionInDecoder(numbers, group=1)


def test_each_text_is_cut_for_itself_and_what_stands_around_the_document_stays(brackets: Path) -> None:
    judge = FusionInDecoder(brackets, prompt="lit5", max_tokens=40)
    documents = (Document("long", "word " * 500), PASSAGES[2], Document("longer", "another " * 900))
    prompt = judge.render(Permute(QUESTION, documents))
    said = [_tokenizer(brackets).decode(ids) for ids in prompt.segments]

    assert [len(ids) for ids in prompt.segments] == [40, len(_tokenizer(brackets)(said[1][:-4])["input_ids"]), 40]
    for index, text in enumerate(said, start=1):
        assert text.startswith(f"Search Query: {QUESTION.text} Passage: [{index}] ")
        assert text.endswith("Relevance Ranking:</s>")
    assert prompt.amounts["truncated_documents"] == 2


def test_lit5_names_the_best_first_and_is_the_plain_loop(brackets: Path) -> None:
    judge = FusionInDecoder(brackets, prompt="lit5")
    texts = [
        f"Search Query: {QUESTION.text} Passage: [{index}] {document.full_text} Relevance Ranking: "
        for index, document in enumerate(PASSAGES, start=1)
    ]  # the reference ends with a space, which T5's tokenizer drops
    asked = judge.render(ASKED)
    limit = judge._complete(5)
    [written] = judge.model.model.generate([asked.texts], max_tokens=limit).texts

    assert [list(ids) for ids in asked.segments] == [_tokenizer(brackets)(text)["input_ids"] for text in texts]
    assert written == plain_writing(brackets, texts, limit)
    read = judge.read(ASKED, "[3] > [1] > [2] > [5] > [4]")
    assert (read.order, read.repairs) == ((2, 0, 1, 4, 3), ())


def test_no_neighbour_changes_an_answer(numbers: Path, brackets: Path) -> None:
    lists = FusionInDecoder(numbers, prompt="listt5")
    reads = FusionAttention(brackets, new_tokens=6)
    for judge, kind in ((lists, Permute), (reads, GradeSet)):
        questions = [kind(QUESTION, tuple(some_documents(count, seed=count))) for count in (2, 5, 3, 4)]
        ledger = Ledger()
        together = answers(judge, questions, ledger)

        assert [answers(judge, [question])[0] for question in questions] == together
        assert answers(judge, questions[::-1]) == together[::-1]
        assert ledger.total["tokens_real"] == sum(len(judge.render(question)) for question in questions)
        assert ledger.total["tokens_generated"] > 0


def test_a_tournament_asks_sets_in_the_order_of_the_list(listed, play) -> None:
    ranking = listed(25)
    judge = Oracle({"query": {str(index): index for index in range(25)}})
    _, rounds = play(tournament(ranking, head=3), judge)
    shown = [[int(document.doc_id) for document in asked.documents] for asks in rounds for asked in asks]

    assert all(one == sorted(one) for one in shown)
    assert len({tuple(one) for one in shown}) == len(shown)


def test_a_reranker_over_a_whole_list(numbers: Path) -> None:
    documents = some_documents(12, seed=3)
    reranker = Reranker(judge=FusionInDecoder(numbers, group=5), algorithm="tournament")
    ranking = reranker.rank(QUESTION, documents)

    assert {candidate.document for candidate in ranking} == set(documents)
    assert reranker.ledger.total["repairs"] > 0  # random weights name some twice
    assert reranker.ledger.total["flops_estimated"] > 0


# -- LiT5-Score --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiny", "real"])
def test_lit5_score_is_the_attention_that_transformers_computes(kind: str, brackets: Path, flan: Path) -> None:
    folder = brackets if kind == "tiny" else flan
    judge = FusionAttention(folder, new_tokens=9)
    front = f"question: {QUESTION.text}"
    texts = [f"{front} context: {document.full_text}" for document in PASSAGES]
    [answer] = answers(judge, [GradeSet(QUESTION, PASSAGES)])

    assert isinstance(answer, GradedSet)
    expected = plain_reading(folder, texts, front, 9)
    assert answer.scores == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert len({round(score, 7) for score in expected}) == 5


def test_lit5_score_answers_whole_lists_and_its_options_count(brackets: Path) -> None:
    judge = FusionAttention(brackets)

    assert judge.key != FusionAttention(brackets, new_tokens=1).key
    with pytest.raises(InputError, match="new_tokens=0; an answer needs at least 1"):
        FusionAttention(brackets, new_tokens=0)
    ranking = Reranker(judge=judge, algorithm=group_scores).rank(QUESTION, list(PASSAGES))
    assert [candidate.score for candidate in ranking] == sorted((c.score for c in ranking), reverse=True)


# -- Fusion-in-T5 ------------------------------------------------------------------------------------------------------

PRIORS = (1.0, 0.617, 0.25, 0.009, 0.0)


def fit5_texts(documents: tuple[Document, ...], shown: tuple[float, ...]) -> list[str]:
    return [
        f"[CLS] Query: {QUESTION.text} Title: {document.title} score: {int(100 * prior)} "
        f"Passage: {document.text} Relevant: "
        for document, prior in zip(documents, shown, strict=True)
    ]


def test_fusion_in_t5_is_the_published_forward(fit5: Path) -> None:
    judge = FusionInT5(fit5)
    question = GradeSet(QUESTION, PASSAGES, priors=PRIORS)
    texts = fit5_texts(PASSAGES, PRIORS)
    prompt = judge.render(question)

    assert [list(ids) for ids in prompt.segments] == [_tokenizer(fit5)(text)["input_ids"] for text in texts]
    assert prompt.segments[0][0] == 32_100  # [CLS]
    [answer] = answers(judge, [question])
    assert answer.scores == pytest.approx(plain_fit5(fit5, texts), abs=1e-4)
    alone = [
        answers(judge, [GradeSet(QUESTION, (one,), priors=(p,))])[0] for one, p in zip(PASSAGES, PRIORS, strict=True)
    ]
    assert max(abs(one.scores[0] - score) for one, score in zip(alone, answer.scores, strict=True)) > 1e-2


def test_fusion_in_t5_neighbours_and_order_of_questions_change_no_bit(fit5: Path) -> None:
    judge = FusionInT5(fit5)
    questions = [
        GradeSet(QUESTION, tuple(some_documents(count, seed=count)), priors=(0.5,) * count) for count in (1, 7, 3, 40)
    ]
    together = answers(judge, questions)

    assert [answers(judge, [question])[0] for question in questions] == together
    assert answers(judge, questions[::-1]) == together[::-1]


def test_the_score_before_reaches_the_judge_that_reads_it_and_no_other(fit5: Path, brackets: Path) -> None:
    ranking = Ranking.by_score(QUESTION, PASSAGES, [9.0, 7.0, 3.0, 2.0, -1.0])
    assert priors(ranking) == (1.0, 0.8, 0.4, 0.3, 0.0)
    assert priors(Ranking.unscored(QUESTION, PASSAGES)) is None
    assert priors(Ranking.by_score(QUESTION, PASSAGES, [2.0] * 5)) == (1.0,) * 5
    assert priors(Ranking.by_score(QUESTION, PASSAGES[:2], [1.7e308, -1.7e308])) == (1.0, 0.0)

    fusion, reads = FusionInT5(fit5), FusionAttention(brackets)
    asked = [GradeSet(QUESTION, PASSAGES, priors=one) for one in (PRIORS, PRIORS[::-1])]
    assert len({content_key(fusion, question) for question in asked}) == 2
    assert len({content_key(reads, question) for question in asked}) == 1

    reranker = Reranker(judge=fusion, algorithm="group-scores")
    [reranked] = reranker.rerank([ranking])
    [expected] = answers(fusion, [GradeSet(QUESTION, PASSAGES, priors=(1.0, 0.8, 0.4, 0.3, 0.0))])
    assert {candidate.document.doc_id: candidate.score for candidate in reranked} == dict(
        zip("abcde", expected.scores, strict=True)
    )
    with pytest.raises(Exception, match="shows how the stage before scored each document, and it scored none"):
        reranker.rank(QUESTION, list(PASSAGES))


def test_an_incomplete_or_misshapen_folder_is_told_in_one_line(fit5: Path, tmp_path: Path, flan: Path) -> None:
    import json
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(fit5, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {n: w for n, w in weights.items() if n != "t5.encoder.project_global.0.layer_norm.weight"},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"1 weights are missing.*'0.layer_norm.weight' among them"):
        FusionInT5(folder)
    config = json.loads((folder / "config.json").read_text()) | {"num_global_layers": 9}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"'num_global_layers' is 9; it must be from 1 to 3"):
        FusionInT5(folder)
    with pytest.raises(CheckpointError, match="is of kind encoder-decoder and no Fusion-in-T5"):
        FusionInT5(flan)


# -- what does not go together -----------------------------------------------------------------------------------------


def test_fused_prompts_are_for_fusing_judges_over_a_t5(numbers: Path, smollm: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'rankzephyr' makes one text of all documents, which FusionInDecoder"):
        FusionInDecoder(numbers, prompt="rankzephyr")
    with pytest.raises(InputError, match="'lit5' makes a text of each document, which Permutation does not ask"):
        Permutation(numbers, prompt="lit5")
    with pytest.raises(CheckpointError, match=r"which one decoder reads together; .* is of kind causal: use a T5"):
        FusionInDecoder(tiny_lm(tmp_path / "lm", smollm), prompt="lit5")


def test_prompts_choose_their_judges() -> None:
    chosen = {name: judge_for(prompts.find(name)) for name in ("listt5", "lit5", "lit5-score", "fit5", "rankgpt")}

    assert chosen == {
        "listt5": "fusion-in-decoder",
        "lit5": "fusion-in-decoder",
        "lit5-score": "fusion-attention",
        "fit5": "fusion-in-t5",
        "rankgpt": "permutation",
    }


def test_a_query_that_leaves_no_room_is_refused_before_any_work(numbers: Path) -> None:
    judge = FusionInDecoder(numbers, max_tokens=20)

    with pytest.raises(InputError, match=r"query 'long'.*leaves no room"):
        judge.check_queries([Query("long", "word " * 100)])
