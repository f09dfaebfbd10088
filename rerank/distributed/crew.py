"""Who carries shards: this process, or workers on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from rerank.distributed.handlers import kept_handlers
from rerank.distributed.store import Store
from rerank.errors import InputError, JudgeError, RerankError
from rerank.registry import extra_for

__all__ = ["Crew", "Make"]

Shard = TypeVar("Shard")

Make: TypeAlias = Callable[[], Callable[[Shard], bytes]]
"""Makes, on a worker and once, what turns shards into bytes: there models are loaded. It travels, so it is small."""

TRIES = 3
"""How often a shard is taken over after its worker was lost; one that takes down every worker must end some time."""


@dataclass(frozen=True)
class Crew:
    """How many work, and where.

    Args:
        workers: side by side, each with a model of its own. Without Ray there is one: this process.
        ray: None for no Ray; "local" for one of its own on this machine; "auto" for the cluster that this machine
            belongs to; or the address of a cluster, `ray://head:10001`.
        cpus: cores for each worker; Ray makes it the number of threads too, unless OMP_NUM_THREADS says another.
        gpus: GPUs for each worker; a part of one is possible.

    Raises:
        InputError: when there is no worker, several without Ray, or a share below 0.
    """

    workers: int = 1
    ray: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"workers={self.workers}; at least 1 has to work")
        if self.ray is None and self.workers > 1:
            raise InputError(f"{self.workers} workers need Ray; say where: ray='local', 'auto', or an address")
        for name in ("cpus", "gpus"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}; it must be at least 0")

    def carry(self, make: Make[Shard], shards: Iterable[tuple[str, Shard]], store: Store) -> Iterator[str]:
        """Have every shard made into bytes that lie in the store; those that lie there already are not made again.

        Args:
            make: see `Make`.
            shards: (name, shard), the names distinct; taken as workers become free, so that a generator of millions
                is never held at once.
            store: that all workers see.

        Yields:
            The name of each shard once it is finished, in whichever order; also of those that were finished before.

        Raises:
            RerankError: what a shard raised; the others' results are kept.
            JudgeError: when a shard took its worker down again and again.
            MissingExtra: when Ray is wanted and not installed.
        """
        finished = store.finished()
        if self.ray is None:
            yield from _here(make, shards, store, finished)
        else:
            yield from self._on_ray(make, shards, store, finished)

    def _on_ray(
        self, make: Make[Shard], shards: Iterable[tuple[str, Shard]], store: Store, finished: frozenset[str]
    ) -> Iterator[str]:
        ray, address = _imported(), str(self.ray)
        began = _connect(ray, address, self)
        try:
            worker = ray.remote(_Worker).options(
                num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=-1, max_task_retries=TRIES
            )
            pool = ray.util.ActorPool([worker.remote() for _ in range(self.workers)])
            yield from _pooled(ray, pool, shards, finished, (ray.put(make), store.url))
        finally:
            if began:
                with kept_handlers():
                    ray.shutdown()


class _Worker:
    """On a machine of the cluster. Models are loaded with the first shard, so that what goes wrong is its error."""

    def __init__(self) -> None:
        self._work: Callable[[Any], bytes] | None = None

    def carry(self, make: Make[Any], url: str, name: str, shard: Any) -> str:
        """Finish one shard; its bytes go from here to the store, and not over the wire to who asked."""
        if self._work is None:
            self._work = make()
        Store(url).write(name, self._work(shard))
        return name


def _here(
    make: Make[Shard], shards: Iterable[tuple[str, Shard]], store: Store, finished: frozenset[str]
) -> Iterator[str]:
    work = None
    for name, shard in shards:
        if name not in finished:
            work = work or make()
            store.write(name, work(shard))
        yield name


def _pooled(
    ray: Any, pool: Any, shards: Iterable[tuple[str, Any]], finished: frozenset[str], given: tuple[Any, str]
) -> Iterator[str]:
    for name, shard in shards:
        if name in finished:
            yield name
            continue
        if not pool.has_free():
            yield _next(ray, pool)
        pool.submit(lambda worker, value: worker.carry.remote(*given, *value), (name, shard))
    while pool.has_next():
        yield _next(ray, pool)


def _next(ray: Any, pool: Any) -> str:
    try:
        return str(pool.get_next_unordered())
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RerankError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise JudgeError(
            f"a shard took its worker down {TRIES + 1} times ({' '.join(str(error).split())[:300]}); what is finished "
            "is kept: give workers more memory, or make shards smaller, and call again"
        ) from error


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless a user says so
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a worker without GPUs keeps those it sees
    try:
        import ray
        import ray.util
    except ModuleNotFoundError as error:
        raise extra_for("work on several machines", "ray") from error
    return ray


def _connect(ray: Any, address: str, crew: Crew) -> bool:
    """Whether Ray was begun here, and is to be ended."""
    if ray.is_initialized():
        return False
    said: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "address": address}
    if address == "local":
        cores, devices = max(1, round(crew.workers * crew.cpus)), round(crew.workers * crew.gpus)
        said |= {"num_cpus": cores, "num_gpus": devices or None, "include_dashboard": False}
    try:
        with kept_handlers():
            ray.init(**said)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"there is no Ray cluster at {address!r}: {error}; start one, or say 'local'") from error
    return True
