"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rerank.serve.models import Models

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DOCUMENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

TOTALS = {
    "questions": ("rerank_questions", "Questions that algorithms asked"),
    "memory_hits": ("rerank_questions_remembered", "Questions that were answered from memory, or on their way already"),
    "calls": ("rerank_calls", "Forward passes, or requests to a hosted model"),
    "seconds": ("rerank_model_seconds", "Seconds of work inside the model"),
    "flops": ("rerank_flops", "Floating-point operations"),
    "truncated_documents": ("rerank_truncated_documents", "Documents that were cut at their end"),
    "repairs": ("rerank_repairs", "Answers of models that had to be repaired"),
}
"""Amounts of the ledger: (name, help)."""

TOKENS = {
    "tokens_real": "computed",
    "tokens_padded": "padding",
    "tokens_reused": "reused",
    "tokens_generated": "written",
}


class Metrics:
    """Counts requests as they end, and reads everything else off the models when it is asked.

    Args:
        models: of the server.
    """

    def __init__(self, models: Models) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rerank_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "rerank_request_seconds",
            "From a request's arrival to its response",
            ["path", "model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.documents = Histogram(
            "rerank_request_documents",
            "Documents of a request",
            ["model"],
            buckets=DOCUMENTS,
            registry=self.registry,
        )
        self.registry.register(_OfModels(models))

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)


class _OfModels(Collector):
    """What ledgers and queues say now."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """Every metric, with one sample a model."""
        ready = GaugeMetricFamily("rerank_ready", "1 when all models are loaded and warm")
        ready.add_metric([], float(self._models.ready))
        yield ready
        yield from self._totals()
        yield from self._gauges()

    def _totals(self) -> Iterator[Metric]:
        tokens = CounterMetricFamily("rerank_tokens", "Tokens by what became of them", labels=["model", "kind"])
        found = {key: CounterMetricFamily(*TOTALS[key], labels=["model"]) for key in TOTALS}
        for model in self._models.all:
            total = model.ledger.total
            for key, family in found.items():
                family.add_metric([model.name], total.get(key, 0))
            for key, kind in TOKENS.items():
                tokens.add_metric([model.name, kind], total.get(key, 0))
        yield from found.values()
        yield tokens

    def _gauges(self) -> Iterator[Metric]:
        requests = GaugeMetricFamily("rerank_queue_requests", "Requests that wait or are at work", labels=["model"])
        documents = GaugeMetricFamily("rerank_queue_documents", "Their documents", labels=["model"])
        fill = GaugeMetricFamily(
            "rerank_batch_fill", "Mean share of the token budget that a forward pass filled", labels=["model"]
        )
        for model in self._models.all:
            requests.add_metric([model.name], model.admission.open_requests)
            documents.add_metric([model.name], model.admission.open_documents)
            if (share := model.batch_fill) is not None:
                fill.add_metric([model.name], share)
        yield from (requests, documents, fill)
