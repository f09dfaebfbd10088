"""How a kind of question is asked of a server, and how its reply is read: by log-probabilities, or as it is written."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from rerank.errors import InputError
from rerank.judges.hosting.replies import Reply
from rerank.judges.hosting.told_words import behind, behind_text, word_scores
from rerank.judges.readings import (
    by_choice,
    by_targets,
    check_written_pick,
    log_shares,
    wanted,
    written_grade,
    written_list,
    written_pick,
)
from rerank.judges.target_words import spaces
from rerank.prompts import Prompt
from rerank.prompts.prompt import identifiers
from rerank.prompts.reading import read_winner, read_word
from rerank.prompts.speech import said
from rerank.questions import (
    Answer,
    Compare,
    Compared,
    Grade,
    Graded,
    GradeSet,
    Permute,
    Permuted,
    Pick,
    Picked,
    Question,
    Write,
)
from rerank.questions import Written as WrittenText

__all__ = ["Labels", "Query", "Reading", "Targets", "Verdict", "Way", "Written"]

GRADES = ("0", "1", "2", "3", "4")
"""Of a verdict."""

DIGITS = 9
"""Documents that numbers of one token tell apart."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer; and how many words a server told nothing of that it would have been read from."""

    answer: Answer
    outside: int = 0


class Way(ABC):
    """One way of asking, for one prompt.

    Args:
        prompt: the prompt.
        new_tokens: the most tokens to write; None: as many as the answer needs.
    """

    mode: ClassVar[str]
    reads_numbers: ClassVar[bool] = True
    echo: ClassVar[bool] = False
    """Whether the prompt is to be read back, with the log-probabilities of its tokens."""
    no_numbers: ClassVar[str] = (
        "the server tells no log-probabilities, which mode='likelihood' reads; ask another one, or mode='generation'"
    )
    """What is said of a server that does not tell what would be read."""

    def __init__(self, prompt: Prompt, new_tokens: int | None = None) -> None:
        self.prompt, self.new_tokens = prompt, new_tokens

    def check(self, question: Question) -> None:
        """Refuse what cannot be asked in this way."""
        return

    def most(self, question: Question) -> int:
        """Tokens that may be written."""
        return self.new_tokens or self.usual(question)

    @abstractmethod
    def usual(self, question: Question) -> int:
        """Tokens that an answer needs."""

    @abstractmethod
    def read(self, question: Question, reply: Reply, begun: str) -> Reading:
        """The answer.

        Args:
            question: that was asked.
            reply: what came back.
            begun: how the answer begins, where the model has to write that itself; with an echo what stood behind the
                prompt.
        """

    def is_told(self, reply: Reply) -> bool:
        """Whether the server tells what is read."""
        return reply.steps is not None or not self.reads_numbers

    def behind(self, question: Question, text: str) -> str:
        """What stands behind the prompt, whose text is given."""
        return ""

    def labels(self, question: Question) -> list[str]:
        """What the documents of a question are called."""
        return identifiers(self.prompt.identifiers, len(question.documents))


class Words(Way):
    """By the log-probabilities of a few words where the answer stands."""

    mode = "likelihood"

    @abstractmethod
    def words(self, question: Question) -> Sequence[str]:
        """That may be the answer."""

    @abstractmethod
    def answer(self, question: Question, scores: Sequence[float], repairs: Sequence[str]) -> Answer:
        """By the scores of the words."""

    def usual(self, question: Question) -> int:
        """One word behind a thought, or behind the answer's beginning where the model has to write it."""
        return self.prompt.new_tokens or (8 if self.prompt.answer else 1)

    def read(self, question: Question, reply: Reply, begun: str) -> Reading:
        """Where no word was told there is nothing to compare: no winner, the order shown, a grade of even shares."""
        assert reply.steps is not None  # or `is_told` had said so
        words = self.words(question)
        scores, outside = word_scores(reply.steps, words, begun, thinks=self.prompt.opens_thought)
        if outside == len(words) and not isinstance(question, Grade):
            return Reading(_nothing(question, scores), outside)
        repairs = [f"{outside} of {len(words)} words were not among the likeliest tokens"] if outside else []
        if repairs and reply.cut and self.prompt.new_tokens is not None:
            repairs.append(f"cut off at {self.most(question)} tokens")
        return Reading(self.answer(question, scores, repairs), outside)


class Targets(Words):
    """A grade or a comparison by the prompt's target words.

    Args:
        prompt, new_tokens: as of `Way`.
        targets: words, the better first.
        grades: what each is worth, where there are more than two.
    """

    def __init__(self, prompt: Prompt, new_tokens: int | None, targets: Sequence[str], grades: Sequence[float]) -> None:
        super().__init__(prompt, new_tokens)
        self.targets, self.grades = targets, grades

    def words(self, question: Question) -> Sequence[str]:
        """The same for every question."""
        return self.targets

    def answer(self, question: Question, scores: Sequence[float], repairs: Sequence[str]) -> Answer:
        """As a model in this process would be read."""
        return by_targets(question, scores, self.grades, repairs, self.prompt.reading)


class Verdict(Targets):
    """TFRank's grade, "yes(3)": ½ (E / 4 + P(yes)), E over the digits behind the bracket that is written.

    As its authors read it (https://arxiv.org/abs/2508.09539), off the tokens that the server tells of.
    """

    def usual(self, question: Question) -> int:
        """A verdict and its grade, and an empty thought before them."""
        return 16

    def read(self, question: Question, reply: Reply, begun: str) -> Reading:
        """Both parts; what was not told of one counts as everywhere."""
        assert reply.steps is not None  # or `is_told` had said so
        verdicts, outside = word_scores(reply.steps, self.targets, begun)
        grades, untold = word_scores(behind_text(reply.steps, "("), GRADES, "")
        missing = outside + untold
        repairs = (f"{missing} of {2 + len(GRADES)} words were not among the likeliest tokens",) if missing else ()
        expected = sum(share * grade for grade, share in enumerate(_shares(grades)))
        return Reading(Graded((expected / (len(GRADES) - 1) + _shares(verdicts)[0]) / 2, repairs), missing)


class Labels(Words):
    """A choice or an order by the labels that documents go by."""

    def check(self, question: Question) -> None:
        """Numbers of two digits begin like those of one, and cannot be told apart by one token."""
        if self.prompt.identifiers == "numbers" and len(question.documents) > DIGITS:
            raise InputError(
                f"{len(question.documents)} documents cannot be told apart by one token each when they are numbered; "
                f"show at most {DIGITS}, take a prompt with letters, or mode='generation'"
            )

    def words(self, question: Question) -> Sequence[str]:
        """One for each document."""
        return self.labels(question)

    def answer(self, question: Question, scores: Sequence[float], repairs: Sequence[str]) -> Answer:
        """As a model in this process would be read."""
        return by_choice(question, log_shares(scores), self.prompt, repairs)


class Query(Way):
    """A grade by how likely the query is behind the document.

    Args:
        prompt, new_tokens: as of `Way`.
        reduction: "mean" or "sum" over the query's tokens.
    """

    mode = "likelihood"
    echo = True
    no_numbers = (
        "the server does not read prompts back with their tokens' log-probabilities (echo), and the likelihood of a "
        "query is nothing else; ask vLLM or llama-cpp-python, or take a prompt with targets"
    )

    def __init__(self, prompt: Prompt, new_tokens: int | None, reduction: str) -> None:
        super().__init__(prompt, new_tokens)
        self.reduction = reduction

    def usual(self, question: Question) -> int:
        """One, which is not read: not every server writes nothing at all."""
        return 1

    def is_told(self, reply: Reply) -> bool:
        """Some write without reading back, and tell how likely that is."""
        written = 1 if reply.usage is None else reply.usage.written
        return reply.steps is not None and len(reply.steps) > written

    def behind(self, question: Question, text: str) -> str:
        """The query, as a text goes on with it."""
        return spaces(text)[0] + question.query.text.strip()

    def read(self, question: Question, reply: Reply, begun: str) -> Reading:
        """The query's tokens alone, which are the last of the prompt's."""
        assert reply.steps is not None  # or `is_told` had said so
        usage = reply.usage
        numbers = behind(reply.steps, begun, None if usage is None else usage.prompt)
        total = sum(numbers)
        return Reading(Graded(total / len(numbers) if self.reduction == "mean" else total))


class Written(Way):
    """As the model writes it.

    Args:
        prompt, new_tokens: as of `Way`.
        targets: the words of a grade, the better first.
        grades: what each is worth; None: 1 for the first, 0 for the others.
    """

    mode = "generation"
    reads_numbers = False

    def __init__(self, prompt: Prompt, new_tokens: int | None, targets: Sequence[str], grades: Sequence[float]) -> None:
        super().__init__(prompt, new_tokens)
        self.targets = targets
        self.grades = grades or [1.0, *[0.0] * max(0, len(targets) - 1)]

    def check(self, question: Question) -> None:
        """A choice is written as the prompt asks for it."""
        check_written_pick(question, self.prompt)

    def usual(self, question: Question) -> int:
        """A word or two; for a list its letters, which are never fewer than its tokens; for a text what it may take."""
        if self.prompt.new_tokens is not None:
            return self.prompt.new_tokens
        if isinstance(question, Permute):
            return len(self.prompt.complete_list(len(question.documents))) + 8
        return 256 if isinstance(question, Write) else 8 * getattr(question, "count", 1)

    def read(self, question: Question, reply: Reply, begun: str) -> Reading:
        """By the rules of `rerank.prompts.reading`; that it was cut off is told where that needed a repair."""
        text = f"<think>{reply.text}" if self.prompt.opens_thought else reply.text
        answer = READERS[type(question)](self, question, text)
        if reply.cut and answer.repairs:
            answer = replace(answer, repairs=(*answer.repairs, f"cut off at {self.most(question)} tokens"))
        return Reading(answer)

    def _grade(self, question: Question, text: str) -> Answer:
        if self.prompt.scale:
            return written_grade(question, text, self.prompt)
        index, repairs = read_word(text, self.targets)
        return Graded(min(self.grades) if index is None else self.grades[index], repairs)


Reader: TypeAlias = Callable[[Written, Question, str], Answer]

READERS: Mapping[type, Reader] = {
    Grade: Written._grade,
    GradeSet: Written._grade,
    Compare: lambda way, question, text: Compared(*read_winner(text)),
    Pick: lambda way, question, text: written_pick(
        text, way.labels(question), wanted(question), exact=way.prompt.exact
    ),
    Permute: lambda way, question, text: written_list(text, way.labels(question)),
    Write: lambda way, question, text: WrittenText(said(text)),
}


def _shares(log_probs: Sequence[float]) -> list[float]:
    """Probabilities over these words alone."""
    weights = [math.exp(number - max(log_probs)) for number in log_probs]
    return [weight / sum(weights) for weight in weights]


def _nothing(question: Question, scores: Sequence[float]) -> Answer:
    """What is left when the server told of none of the words: no winner, or the order shown."""
    repairs = ("none of the words was among the likeliest tokens",)
    if isinstance(question, Compare):
        return Compared(None, repairs)
    if isinstance(question, Pick):
        return Picked(tuple(range(question.count)), repairs=repairs)
    return Permuted(tuple((index,) for index in range(len(scores))), repairs=repairs)
