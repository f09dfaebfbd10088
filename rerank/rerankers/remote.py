"""A reranker that somebody serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank.calibration import Calibration
from rerank.rerankers.reranker import Reranker

__all__ = ["RemoteReranker"]


class RemoteReranker(Reranker):
    """A Cohere-, Jina- or TEI-shaped server as a reranker: ours, vLLM, TEI, infinity, Cohere, Jina, Voyage …

    The same as `Reranker("http://HOST/v1/rerank#MODEL")`, with the options of a server as arguments; it stands in
    pipelines, keeps a journal and a ledger, and its rankings carry the server's scores as they are.

    Args:
        address: "http://HOST:PORT", of a server that says how it is asked; "http://HOST/v1/rerank"; or "cohere:MODEL",
            "jina:MODEL", "voyage:MODEL".
        model: as the server calls it, where it serves several; part of the name where a provider is named.
        batch: the most documents of a request; by default 32 for TEI and where that is not known, else 1,000. A model
            that reads its documents together sees those of a request.
        dialect, api_key_env, instruction_field, extra, leave_out, timeout, concurrent, tries, input_price,
            search_price, identity: as of `rerank.judges.remote.Remote`.
        calibration, threshold, journal: as of `Reranker`.

    Raises:
        UnknownName, InputError: as `rerank.judges.remote.Remote` does.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "",
        batch: int | None = None,
        calibration: str | Path | Calibration | None = None,
        threshold: float | None = None,
        journal: str | Path | None = None,
        **options: Any,
    ) -> None:
        name = f"{address}#{model}" if model else address
        asked = options if batch is None else {"group": batch, **options}
        super().__init__(
            name, judge="remote", options=asked, calibration=calibration, threshold=threshold, journal=journal
        )
