"""Shards: in one process and on Ray, into a folder and another storage, with workers killed and jobs begun again."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_folders import bert, texts
from tiny_models import tiny_bert

from rerank import stages
from rerank.datasets import Dataset
from rerank.distributed import Crew, Store, run_pipeline
from rerank.distributed.handlers import kept_handlers
from rerank.errors import FileError, InputError, JudgeError
from rerank.io import write_beir, write_run
from rerank.pipeline import Pipeline
from rerank.types import Document, Query
from retrievers.dense import Dense

SHARDS = [(f"{number}", number) for number in range(6)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine, begun once; crews join what is there."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'rerank-toolkit[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    with kept_handlers():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    with kept_handlers():
        ray.shutdown()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, Any]], Path]:
    """A pipeline, and a collection for it."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    documents = [Document(f"d{number}", text) for number, text in enumerate(texts(30, seed=1))]
    queries = [Query(f"q{number}", text) for number, text in enumerate(texts(9, seed=2)[1:])]
    qrels = {query.query_id: {"d1": 1} for query in queries}
    folder = tmp_path / "collection"
    write_beir(folder, documents, queries, qrels)
    model = bert(tmp_path / "model")
    return [{"retriever": "bm25", "cutoff": 8}, {"reranker": str(model)}], folder


def slow_square(folder: Path, deadly: int | None = None, times: int = 1) -> Callable[[int], bytes]:
    """Work that kills its own process, as the kernel does where memory ends, at one shard and so many times."""

    def work(shard: int) -> bytes:
        if shard == deadly:
            deaths = len(list(folder.glob("death*")))
            if deaths < times:
                (folder / f"death{deaths}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return f"{shard * shard}".encode()

    return work


def test_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def work(shard: int) -> bytes:
        if shard == 3 and 3 not in made:
            made.append(shard)
            raise InputError("the third is bad")
        made.append(shard)
        return str(shard).encode()

    store = Store(str(tmp_path / "store"))
    with pytest.raises(InputError, match="the third is bad"):
        list(Crew().carry(lambda: work, SHARDS, store))
    names = list(Crew().carry(lambda: work, SHARDS, store))

    assert made == [0, 1, 2, 3, 3, 4, 5]
    assert names == [name for name, _ in SHARDS]
    assert [store.read(name) for name in names] == [str(number).encode() for number in range(6)]


def test_a_store_is_one_jobs_and_half_a_file_is_none(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.begin({"seed": 1})
    (tmp_path / "store" / ".7.abc.part").write_bytes(b"half")

    store.begin({"seed": 1})

    assert store.finished() == {"job.json"}
    with pytest.raises(FileError, match=r"another job \(its seed is 1, not 2\)"):
        store.begin({"seed": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(FileError, match=r"holds 'thesis.tex' and no job of ours"):
        Store(str(tmp_path / "mine")).begin({})
    with pytest.raises(InputError, match="cannot use the store 'nonsense://x'"):
        Store("nonsense://x")


def test_another_storage_than_a_folder_holds_shards_too() -> None:
    store = Store("memory://some/job")
    store.begin({"seed": 1})

    list(Crew().carry(lambda: lambda shard: bytes([shard]), SHARDS, store))

    assert store.finished() == {"job.json", *(name for name, _ in SHARDS)}
    assert store.read("5") == b"\x05"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": 2}, "2 workers need Ray"),
        ({"ray": "local", "gpus": -1}, "gpus=-1"),
    ],
)
def test_a_crew_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Crew(**options)


def test_one_process_and_ray_write_the_pipelines_run_byte_for_byte(job: Any, tmp_path: Path, cluster: Any) -> None:
    tables, folder = job
    dataset = Dataset.load(folder)
    write_run(tmp_path / "plain.trec", Pipeline.build(tables, dataset).run(dataset.queries))
    call = functools.partial(run_pipeline, tables, folder, queries_per_shard=3)

    here = call(tmp_path / "here.trec", store=str(tmp_path / "here"))
    on_ray = call(tmp_path / "ray.trec", store=str(tmp_path / "ray"), crew=Crew(2, ray="local"))
    again = call(tmp_path / "again.trec", store=str(tmp_path / "ray"))

    plain = (tmp_path / "plain.trec").read_bytes()
    assert {(tmp_path / f"{name}.trec").read_bytes() for name in ("here", "ray", "again")} == {plain}
    assert (here.queries, here.shards, here.finished_before, again.finished_before) == (8, 3, 0, 3)
    for done in (here, on_ray, again):
        [(name, ledger)] = done.ledgers
        assert (name, ledger.total["questions"]) == ("model", sum(1 for _ in plain.splitlines()))
        assert set(ledger.wall_seconds) == {query.query_id for query in dataset.queries}


def test_a_job_of_other_options_is_not_gone_on_with(job: Any, tmp_path: Path) -> None:
    tables, folder = job
    call = functools.partial(run_pipeline, tables, folder, tmp_path / "run.trec", store=str(tmp_path / "store"))
    call()

    with pytest.raises(FileError, match="its keep is None, not 3"):
        call(keep=3)
    with pytest.raises(InputError, match="has no retriever"):
        run_pipeline(tables[1:], folder, tmp_path / "run.trec", store=str(tmp_path / "other"))
    journalled = [tables[0], {**tables[1], "journal": str(tmp_path / "j")}]
    with pytest.raises(InputError, match="stage 2 has a journal"):
        run_pipeline(journalled, folder, tmp_path / "run.trec", store=str(tmp_path / "other"))


def test_handlers_of_faults_that_c_code_installed_are_kept() -> None:
    libc = ctypes.CDLL(None)
    now = ctypes.create_string_buffer(1024)
    libc.sigaction(signal.SIGBUS, None, now)

    with kept_handlers():
        libc.sigaction(signal.SIGBUS, ctypes.create_string_buffer(1024), None)  # zeros: the system's default

    after = ctypes.create_string_buffer(1024)
    libc.sigaction(signal.SIGBUS, None, after)
    assert after.raw[:8] == now.raw[:8]  # the handler's address; glibc leaves most of the mask undefined
    assert any(now.raw[:8]), "pytest's faulthandler has one"


def test_a_killed_workers_shard_is_taken_over(tmp_path: Path, cluster: Any) -> None:
    store = Store(str(tmp_path / "store"))

    names = list(Crew(2, ray="local").carry(functools.partial(slow_square, tmp_path, 3), SHARDS, store))

    assert (tmp_path / "death0").exists()
    assert sorted(names) == [name for name, _ in SHARDS]
    assert [store.read(name) for name, _ in SHARDS] == [b"0", b"1", b"4", b"9", b"16", b"25"]


def test_a_shard_that_kills_whoever_takes_it_ends_the_job_and_loses_no_other(tmp_path: Path, cluster: Any) -> None:
    store = Store(str(tmp_path / "store"))

    with pytest.raises(JudgeError, match="took its worker down 4 times"):
        list(Crew(1, ray="local").carry(functools.partial(slow_square, tmp_path, 3, 99), SHARDS, store))

    assert len(list(tmp_path.glob("death*"))) == 4
    assert {"0", "1", "2"} <= store.finished()


def test_an_error_on_a_worker_is_the_error_here(tmp_path: Path, cluster: Any) -> None:
    def refuses() -> Callable[[int], bytes]:
        raise InputError("no such model")

    with pytest.raises(InputError, match="no such model"):
        list(Crew(2, ray="local").carry(refuses, SHARDS, Store(str(tmp_path / "store"))))


def test_a_crew_encodes_the_vectors_that_one_process_encodes(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrievers.dense.SHARD", 8)
    documents = [Document(f"d{number}", text) for number, text in enumerate(texts(30, seed=3))]
    model = str(tiny_bert(tmp_path / "bert", ["how", "many", "people", "live", "in", "berlin"]))
    alone = Dense.build(documents, tmp_path / "alone", model=model)

    together = Dense.build(documents, tmp_path / "together", model=model, crew=Crew(2, ray="local"))
    kept = Dense.build(documents, tmp_path / "kept", model=model, crew=Crew(), store=str(tmp_path / "store"))

    assert np.array_equal(together.vectors.rows, alone.vectors.rows)
    assert np.array_equal(kept.vectors.rows, alone.vectors.rows)
    assert not (tmp_path / "together" / "carried").exists()
    assert len(Store(str(tmp_path / "store")).finished()) == 5  # four shards, and whose they are


def test_the_command_goes_on_from_its_store(job: Any, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rerank.cli.main import main

    tables, folder = job
    file = tmp_path / "pipeline.toml"
    file.write_text("\n".join(stages.dump(table) for table in tables))

    def call(*more: str) -> Any:
        base = ["distribute", "run", str(file), "--dataset", str(folder), "--store", str(tmp_path / "store")]
        return CliRunner().invoke(main, [*base, "--output", str(tmp_path / "run.trec"), *more], catch_exceptions=False)

    first = json.loads(call("--queries-per-shard", "5", "--json").stdout)
    second = json.loads(call("--queries-per-shard", "5", "--json").stdout)

    assert (first["shards"], first["finished_before"], second["finished_before"]) == (2, 0, 2)
    refused = call("--workers", "2")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--workers 2 needs Ray" in refused.stderr
    assert "belongs to another job" in call().stderr
