"""What a server is told: by a file, over it the environment, over both the command line; refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rerank.cli.main import main
from rerank.errors import ConfigError, InputError, RerankError
from rerank.serve import Served, Settings

MODEL = "cross-encoder/ms-marco-MiniLM-L12-v2"
FILE = f"""
port = 9000
queue = 7
api_keys = ["one"]

[[models]]
model = "{MODEL}"
name = "minilm"
arguments = {{ max_tokens = 256, long_documents = "max" }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Settings."""
    place = tmp_path / "server.toml"
    place.write_text(FILE, encoding="utf-8")
    return place


def test_flags_stand_over_the_environment_and_that_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_PORT", "9001")
    monkeypatch.setenv("RERANK_QUEUE", "8")
    monkeypatch.setenv("RERANK_LOG_TEXT", "true")

    settings = Settings.read(file, {"queue": 9})

    assert (settings.port, settings.queue, settings.log_text, settings.api_keys) == (9001, 9, True, ("one",))
    assert settings.models == (Served(MODEL, "minilm", arguments={"max_tokens": 256, "long_documents": "max"}),)


def test_lists_in_the_environment_are_toml_or_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_MODELS", "one,two")
    monkeypatch.setenv("RERANK_API_KEYS", '["a,b", "c"]')
    monkeypatch.setenv("RERANK_HOST", "0.0.0.0")
    monkeypatch.setenv("RERANK_DEADLINE", "5")

    settings = Settings.read()

    assert [served.title for served in settings.models] == ["one", "two"]
    assert settings.api_keys == ("a,b", "c")
    assert (settings.host, settings.deadline) == ("0.0.0.0", 5.0)


def test_workers_are_told_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_SERVE_SETTINGS", "")
    settings = Settings.read(file)

    settings.hand_on()

    assert Settings.handed_on() == settings


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"models": []}, "no model is named"),
        ({"models": [{"model": "a"}, {"model": "a"}]}, "two models are called 'a'"),
        ({"models": [{"model": "a", "aliases": ["b"]}, {"model": "b"}]}, "two models are called 'b'"),
        ({"models": [{"model": "a", "arguments": {"divice": "cpu"}}]}, "no argument is called 'divice'; did you mean"),
        ({"models": [{"model": "a", "arguments": {"journal": "j"}}]}, "journal is no argument here"),
        ({"models": [{"model": "a", "arguments": {"max_tokens": "x"}}]}, "max_tokens is 'x'"),
        ({"models": [{"model": "a"}], "quueue": 3}, "no key is called 'quueue'; did you mean 'queue'"),
        ({"models": [{"model": "a"}], "queue": 0}, "queue is 0"),
        ({"models": [{"model": "a"}], "port": 70_000}, "port is 70000"),
        ({"models": [{"model": "a"}], "client_share": 0.0}, "client_share is 0.0"),
        ({"models": [{"model": "a"}], "log_level": "loud"}, "log_level is 'loud'"),
        ({"models": [{"model": "a"}], "api_keys": [""]}, "an API key is empty"),
    ],
)
def test_what_does_not_hold_together_is_refused(said: dict[str, object], error: str) -> None:
    with pytest.raises(InputError, match=error):
        Settings.read(said=said)


def test_a_key_in_the_environment_is_not_shown_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_API_KEYS", "[1, 2]")

    with pytest.raises(ConfigError) as told:
        Settings.read(said={"models": [{"model": "a"}]})

    assert str(told.value) == "RERANK_API_KEYS is no list of keys"


def test_a_calibration_that_is_not_there_is_refused_before_anything_is_loaded() -> None:
    settings = Settings(models=(Served(MODEL, arguments={"calibration": "nowhere.json"}),))

    with pytest.raises(RerankError, match=r"nowhere\.json"):
        settings.check()


def test_check_says_what_would_be_served(file: Path) -> None:
    ran = CliRunner().invoke(main, ["serve", "--config", str(file), "--check", "--port", "1234", "--json"])

    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert (found["port"], found["models"][0]["name"], found["models"][0]["algorithm"]) == (1234, "minilm", "pointwise")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "no model is named; give --model, or [[models]] in the file"),
        (["--method", "rankgpt"], "--method is of a model"),
        (["--max-tokens", "5"], "--max-tokens is of a model"),
        (["--model", MODEL, "--method", "rankgtp"], "did you mean 'rankgpt'"),
        (["--model", MODEL, "--long-documents", "best"], "best"),
        (["--model", MODEL, "--threshold", "0.5"], "calibration"),
    ],
)
def test_wrong_options_end_with_one_line(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", *words, "--check"])

    [line] = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert error in line
