"""All models of a server: loaded and warmed up behind its back, found by name, closed together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rerank.registry import did_you_mean
from rerank.rerankers.reranker import Reranker
from rerank.serve.asked import Refused
from rerank.serve.model import ServedModel
from rerank.serve.settings import Settings

__all__ = ["Models"]


class Models:
    """The models, once they are there.

    Args:
        settings: which there are.
        rerankers: one for each, where they are loaded already.

    Attributes:
        ready: all are loaded and warm.
        ending: the server takes no more connections, and each that there is ends with its next answer.
        failure: why they will never be.
        since: seconds since the epoch.
    """

    def __init__(self, settings: Settings, rerankers: Sequence[Reranker] | None = None) -> None:
        self.settings = settings
        self.ready = self.ending = False
        self.failure: Exception | None = None
        self.since = int(time.time())
        self._rerankers = rerankers
        self._models: list[ServedModel] = []

    @property
    def all(self) -> tuple[ServedModel, ...]:
        """Those that are loaded, in the order of the settings."""
        return tuple(self._models)

    def load(self) -> None:
        """Load all and warm them up; an error is kept in `failure`."""
        try:
            for place, served in enumerate(self.settings.models):
                made = None if self._rerankers is None else self._rerankers[place]
                self._models.append(ServedModel(served, self.settings, made))
                self._models[-1].warm_up()
            self.ready = True
        except Exception as error:
            self.failure = error

    def find(self, name: str | None) -> ServedModel:
        """The model of a name; the first, for None.

        Raises:
            Refused: 503 while they are being loaded, 404 when there is none of this name.
        """
        if not self.ready:
            raise Refused(503, "the models are being loaded", retry_after=5)
        for model in self._models:
            if name is None or name == model.name or name in model.served.aliases:
                return model
        raise Refused(
            404, f"no model is called {name!r}{did_you_mean(name or '', [each.name for each in self._models])}"
        )

    def close(self) -> None:
        """Let go of all."""
        self.ready = False
        for model in self._models:
            model.close()
