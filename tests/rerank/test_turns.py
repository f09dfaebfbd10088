"""Nobody is held up by a client with many plans, a plan with many questions or one of many rounds."""

from __future__ import annotations

import threading
from collections import Counter

from rerank.algorithms.pointwise import pointwise
from rerank.algorithms.windows import sliding_windows
from rerank.engine.scheduler import Scheduler
from rerank.engine.scheduling.retries import Retry
from rerank.errors import Transient
from rerank.judges.fake import Oracle
from rerank.questions import Announce, Compare, Grade, Graded, Permute
from rerank.types import Ranking


class Calls:
    """An oracle that keeps the questions of every call; the first call waits until it may go on."""

    def __init__(self, *kinds, wait=False):
        self.oracle = Oracle({})
        self.go_on = threading.Event()
        if not wait:
            self.go_on.set()
        self.key, self.reads_ids = self.oracle.key, True
        self.answers = frozenset(kinds) or self.oracle.answers
        self.calls: list[list] = []

    def answer(self, questions, bill):
        self.calls.append(list(questions))
        assert self.go_on.wait(10)
        yield from self.oracle.answer(questions, bill)

    def calls_with(self, query_id: str) -> list[int]:
        return [
            number for number, call in enumerate(self.calls) if any(asked.query.query_id == query_id for asked in call)
        ]


def in_rounds(ranking: Ranking, rounds: int):
    """A plan that compares the same two documents again and again, one question a round."""
    first, second = ranking.documents[:2]
    for draw in range(rounds):
        yield [Compare(ranking.query, first, second, draw=draw)]
    return ranking


def test_the_next_round_of_a_plan_joins_the_next_call_however_much_another_one_asks(listed):
    judge = Calls(wait=True)

    with Scheduler(judge, at_once=100) as scheduler:
        long = scheduler.submit(pointwise(listed(2_000, "long")))
        rounds = scheduler.submit(in_rounds(listed(2, "rounds"), 12))
        judge.go_on.set()

    assert len(long.result()) == 2_000
    assert rounds.done()
    begun = judge.calls_with("rounds")[0]  # 1, or 0 when both plans were submitted before the worker looked
    assert begun <= 1
    assert judge.calls_with("rounds") == list(range(begun, begun + 12))
    assert len(judge.calls) == 21  # 2,012 questions: no call had room left but the last


def test_plans_of_many_rounds_share_their_calls(listed):
    judge = Calls(wait=True)

    with Scheduler(judge, at_once=100) as scheduler:
        scheduler.submit(pointwise(listed(1, "first")))
        plans = [scheduler.submit(in_rounds(listed(2, f"q{number}"), 9)) for number in range(30)]
        judge.go_on.set()
        for plan in plans:
            plan.result(timeout=5)

    assert len(judge.calls) <= 1 + 9
    assert [len(call) for call in judge.calls[1:-1]] == [30] * (len(judge.calls) - 2)


def test_the_questions_of_a_round_stay_together(listed):
    """So that a judge can share what they have in common."""
    judge = Calls(wait=True)

    with Scheduler(judge, at_once=60) as scheduler:
        plans = [scheduler.submit(pointwise(listed(15, f"q{number}"))) for number in range(9)]
        judge.go_on.set()
        for plan in plans:
            plan.result(timeout=5)

    for call in judge.calls:
        queries = [question.query.query_id for question in call]
        assert queries == sorted(queries)
    assert all(len(judge.calls_with(f"q{number}")) == 1 for number in range(9))


def test_no_more_plans_are_at_work_than_a_call_can_take(listed):
    begun, most = set(), 0

    def plan(number):
        nonlocal most
        begun.add(number)
        most = max(most, len(begun))
        yield [Grade(listed(1, f"q{number}").query, listed(1).documents[0])]
        begun.remove(number)
        return listed(1, f"q{number}")

    judge = Calls(wait=True)  # so that plans pile up, however quick the worker is beside whoever submits them
    with Scheduler(judge, at_once=10) as scheduler:
        plans = [scheduler.submit(plan(number)) for number in range(200)]
        judge.go_on.set()
        for submitted in plans:
            submitted.result(timeout=30)

    assert 10 <= most <= 20


def test_plans_that_wait_begin_when_those_before_them_are_given_up(listed):
    class Refusing(Calls):
        def answer(self, questions, bill):
            self.calls.append(list(questions))
            for index, question in enumerate(questions):
                yield index, ValueError("no") if question.query.query_id == "bad" else Graded(1.0)

    with Scheduler(Refusing(), at_once=2) as scheduler:
        bad = [scheduler.submit(pointwise(listed(50, "bad"))) for _ in range(3)]
        good = scheduler.submit(pointwise(listed(3, "good")))

        assert len(good.result(timeout=5)) == 3
    assert all(future.exception() for future in bad)


def test_what_a_model_in_this_process_cannot_answer_now_is_asked_again_with_what_comes_next(listed):
    class Busy(Calls):
        def answer(self, questions, bill):
            self.calls.append(list(questions))
            if len(self.calls) == 1:
                raise Transient("warming up", retry_after=0.01)
            for index, question in enumerate(questions):
                first = sum(question in call for call in self.calls) == 2
                yield index, Transient("not yet") if first else Graded(1.0)

    judge = Busy()
    with Scheduler(judge, retry=Retry(first=0)) as scheduler:
        [ranking] = scheduler.run([pointwise(listed(4))])

    assert len(ranking) == 4
    assert [len(call) for call in judge.calls[:2]] == [4, 4]
    assert Counter(question for call in judge.calls for question in call).most_common()[-1][1] == 3
    assert scheduler.ledger.total["retries"] == 8


# -- announcements ---------------------------------------------------------------------------------------------------


def test_a_judge_that_wants_to_know_sees_how_windows_will_begin_before_the_first_one(listed):
    judge = Calls(Permute, Announce)

    with Scheduler(judge) as scheduler:
        scheduler.run([sliding_windows(listed(100))])

    first, *later = judge.calls
    assert [type(question) for question in first] == [Announce] * 8 + [Permute]
    for announced, start in zip(first, range(70, -1, -10), strict=False):
        assert announced.documents == listed(100).documents[start : start + 10]
    assert [[type(question) for question in call] for call in later] == [[Permute]] * 8
    for announced, [question] in zip(first, later, strict=False):
        assert question.documents[:10] == announced.documents
    assert scheduler.ledger.total == {"questions": 9, "rounds": 9, "calls": 9}


def test_a_judge_that_does_not_want_to_know_is_not_told_and_says_the_same(listed):
    rankings = [listed(count, f"q{count}") for count in (0, 1, 5, 20, 21, 55)]
    told, untold = Calls(Permute, Announce), Calls(Permute)

    with Scheduler(told) as one, Scheduler(untold) as other:
        assert one.run([sliding_windows(ranking) for ranking in rankings]) == other.run(
            [sliding_windows(ranking) for ranking in rankings]
        )

    assert {type(question) for call in untold.calls for question in call} == {Permute}
    assert one.ledger.total == other.ledger.total
    assert one.ledger.queries == other.ledger.queries


def test_a_short_last_window_is_announced_as_far_as_it_is_known(listed):
    judge = Calls(Permute, Announce)

    with Scheduler(judge) as scheduler:
        scheduler.run([sliding_windows(listed(25, "short")), sliding_windows(listed(20, "one"))])

    announced = [question for call in judge.calls for question in call if isinstance(question, Announce)]
    assert [question.documents for question in announced] == [listed(25, "short").documents[:5]]


def test_an_announcement_delays_nothing_whatever_becomes_of_it(listed):
    class Deaf(Calls):
        def answer(self, questions, bill):
            self.calls.append(list(questions))
            for index, question in enumerate(questions):
                if isinstance(question, Announce):
                    if index % 3 == 0:
                        yield index, RuntimeError("no room")
                    if index % 3 == 1:
                        yield index, Transient("later")
                else:
                    yield from ((index, answer) for _, answer in self.oracle.answer([question], bill))

    def only_announces(ranking):
        yield [Announce(ranking.query, ranking.documents)]
        yield []
        answers = yield [Announce(ranking.query, ranking.documents[:1]), Grade(ranking.query, ranking.documents[0])]
        assert [type(answer).__name__ for answer in answers] == ["Heard", "Graded"]
        return ranking

    with Scheduler(Deaf()) as scheduler:
        scheduler.run([sliding_windows(listed(100)), only_announces(listed(3, "other"))])

    assert scheduler.ledger.queries["query"]["rounds"] == 9
    assert scheduler.ledger.queries["other"] == {"questions": 1, "rounds": 1, "calls": 1}


def test_a_judge_that_breaks_down_over_announcements_still_answers_the_questions(listed):
    class Fragile(Calls):
        def answer(self, questions, bill):
            if any(isinstance(question, Announce) for question in questions):
                raise RuntimeError("out of room")
            yield from super().answer(questions, bill)

    with Scheduler(Fragile()) as scheduler:
        [ranking] = scheduler.run([sliding_windows(listed(30))])

    assert len(ranking) == 30
    assert scheduler.ledger.notes["judge breakdowns"].startswith("1,")


def test_the_announcements_of_a_plan_that_is_over_are_not_passed_on(listed):
    def failing(ranking):
        yield [Announce(ranking.query, ranking.documents)]
        raise ValueError("changed my mind")

    judge = Calls()
    with Scheduler(judge) as scheduler:
        assert scheduler.submit(failing(listed(3))).exception(timeout=5)
        scheduler.run([pointwise(listed(2))])

    assert not [question for call in judge.calls for question in call if isinstance(question, Announce)]
