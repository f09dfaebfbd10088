"""`rerank serve`: rerankers behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.loading import fetch_reranker
from rerank.cli.screen import Screen, with_screen, wrong_usage

if TYPE_CHECKING:
    from rerank.serve.settings import Settings

__all__ = ["serve"]

OWN = (
    "host",
    "port",
    "workers",
    "api_keys",
    "cors_origins",
    "collections",
    "queue",
    "deadline",
    "max_documents",
    "at_once",
    "log_text",
    "log_level",
)
"""Options that are settings; the others are arguments of the rerankers."""


@click.command("serve")
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    shell_complete=names.completing(names.checkpoint_names, files=True),
    help="A checkpoint, as for `rerank rerank`; may be repeated. The first answers requests that name none.",
)
@names.method_options()
@names.algorithm_option()
@names.judge_options
@names.token_options
@names.long_document_options
@names.calibration_options
@names.budget_options
@names.device_options
@click.option("--config", type=names.file_type, metavar="FILE", help="Settings in TOML; flags stand over them.")
@click.option("--host", metavar="NAME", help="Where to listen; 0.0.0.0 is everywhere.  [default: 127.0.0.1]")
@click.option("--port", type=names.Count(0), metavar="N", help="[default: 8000]")
@click.option("--workers", type=names.count_type, metavar="N", help="Processes, each with all models.  [default: 1]")
@click.option(
    "--api-key", "api_keys", multiple=True, metavar="KEY", help="Let in who brings it; better in RERANK_API_KEYS."
)
@click.option(
    "--cors-origin", "cors_origins", multiple=True, metavar="ORIGIN", help="Web pages that may ask.  [default: none]"
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="A dataset, or its folder, that the page offers beside those that ship; may be repeated.",
)
@click.option("--queue", type=names.count_type, metavar="N", help="Requests that may wait for a model.  [default: 256]")
@click.option("--deadline", type=float, metavar="X", help="Seconds after which a request is given up.  [default: 60]")
@click.option("--max-documents", type=names.count_type, metavar="N", help="Of a request.  [default: 1000]")
@click.option(
    "--at-once",
    type=names.count_type,
    metavar="N",
    help="Questions that go to a model in one call.  [default: 64 on the CPU, 512 elsewhere]",
)
@click.option(
    "--log-text", flag_value=True, default=None, type=bool, help="Write queries and documents to the log, too."
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), metavar="NAME", help="[default: info]"
)
@click.option("--check", is_flag=True, help="Say whether all of this holds together, and do not start.")
@with_screen
def serve(
    *, screen: Screen, models: tuple[str, ...], method: str | None, config: Path | None, check: bool, **options: Any
) -> None:
    """Serve rerankers over HTTP, to clients of Cohere, Jina, TEI and vLLM.

    Every setting may stand in a TOML file or the environment (RERANK_PORT, RERANK_API_KEYS …); flags stand over both.
    Options of rerankers go to every --model; models of different kinds stand in the file. /docs has the paths.

    \b
    Examples:
        rerank serve --model cross-encoder/ms-marco-MiniLM-L12-v2 --port 8000
        rerank serve --config server.toml --check
    """
    settings = _settings(models, method, config, options)
    settings.check()
    if check:
        _show(settings, screen)
        return
    from rerank.serve.running import run

    for served in settings.models:
        fetch_reranker(served.method or served.model, _arguments(served), screen)
    try:
        run(settings)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


def _settings(models: tuple[str, ...], method: str | None, config: Path | None, options: dict[str, Any]) -> Settings:
    """Those of the file, the environment and the command line."""
    from rerank.registry import extra_for

    try:
        from rerank.serve.settings import Settings
    except ImportError as error:
        if error.name not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise extra_for("'rerank serve'", "fastapi") from error

    given = {name: value for name, value in options.items() if value not in (None, ())}
    own = {name: given.pop(name) for name in OWN if name in given}
    if not models and (given or method):
        flag = "--method" if method else names.flag(next(iter(given)))
        raise wrong_usage(f"{flag} is of a model; name one with --model, or write it into the file")
    if models:
        own["models"] = [{"model": model, "method": method or "", "arguments": given} for model in models]
    return Settings.read(config, own)


def _arguments(served: Any) -> dict[str, Any]:
    return {**served.arguments, **({"model": served.model} if served.method else {})}


def _show(settings: Settings, screen: Screen) -> None:
    """What would be served."""
    found = []
    for served, recipe in zip(settings.models, settings.check(), strict=True):
        found.append({"name": served.title, "model": served.model, "algorithm": recipe.described})
    screen.answer({"host": settings.host, "port": settings.port, "workers": settings.workers, "models": found})
    for each in found:
        screen.say(f"{each['name']}: {each['algorithm']}")
    screen.say(f"would listen on http://{settings.host}:{settings.port}")
