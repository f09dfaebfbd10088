"""The scheduler under an oracle: every plan ends right, whatever else goes on."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future

import pytest

from rerank.algorithms.pointwise import pointwise
from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.scheduler import Scheduler
from rerank.errors import DeadlineExceeded, FileError, InputError, JudgeError
from rerank.judges.fake import Oracle
from rerank.questions import Compare, Compared, Grade, Graded, Permute
from rerank.types import Document, Query, Ranking


def ranking_of(query_id: str, count: int = 10) -> Ranking:
    documents = [Document(f"{query_id}-{index}", f"text {index} for {query_id}") for index in range(count)]
    return Ranking.unscored(Query(query_id, f"query {query_id}"), documents)


def qrels_of(ranking: Ranking) -> dict[str, dict[str, int]]:
    return {ranking.query.query_id: {document.doc_id: index for index, document in enumerate(ranking.documents)}}


def bubble(ranking: Ranking):
    """A plan of many rounds: one pass of comparisons from the tail to the head for every position."""
    order = list(ranking.documents)
    for head in range(len(order) - 1):
        for index in range(len(order) - 1, head, -1):
            [answer] = yield [Compare(ranking.query, order[index], order[index - 1])]
            if answer.probability > 0.5:
                order[index], order[index - 1] = order[index - 1], order[index]
    return Ranking.by_order(ranking, order)


class Recorder:
    """A judge that records what it was asked, and may be slow or fail."""

    def __init__(self, judge, *, fails_on=(), raises_on=(), pause=0.0):
        self.judge, self.fails_on, self.raises_on, self.pause = judge, set(fails_on), set(raises_on), pause
        self.key, self.answers, self.reads_ids = judge.key, judge.answers, judge.reads_ids
        self.asked: list = []
        self.calls: list[int] = []

    def answer(self, questions, bill):
        self.calls.append(len(questions))
        for index, question in enumerate(questions):
            time.sleep(self.pause)
            ids = {document.doc_id for document in question.documents}
            if ids & self.raises_on:
                raise RuntimeError("the model broke down")
            self.asked.append(question)
            if ids & self.fails_on:
                yield index, ValueError("cannot read this one")
            else:
                [(_, answer)] = self.judge.answer([question], bill)
                yield index, answer


def best_first(ranking: Ranking) -> list[str]:
    return [document.doc_id for document in ranking.documents]


def expected_order(ranking: Ranking) -> list[str]:
    return [document.doc_id for document in reversed(ranking.documents)]


def test_two_hundred_plans_from_several_threads_with_cancellations_and_an_error_all_end_right():
    rankings = [ranking_of(f"q{number}", count=8) for number in range(200)]
    qrels = {key: value for ranking in rankings for key, value in qrels_of(ranking).items()}
    judge = Recorder(Oracle(qrels), fails_on={"q77-3"}, pause=0.0002)
    futures: dict[int, Future] = {}
    half = random.Random(5).sample([number for number in range(200) if number != 77], 100)

    with Scheduler(judge, at_once=16) as scheduler:

        def submit(numbers):
            for number in numbers:
                plan = bubble(rankings[number]) if number % 2 else pointwise(rankings[number])
                futures[number] = scheduler.submit(plan, client=f"client {number % 5}")
                if number in half:
                    futures[number].cancel()
                time.sleep(0.0005)

        threads = [threading.Thread(target=submit, args=(range(start, 200, 4),)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for number, future in futures.items():
        if number == 77:
            with pytest.raises(JudgeError, match=r"q77-3.*cannot read this one"):
                future.result()
        elif future.cancelled():
            assert number in half
        else:
            assert best_first(future.result()) == expected_order(rankings[number])
    assert sum(future.cancelled() for future in futures.values()) > 50


def test_plans_cancelled_while_they_run_stop_being_asked():
    rankings = [ranking_of(f"q{number}", count=30) for number in range(6)]
    qrels = {key: value for ranking in rankings for key, value in qrels_of(ranking).items()}
    judge = Recorder(Oracle(qrels), pause=0.001)

    with Scheduler(judge, at_once=6) as scheduler:
        futures = [scheduler.submit(bubble(ranking)) for ranking in rankings]
        time.sleep(0.05)
        for future in futures[3:]:
            assert future.cancel()
        survivors = [future.result() for future in futures[:3]]

    assert [best_first(ranking) for ranking in survivors] == [expected_order(ranking) for ranking in rankings[:3]]
    asked = Counter(question.query.query_id for question in judge.asked)
    assert max(asked[f"q{number}"] for number in (3, 4, 5)) < min(asked[f"q{number}"] for number in (0, 1, 2))


def test_a_judge_that_breaks_down_fails_only_the_question_that_breaks_it():
    rankings = [ranking_of(f"q{number}") for number in range(5)]
    qrels = {key: value for ranking in rankings for key, value in qrels_of(ranking).items()}
    judge = Recorder(Oracle(qrels), raises_on={"q2-4"})

    with Scheduler(judge) as scheduler:
        futures = [scheduler.submit(pointwise(ranking)) for ranking in rankings]

    with pytest.raises(JudgeError, match=r"Grade of query 'q2' and 'q2-4': RuntimeError: the model broke down"):
        futures[2].result()
    for number in (0, 1, 3, 4):
        assert best_first(futures[number].result()) == expected_order(rankings[number])
    assert scheduler.ledger.notes["judge breakdowns"].startswith("1,")


def test_run_finishes_the_other_plans_before_it_raises():
    rankings = [ranking_of(f"q{number}") for number in range(3)]
    judge = Recorder(Oracle({}), fails_on={"q0-0"})

    with Scheduler(judge) as scheduler, pytest.raises(JudgeError, match="1 of 3 queries failed"):
        scheduler.run([pointwise(ranking) for ranking in rankings])

    asked = Counter(question.query.query_id for question in judge.asked)
    assert (asked["q1"], asked["q2"]) == (10, 10)


def test_a_repeated_question_is_asked_once_and_counted():
    ranking = ranking_of("q")
    judge = Recorder(Oracle(qrels_of(ranking)))

    with Scheduler(judge) as scheduler:
        first = scheduler.run([pointwise(ranking), pointwise(ranking)])
        second = scheduler.run([pointwise(ranking)])

    assert len(judge.asked) == 10
    assert first[0] == first[1] == second[0]
    assert scheduler.ledger.total == {"questions": 30, "memory_hits": 20, "rounds": 3, "calls": 10}


def test_another_draw_or_another_order_is_another_question():
    ranking = ranking_of("q", count=2)
    one, two = ranking.documents
    asked = [
        Compare(ranking.query, one, two),
        Compare(ranking.query, two, one),
        Compare(ranking.query, one, two, draw=1),
        Grade(ranking.query, one),
    ]

    def plan():
        yield asked
        return ranking

    judge = Recorder(Oracle(qrels_of(ranking)))
    with Scheduler(judge) as scheduler:
        scheduler.run([plan()])

    assert judge.asked == asked


def test_equal_texts_share_an_answer_unless_the_judge_reads_ids():
    class ByLength:
        key, answers, reads_ids = "length", frozenset({Grade}), False

        def answer(self, questions, bill):
            for index, question in enumerate(questions):
                bill.charge(question.query.query_id, calls=1)
                yield index, Graded(float(len(question.document.text)))

    twins = Ranking.unscored(Query("q", "?"), [Document("a", "same"), Document("b", "same"), Document("c", "longer")])

    with Scheduler(ByLength()) as scheduler:
        [ranking] = scheduler.run([pointwise(twins)])

    assert best_first(ranking) == ["c", "a", "b"]
    assert scheduler.ledger.total["calls"] == 2


def test_clients_take_turns():
    busy, light = [ranking_of(f"busy{number}", 50) for number in range(4)], ranking_of("light", 5)
    judge = Recorder(Oracle({}), pause=0.001)

    with Scheduler(judge, at_once=10) as scheduler:
        waiting = [scheduler.submit(pointwise(ranking), client="busy") for ranking in busy]
        time.sleep(0.005)
        scheduler.submit(pointwise(light), client="light").result()
        unfinished = sum(not future.done() for future in waiting)

    assert unfinished >= 3
    assert max(judge.calls) <= 10


def test_a_deadline_fails_its_own_plan_only():
    slow, quick = ranking_of("slow", 60), ranking_of("quick", 3)
    judge = Recorder(Oracle({}), pause=0.002)

    with Scheduler(judge, at_once=4) as scheduler:
        late = scheduler.submit(pointwise(slow), deadline=0.03)
        fine = scheduler.submit(pointwise(quick), client="other")

    with pytest.raises(DeadlineExceeded, match="'slow'"):
        late.result()
    assert len(fine.result()) == 3
    assert len(judge.asked) < 63


def test_a_kind_of_question_that_the_judge_cannot_answer_is_a_clear_error():
    ranking = ranking_of("q")

    class OnlyGrades:
        key, answers, reads_ids = "grades", frozenset({Grade}), False

        def answer(self, questions, bill):
            return iter(())

    def plan():
        yield [Permute(ranking.query, ranking.documents)]
        return ranking

    with Scheduler(OnlyGrades()) as scheduler, pytest.raises(InputError, match="OnlyGrades answers Grade, not Permute"):
        scheduler.run([plan()])


def test_a_judge_that_gives_no_answer_or_a_plan_that_returns_nothing_fails_at_once():
    ranking = ranking_of("q", 1)

    class Silent:
        key, answers, reads_ids = "silent", frozenset({Grade}), False

        def answer(self, questions, bill):
            return iter(())

    def nothing():
        yield []

    with Scheduler(Silent()) as scheduler:
        with pytest.raises(JudgeError, match="gave no answer"):
            scheduler.run([pointwise(ranking)])
        with pytest.raises(TypeError, match="must return a Ranking"):
            scheduler.run([nothing()])


def test_closing_with_cancel_stops_soon_and_refuses_new_plans():
    judge = Recorder(Oracle({}), pause=0.001)
    scheduler = Scheduler(judge)
    future = scheduler.submit(pointwise(ranking_of("q", 400)))
    time.sleep(0.02)

    started = time.monotonic()
    scheduler.close(cancel=True)

    assert time.monotonic() - started < 0.2
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(InputError, match="closed"):
        scheduler.submit(pointwise(ranking_of("r")))


def test_the_journal_answers_after_a_restart_and_only_what_is_missing_is_asked(tmp_path):
    ranking = ranking_of("q", 12)
    path = tmp_path / "answers.jsonl"
    journal = Journal(path)
    with Scheduler(Oracle(qrels_of(ranking)), journal=journal) as scheduler:
        [whole] = scheduler.run([pointwise(ranking)])
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]) + lines[6][:20])  # five answers, and a torn sixth

    journal = Journal(path)
    judge = Recorder(Oracle(qrels_of(ranking)))
    with Scheduler(judge, journal=journal) as scheduler:
        [resumed] = scheduler.run([pointwise(ranking)])
    journal.close()

    assert (journal.recovered, journal.torn, len(judge.asked)) == (5, 1, 7)
    assert resumed == whole
    assert scheduler.ledger.total["journal_hits"] == 5
    assert sorted(path.read_bytes().splitlines()) == sorted(line.rstrip() for line in lines)


def test_a_journal_of_another_judge_is_of_no_use(tmp_path):
    ranking = ranking_of("q", 4)
    journal = Journal(tmp_path / "answers.jsonl")
    with Scheduler(Oracle(qrels_of(ranking)), journal=journal) as scheduler:
        scheduler.run([pointwise(ranking)])

    other = Recorder(Oracle(qrels_of(ranking), noise=1.0))
    with Scheduler(other, journal=journal) as scheduler:
        scheduler.run([pointwise(ranking)])
    journal.close()

    assert len(other.asked) == 4


def test_every_kind_of_answer_survives_the_journal(tmp_path):
    from rerank.questions import GradedSet, Heard, Permuted, Picked, Written

    kept = [
        Graded(0.1 + 0.2),
        GradedSet((1.5, -2e-45)),
        Compared(None, ("unreadable: 'neither'",)),
        Compared(0.25),
        Picked((2, 0), (0.1, 0.2, 0.3)),
        Picked((1,)),
        Permuted(((1, 2), (0,)), None, ("1 number repeated",)),
        Written('say "hello"\nänd more \ud800'),
        Heard(),
    ]
    journal = Journal(tmp_path / "j")
    for number, answer in enumerate(kept):
        journal.append(str(number), answer)
    journal.close()

    again = Journal(tmp_path / "j")

    assert [again.get(str(number)) for number in range(len(kept))] == kept
    again.close()


def test_a_journal_that_is_in_use_damaged_or_none_at_all_is_refused_in_one_line(tmp_path):
    journal = Journal(tmp_path / "j")
    with pytest.raises(FileError, match="in use by another process"):
        Journal(tmp_path / "j")
    journal.append("k", Graded(1.0))
    journal.close()
    text = (tmp_path / "j").read_text()
    (tmp_path / "damaged").write_text(text.replace('"Graded"', "Grad"))
    (tmp_path / "notes.txt").write_text("my notes\n")
    (tmp_path / "short.txt").write_text("my notes")

    with pytest.raises(FileError, match="damaged at line 2"):
        Journal(tmp_path / "damaged")
    for name in ("notes.txt", "short.txt"):
        with pytest.raises(FileError, match="no journal"):
            Journal(tmp_path / name)
        assert (tmp_path / name).read_text().startswith("my notes")
    with pytest.raises(FileError, match="cannot open"):
        Journal(tmp_path / "no" / "folder")


def test_a_journal_that_cannot_be_written_fails_the_run_and_keeps_what_it_has(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j")
    written = 0
    append = Journal.append

    def full(self, key, answer, cost):
        nonlocal written
        written += 1
        if written > 3:
            raise FileError("cannot write the journal: No space left on device")
        append(self, key, answer, cost)

    monkeypatch.setattr(Journal, "append", full)
    with Scheduler(Oracle({}), journal=journal) as scheduler, pytest.raises(FileError, match="No space left"):
        scheduler.run([pointwise(ranking_of("q")), pointwise(ranking_of("r"))])
    journal.close()

    assert Journal(tmp_path / "j").recovered == 3


def test_progress_counts_what_is_asked_not_what_is_remembered():
    seen: list[tuple[int, int]] = []
    ranking = ranking_of("q", 5)

    def progress(answered, asked):
        seen.append((answered, asked))

    with Scheduler(Oracle({})) as scheduler:
        scheduler.run([pointwise(ranking), pointwise(ranking)], on_answer=progress)
        scheduler.run([pointwise(ranking), pointwise(ranking_of("r", 3))], on_answer=progress)

    assert seen[4] == (5, 5)
    assert seen[5][0] == 1
    assert seen[-1] == (3, 3)


def test_rounds_are_charged_per_query():
    rankings = [ranking_of("a", 4), ranking_of("b", 5)]
    ledger = Ledger()

    with Scheduler(Oracle({}), ledger=ledger, memory=0) as scheduler:
        scheduler.run([bubble(ranking) for ranking in rankings])

    assert ledger.queries["a"]["rounds"] == 6
    assert ledger.queries["b"]["rounds"] == 10
    assert ledger.total["rounds"] == 16


@pytest.mark.parametrize(("noise", "perfect"), [(0.0, True), (3.0, False)])
def test_the_oracle_is_as_good_as_its_noise(noise, perfect):
    ranking = ranking_of("q", 20)
    judge = Oracle(qrels_of(ranking), noise=noise, seed=1)

    with Scheduler(judge) as scheduler:
        [once] = scheduler.run([pointwise(ranking)])
    with Scheduler(Oracle(qrels_of(ranking), noise=noise, seed=1)) as scheduler:
        [again] = scheduler.run([pointwise(ranking)])
    with Scheduler(Oracle(qrels_of(ranking), noise=noise, seed=2)) as scheduler:
        [other] = scheduler.run([pointwise(ranking)])

    assert once == again
    assert (best_first(once) == expected_order(ranking)) is perfect
    assert (once == other) is perfect


class Giving:
    """A judge that gives whatever it is told to."""

    key, answers, reads_ids = "giving", frozenset({Grade}), True

    def __init__(self, give, pause=0.0):
        self.give, self.pause = give, pause

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            time.sleep(self.pause)
            yield index, self.give(question)


@pytest.mark.parametrize("given", [0.5, None, "yes", Compared(0.5), Graded(float("nan"))])
def test_what_is_no_answer_to_the_question_fails_that_question_alone(given):
    judge = Giving(lambda question: given if question.document.doc_id == "bad-0" else Graded(1.0))

    with Scheduler(judge) as scheduler:
        bad = scheduler.submit(pointwise(ranking_of("bad", 2)))
        good = scheduler.submit(pointwise(ranking_of("good", 2)))

        assert len(good.result(timeout=5)) == 2
        with pytest.raises(JudgeError, match="'bad-0': the judge gave"):
            bad.result(timeout=5)


def test_numbers_of_other_libraries_become_floats(tmp_path):
    import numpy as np

    journal = Journal(tmp_path / "j")
    with Scheduler(Giving(lambda question: Graded(np.float32(0.5))), journal=journal) as scheduler:
        [ranking] = scheduler.run([pointwise(ranking_of("q", 2))])
    journal.close()

    assert type(ranking[0].score) is float
    assert Journal(tmp_path / "j").recovered == 2


@pytest.mark.parametrize("plan", [ranking_of("q"), iter([1]), None])
def test_what_is_no_plan_is_refused(plan):
    with Scheduler(Oracle({})) as scheduler, pytest.raises(InputError, match="no plan"):
        scheduler.submit(plan)


def test_a_plan_that_resists_its_end_still_ends():
    ranking = ranking_of("q", 2)

    def stubborn():
        try:
            yield [Grade(ranking.query, ranking.documents[0])]
        finally:
            raise ValueError("not yet")

    with Scheduler(Giving(lambda question: ValueError("no"))) as scheduler:
        with pytest.raises(JudgeError):
            scheduler.submit(stubborn()).result(timeout=5)
        assert len(scheduler.run([pointwise(ranking_of("empty", 0))])[0]) == 0

    assert "not yet" in scheduler.ledger.notes["a plan could not be closed"]


def test_an_unhashable_client_or_a_deadline_that_is_no_number_is_refused_and_harms_nobody():
    with Scheduler(Oracle({})) as scheduler:
        fine = scheduler.submit(pointwise(ranking_of("q", 3)))
        with pytest.raises(TypeError, match="unhashable"):
            scheduler.submit(pointwise(ranking_of("r")), client=[])
        with pytest.raises(InputError, match="deadline of nan"):
            scheduler.submit(pointwise(ranking_of("r")), deadline=float("nan"))

        assert len(fine.result(timeout=5)) == 3


def test_cancelling_plans_that_share_a_question_with_another_client_harms_nobody():
    shared = ranking_of("shared", 1)
    long = Ranking.unscored(shared.query, [Document(f"own{number}", f"own {number}") for number in range(60)])
    long = long.then(shared.documents)

    for seed in range(5):
        with Scheduler(Giving(lambda question: Graded(1.0), pause=0.001), at_once=4) as scheduler:
            first = scheduler.submit(pointwise(long), client="A")
            others = [scheduler.submit(pointwise(shared), client="B") for _ in range(5)]
            time.sleep(0.002 * seed)
            cancelled = [others[seed % 5], others[(seed + 2) % 5]]
            for future in cancelled:
                future.cancel()

            assert len(first.result(timeout=5)) == 61
            for future in others:
                assert future.cancelled() or len(future.result(timeout=5)) == 1


def test_random_cancellations_while_texts_are_shared_between_clients_leave_every_survivor_right():
    choice = random.Random(3)
    documents = [Document(f"d{number}", f"text {number}") for number in range(20)]
    query = Query("q", "one query for all")
    rankings = [Ranking.unscored(query, choice.sample(documents, 12)) for _ in range(80)]
    worth = {document.doc_id: choice.random() for document in documents}
    judge = Giving(lambda question: Graded(worth[question.document.doc_id]), pause=0.0005)

    with Scheduler(judge, at_once=3, memory=2) as scheduler:
        futures = [
            scheduler.submit(pointwise(ranking), client=number % 7, deadline=0.02 if number % 11 == 0 else None)
            for number, ranking in enumerate(rankings)
        ]
        for _ in range(30):
            time.sleep(0.0007)
            choice.choice(futures).cancel()

    for ranking, future in zip(rankings, futures, strict=True):
        assert future.done()
        if not future.cancelled() and future.exception() is None:
            assert best_first(future.result()) == sorted(
                (document.doc_id for document in ranking.documents), key=lambda doc_id: -worth[doc_id]
            )
        elif not future.cancelled():
            assert isinstance(future.exception(), DeadlineExceeded)


def test_cancelling_stops_the_questions_that_are_asked_one_by_one_after_a_breakdown():
    class Broken(Giving):
        asked = 0

        def answer(self, questions, bill):
            if len(questions) > 1:
                raise RuntimeError("too many")
            Broken.asked += 1
            yield from super().answer(questions, bill)

    scheduler = Scheduler(Broken(lambda question: Graded(1.0), pause=0.005))
    scheduler.submit(pointwise(ranking_of("q", 200)))
    time.sleep(0.05)
    scheduler.close(cancel=True)

    assert Broken.asked < 40


def test_a_callback_that_fails_fails_its_own_run_and_the_scheduler_goes_on():
    scheduler = Scheduler(Oracle({}))

    def broken(answered, asked):
        raise ValueError("the bar broke")

    with pytest.raises(ValueError, match="the bar broke"):
        scheduler.run([pointwise(ranking_of("q", 3))], on_answer=broken)

    assert len(scheduler.run([pointwise(ranking_of("r", 3))])[0]) == 3


def test_a_plan_that_waits_for_its_own_scheduler_is_told_so():
    def plan():
        scheduler.run([pointwise(ranking_of("inner"))])
        yield []

    with Scheduler(Oracle({})) as scheduler, pytest.raises(InputError, match="own scheduler"):
        scheduler.run([plan()])


def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path):
    for name, content in {"notes": b"line one\nprecious last line", "binary": bytes(range(256)) * 20}.items():
        path = tmp_path / name
        path.write_bytes(content)

        with pytest.raises(FileError, match="no journal"):
            Journal(path)

        assert path.read_bytes() == content
    with pytest.raises(FileError, match="no ordinary file"):
        Journal("/dev/null")


@pytest.mark.parametrize("score", ['"high"', "null", "NaN", "[1]"])
def test_a_journal_with_an_answer_that_is_none_names_its_line(tmp_path, score):
    journal = Journal(tmp_path / "j")
    journal.append("k", Graded(1.0))
    journal.close()
    text = (tmp_path / "j").read_text()
    (tmp_path / "j").write_text(text.replace("1.0", score))

    with pytest.raises(FileError, match="damaged at line 2"):
        Journal(tmp_path / "j")


def test_half_a_line_that_could_not_be_written_is_taken_back(tmp_path, monkeypatch):
    import os

    journal = Journal(tmp_path / "j")
    journal.append("a", Graded(1.0))
    write = os.write

    def full(file, line):
        if len(line) > 10:
            return write(file, line[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FileError, match="No space left"):
        journal.append("b", Graded(2.0))
    monkeypatch.undo()
    journal.append("c", Graded(3.0))
    journal.close()

    again = Journal(tmp_path / "j")
    assert (again.recovered, again.get("b"), again.get("c")) == (2, None, Graded(3.0))
    again.close()


def test_answers_of_any_length_are_found_again_where_they_stand(tmp_path):
    from rerank.questions import Written

    kept = {f"k{number}": Written("ä\n" * number * 37) for number in range(0, 400, 7)}
    journal = Journal(tmp_path / "j")
    for key, answer in kept.items():
        journal.append(key, answer)
    assert {key: journal.get(key) for key in kept} == kept
    journal.append("k0", Written("a later answer"))
    journal.close()

    again = Journal(tmp_path / "j")
    again.append("new", Graded(0.5))
    assert {key: again.get(key) for key in kept} == {**kept, "k0": Written("a later answer")}
    assert (again.get("new"), again.get("other"), len(again)) == (Graded(0.5), None, len(kept) + 1)
    again.close()


def test_a_journal_that_is_changed_under_our_hands_is_an_error_and_no_other_answer(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append("a", Graded(1.0))
    journal.append("b", Graded(2.0))
    whole = (tmp_path / "j").read_bytes()

    (tmp_path / "j").write_bytes(whole.replace(b'"a"', b'"c"'))
    with pytest.raises(FileError, match=r"damaged at byte 39: 'c' instead of 'a'"):
        journal.get("a")
    (tmp_path / "j").write_bytes(whole[:50])
    for key in ("a", "b"):
        with pytest.raises(FileError, match="damaged at byte"):
            journal.get(key)
    journal.close()


def test_a_journal_keeps_little_in_memory(tmp_path):
    import tracemalloc

    from rerank.questions import GradedSet

    with (tmp_path / "j").open("w") as file:
        file.write('{"journal": 1, "of": "rerank-toolkit"}\n')
        for number in range(3_000):
            file.write(f'{{"key": "{number:032}", "kind": "GradedSet", "scores": [{", ".join(["0.125"] * 20)}]}}\n')

    tracemalloc.start()
    journal = Journal(tmp_path / "j")
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert journal.get(f"{2_999:032}") == GradedSet((0.125,) * 20)
    assert kept / len(journal) < 350  # bytes an answer: its key and its place; such an answer alone takes 700
    assert most < kept + 300_000  # while it was read: half of what the file holds
    journal.close()


def test_ctrl_c_is_noticed_even_when_another_thread_receives_the_signal():
    """A signal wakes the thread that receives it, and Python acts on it in the main thread, which may be asleep."""
    ranking = ranking_of("q")
    judge = Recorder(Oracle(qrels_of(ranking)), pause=0.3)  # ten answers: 3 s until the plan is done
    press = threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    press.start()
    try:
        with Scheduler(judge) as scheduler, pytest.raises(KeyboardInterrupt):
            scheduler.run([pointwise(ranking)])
    finally:
        signal.signal(signal.SIGINT, before)

    assert time.monotonic() - began < 2.5
    assert len(judge.asked) < 8
