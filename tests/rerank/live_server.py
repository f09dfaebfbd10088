"""A real server on loopback, in a thread of the test's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import transformers
from small_folders import VOCABULARY
from transformers.utils import logging

from rerank import Reranker
from rerank.serve import Served, Settings, create_app
from rerank.serve.running import server_for

WAIT = 60


def bert(folder: Path, *, labels: int = 1) -> Path:
    """A tiny cross-encoder that reads 64 tokens; every word of a text changes its score."""
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(VOCABULARY))}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary, model_max_length=64)
    transformers.set_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.1,
    )  # fmt: skip
    logging.disable_progress_bar()
    transformers.BertForSequenceClassification(config).eval().save_pretrained(folder)
    logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def live(*rerankers: Reranker, names: Sequence[str] = ("first", "second", "third"), **told: Any) -> Iterator[Live]:
    """A server of these rerankers, warm, and closed at the end."""
    models = tuple(Served(name) for name in names[: len(rerankers)])
    settings = Settings(models=told.pop("models", models), port=0, **told)
    app = create_app(settings, rerankers)
    server, _ = server_for(settings, app)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        until(lambda: server.started and app.state.models.ready)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT) as client:
            yield Live(client, app, server, port)
    finally:
        app.state.models.ending = server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()


class Live:
    """What a test has of a server."""

    def __init__(self, client: httpx.Client, app: Any, server: Any, port: int) -> None:
        self.client, self.app, self.server, self.port = client, app, server, port

    @property
    def models(self) -> Any:
        """Its models."""
        return self.app.state.models

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """A JSON request."""
        return self.client.post(path, json=body, **options)


def until(true: Any, seconds: float = WAIT) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.005)
