"""What must hold of the project as a whole: what is packaged, what an import costs, what its pages promise."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import rerank

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rerank", "retrievers", "training")
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changelog.d/*.md")])

IMPORT_SECONDS = 0.1
HEAVY = ("torch", "numpy", "transformers", "scipy", "bm25s", "ir_datasets", "ir_measures", "matplotlib", "rich")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as for a release."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's packages, away from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, text=True)
    return folder


def elsewhere(folder: Path, empty: Path, *command: str) -> str:
    """What Python prints in an empty folder, with the packages of `folder` in front of all others."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    ran = subprocess.run([sys.executable, *command], cwd=empty, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = {f"rerank_toolkit-{rerank.__version__}.dist-info/{name}" for name in METADATA}

    assert set(zipfile.ZipFile(wheel).namelist()) == ours | about


def test_the_wheel_holds_what_is_read_at_run_time(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {f"{package}/__init__.py" for package in PACKAGES} <= names
    assert "rerank/checkpoints/ms-marco-MiniLM-L12-v2.toml" in names
    assert "rerank/catalog/datasets/noveleval.toml" in names
    for part in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert f"rerank/catalog/datasets/noveleval/{part}.gz" in names


def test_the_installed_wheel_lists_its_names_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = elsewhere(installed, tmp_path, "-c", "import rerank, retrievers; print(rerank.__file__)")
    listed = elsewhere(installed, tmp_path, str(installed / "bin" / "rerank"), "list")

    assert Path(where.strip()).is_relative_to(installed)
    for name in ("pointwise", "bm25", "ms-marco-MiniLM-L12-v2", "noveleval"):
        assert name in listed


def test_the_installed_wheel_reads_its_collection(installed: Path, tmp_path: Path) -> None:
    code = "from rerank import Dataset; d = Dataset.load('noveleval'); print(len(d.queries), len(list(d.documents())))"

    assert elsewhere(installed, tmp_path, "-c", code).split() == ["21", "420"]


def test_the_installed_wheel_runs_a_suite_in_an_empty_folder(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    rerank_itself = str(installed / "bin" / "rerank")
    (tmp_path / "bm25.toml").write_text('[[stage]]\nretriever = "bm25"\ncutoff = 20\n', encoding="utf-8")
    collection = installed / "rerank" / "catalog" / "datasets" / "noveleval"

    listed = elsewhere(installed, tmp_path, rerank_itself, "datasets")
    asked = ["suite", str(collection), "--pipeline", "bm25.toml", "--output", "out", "--json"]
    found = json.loads(elsewhere(installed, tmp_path, rerank_itself, *asked))

    assert "bright-biology" in listed
    assert found["means"]["bm25"] == pytest.approx(0.6901, abs=1e-4)
    assert "data:image/png;base64," in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_importing_rerank_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; started = time.perf_counter(); import rerank; seconds = time.perf_counter() - started;"
        "import json; print(json.dumps([seconds, sorted(sys.modules)]))"
    )
    tries = [json.loads(elsewhere(ROOT, ROOT, "-c", code)) for _ in range(5)]

    assert min(seconds for seconds, _ in tries) < IMPORT_SECONDS
    assert {module.partition(".")[0] for module in tries[0][1]}.isdisjoint(HEAVY)


def test_no_public_name_is_a_modules_too() -> None:
    """Importing `rerank.evaluate` puts the module in the place of a function of that name, for good."""
    modules = {path.stem for path in (ROOT / "rerank").iterdir() if path.suffix == ".py" or path.is_dir()}

    assert modules.isdisjoint(rerank.__all__)
    assert all(getattr(rerank, name) is not None for name in rerank.__all__)


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == rerank.__version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]

    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_index_names_every_page() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (docs / "index.md").read_text(encoding="utf-8")))

    assert linked == {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_of_a_page_can_be_read(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        if ">>>" not in block:  # those are doctests
            ast.parse(block)


def tracked() -> list[Path]:
    """The files of the checkout; where there is no git, those of the packages, tests and pages."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [path for folder in (*PACKAGES, "tests", "docs") for path in (ROOT / folder).rglob("*.*")]


def test_no_file_names_a_mirror_or_a_folder_of_somebodys_machine() -> None:
    private = re.compile(
        rb"hf-mirror|hub[-.]mirror|mirrors?\.[\w-]+\.\w+"  # mirrors come from a user's own configuration
        rb"|(?<![\w.~$}])/(?:home|Users)/\w|(?<![\w.~$}])/(?:root|work)/"
    )
    found = {
        f"{path.relative_to(ROOT)}: {hit.group().decode()}"
        for path in tracked()
        if path.suffix != ".gz" and path != Path(__file__).resolve()
        for hit in private.finditer(path.read_bytes())
    }

    assert found == set()
