"""Encoders of BERT's shape on the CPU through OpenVINO: in int8, faster than float32, and nearly its ranking.

Embeddings and the head are torch's, in float32; the layers between are an OpenVINO graph (`openvino_graph`). A batch is
cut into passes of texts of similar length, and as many passes run at once as torch has threads, one thread each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rerank.checkpoints import cache
from rerank.engine.encoder import Scored
from rerank.engine.encoders import int8_calibration as calibration
from rerank.engine.encoders.families import FAMILIES, head_of, head_size, keep_head_in_float32, taken_apart, why_stock
from rerank.engine.encoders.flops import ForwardCost
from rerank.engine.encoders.layers import HEAD_ROWS, Backbone, in_fixed_rows
from rerank.engine.encoders.openvino_graph import Graph, Ranges, check_layers
from rerank.engine.encoders.row import row_of
from rerank.engine.packing import by_length
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError
from rerank.registry import extra_for

__all__ = ["OpenvinoEncoder"]

PASS_TOKENS = 1024
"""Of a pass at most: beyond that the feed-forward layers' activations leave a core's cache."""

HIDDEN = np.float32(-1e30)  # a score that softmax makes nothing of


class OpenvinoEncoder:
    """A sequence classifier with the interface of `Encoder`.

    Args:
        model: a transformers `…ForSequenceClassification` in float32 on the CPU; taken apart: use the encoder from
            then on.
        texts: pairs to calibrate int8 on: the ranges of activations are measured on them, in float32. None computes in
            float32.
        fingerprint: of the checkpoint; ranges are kept under it for the next time. None keeps nothing.
        deterministic: one text a pass, so that no bit of a score can depend on what else is in its batch.

    Raises:
        MissingExtra: when openvino is not installed.
        CheckpointError: when the model's layers are not of BERT's shape.
    """

    device = torch.device("cpu")
    packs = True

    def __init__(
        self,
        model: Any,
        texts: Sequence[Pair] | None = None,
        *,
        fingerprint: str | None = None,
        deterministic: bool = False,
    ) -> None:
        self.version = _version()
        self.deterministic = deterministic
        self.streams = torch.get_num_threads()
        with torch.inference_mode():
            self._take_apart(model)
            self.calibration = None if texts is None else calibration.key_of(fingerprint or "", texts, self.version)
            ranges = None if texts is None else self._ranges(texts, kept=fingerprint is not None)
            self._queue = self._compiled(ranges)
        self._backbone.layers = nn.ModuleList()  # the graph has its own

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        kind = "float32" if self.calibration is None else "int8"
        return f"openvino {kind}, {'one text a pass' if self.deterministic else 'packed'}"

    @property
    def notes(self) -> dict[str, str]:
        """What its scores depend on besides weights and texts, for the ledger."""
        return {"openvino": self.version, "int8 calibration": self.calibration or "none"}

    @torch.inference_mode()
    def score(self, pairs: Sequence[Pair]) -> Scored:
        """Logits of a batch, float32, in the order given."""
        lengths = [len(pair.ids) for pair in pairs]
        passes = self._passes(lengths)
        pooled = np.empty((len(pairs), self._width), np.float32)
        for places in passes:
            inputs = self._inputs([pairs[place] for place in places])
            self._queue.start_async(dict(enumerate(inputs)), (places, pooled))
        self._queue.wait_all()
        sides = [max(lengths[place] for place in places) for places in passes for _ in places]
        heads = -(-len(pairs) // HEAD_ROWS) * HEAD_ROWS
        return Scored(
            in_fixed_rows(self._head, torch.from_numpy(pooled)), 0, self._cost.flops(sum(lengths), sides, heads)
        )

    def _passes(self, lengths: Sequence[int]) -> list[list[int]]:
        """Similar lengths together, the longest first, and work for every stream."""
        if self.deterministic:
            return [[place] for place in sorted(range(len(lengths)), key=lambda place: -lengths[place])]
        return by_length(lengths, min(PASS_TOKENS, max(-(-sum(lengths) // self.streams), 1)))

    def _inputs(self, pairs: Sequence[Pair]) -> list[NDArray[Any]]:
        """Of the graph, in the order of `INPUTS`."""
        lengths = np.array([len(pair.ids) for pair in pairs])
        row = row_of(pairs, int(lengths.sum()))
        first = row.first.numpy().astype(np.int32)
        place = np.arange(lengths.max(), dtype=np.int32)
        real = place < lengths[:, None]  # [texts, longest]
        slots = np.where(real, first[:, None] + place, 0)
        back = np.flatnonzero(real).astype(np.int32)
        mask = np.where(real, np.float32(0), HIDDEN)[:, None, None]
        return [self._backbone._embed(row)[None].numpy(), first, slots, back, mask]

    def _take_apart(self, model: Any) -> None:
        kind = model.config.model_type
        if (why := why_stock(model)) is not None or FAMILIES[kind].mean(model.config):
            raise CheckpointError(f"OpenVINO cannot run {type(model).__name__} here ({why or 'it pools by the mean'})")
        keep_head_in_float32(model)
        self._head = head_of(model)
        self._backbone: Backbone = taken_apart(model, varlen=False)
        check_layers(model, list(self._backbone.layers))
        self._backbone.layers[-1].cut()  # type: ignore[operator]
        self._width = model.config.hidden_size
        self._cost = ForwardCost.of_backbone(self._backbone, head_size(model), first=True)

    def _ranges(self, texts: Sequence[Pair], *, kept: bool) -> Ranges:
        path = cache.folder() / "int8" / f"{self.calibration}.npz"
        if kept and (ranges := calibration.kept(path)) is not None:
            return ranges
        graph = Graph(self._layers, watch=True)
        compiled = _compile(graph, streams=1)
        inputs = (dict(enumerate(self._inputs([text]))) for text in texts)
        ranges = calibration.measured(graph, (list(compiled(one).values()) for one in inputs))
        if kept:
            calibration.keep(path, ranges)
        return ranges

    def _compiled(self, ranges: Ranges | None) -> Any:
        from openvino import AsyncInferQueue

        queue = AsyncInferQueue(_compile(Graph(self._layers, ranges), self.streams), self.streams)
        queue.set_callback(_take)
        return queue

    @property
    def _layers(self) -> list[Any]:
        return list(self._backbone.layers)


def _compile(graph: Graph, streams: int) -> Any:
    """One thread for each stream: a pass then depends on no other thread's share of the work."""
    from openvino import Core

    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    return Core().compile_model(graph.model, "CPU", options)


def _take(request: Any, given: tuple[list[int], NDArray[np.float32]]) -> None:
    places, pooled = given
    pooled[places] = request.get_output_tensor(0).data.reshape(len(places), -1)


def _version() -> str:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise extra_for("dtype 'int8'", "openvino") from error
    return str(openvino.__version__).partition("-")[0]
