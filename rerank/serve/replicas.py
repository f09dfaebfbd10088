"""Several replicas of the server on a Ray cluster, behind one address of Ray Serve.

serve run rerank.serve.replicas:application config=server.toml replicas=4 gpus=1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from rerank.errors import InputError
from rerank.registry import did_you_mean, extra_for
from rerank.serve.app import create_app
from rerank.serve.settings import Settings

__all__ = ["application", "replicated"]

TOLD = {"config": str, "replicas": int, "cpus": float, "gpus": float}
"""What `serve run` may be told, by name."""


def application(told: Mapping[str, str]) -> Any:
    """What `serve run` builds.

    Args:
        told: `config`, a file of settings, `replicas`, and `cpus` and `gpus` of each; RERANK_… as everywhere.

    Raises:
        InputError: when something else is told, or the settings do not hold together.
    """
    for name, value in told.items():
        if name not in TOLD:
            raise InputError(f"nothing is called {name!r}{did_you_mean(name, TOLD)}")
        try:
            TOLD[name](value)
        except ValueError as error:
            raise InputError(f"{name}={value!r} is no number") from error
    settings = Settings.read(told.get("config"))
    return replicated(settings, **{name: TOLD[name](told[name]) for name in told if name != "config"})


def replicated(settings: Settings, *, replicas: int = 1, cpus: float = 1, gpus: float = 0) -> Any:
    """An application of Ray Serve, for `serve.run`: each replica has all models, and is there when they are loaded.

    Ray Serve is told the address, and how many processes there are: `host`, `port` and `workers` of the settings are of
    no use here, and must be left as they are.

    Args:
        settings: of every replica; `queue` and `answers_kept` are each one's own.
        replicas: how many there are.
        cpus, gpus: that each of them gets.

    Raises:
        MissingExtra: when Ray Serve is not installed.
        InputError: when the settings cannot be kept.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise extra_for("a server on a Ray cluster", "ray.serve") from error
    usual = Settings(models=settings.models)
    if (settings.host, settings.port, settings.workers) != (usual.host, usual.port, usual.workers):
        raise InputError("host, port and workers are Ray Serve's to say; leave them out of the settings")
    settings.check()

    def built() -> FastAPI:
        return create_app(settings, [served.load() for served in settings.models])

    options = {"num_cpus": cpus, "num_gpus": gpus}
    most = settings.queue + 16  # what is more than the queue is refused by the server itself, which says when to come
    deployment = serve.deployment(
        name="rerank", num_replicas=replicas, max_ongoing_requests=most, ray_actor_options=options
    )
    return deployment(serve.ingress(built)()).bind()
