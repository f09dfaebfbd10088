"""BERT's layers as an OpenVINO graph: one row of tokens, first tokens alone in the last layer; in float32 or int8.

The row is `[1, tokens, hidden]`: OpenVINO joins a quantiser to a layer norm only where there are three dimensions.
Linear layers, layer norms and GELU see the tokens and nothing else. Attention sees a rectangle [texts, longest] that is
gathered from the row and scattered back, as in ByteTransformer (Zhai et al., 2022, https://arxiv.org/abs/2210.03052).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rerank.engine.encoders.attention import TextAttention
from rerank.engine.encoders.layers import PostNorm
from rerank.errors import CheckpointError

__all__ = ["INPUTS", "Graph", "Ranges", "check_layers"]

Ranges: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Of what is quantised, by name: the least and the greatest value of each channel that calibration saw, [2, …]."""

INPUTS = ("hidden", "first", "slots", "back", "mask")
"""Float32 [1, tokens, hidden]; int32 [texts], [texts, longest] and [tokens]; float32 [texts, 1, 1, longest]."""

LEVELS = 127

SHIFT = 0.9
"""How much of the difference between channels' ranges the weights take over: 0.3 ruined the scores of MiniLM-L12,
0.5 cost Kendall's tau 0.04, 0.9 and 1 cost it 0.01. GELU's outliers, one channel in 1,536, are why."""


@dataclass(frozen=True)
class _Watched:
    name: str
    low: Any
    high: Any


class Graph:
    """The layers of a backbone, from the output of its embeddings to the hidden states of first tokens.

    Args:
        layers: BERT's shape, the last one cut (`Layer.cut`).
        ranges: for int8; None computes in float32.
        watch: give, beside the result, the least and the greatest value of everything that int8 would quantise.

    Attributes:
        model: an `openvino.Model` that takes `INPUTS`.
        watched: names in the order of the further results, two for each.
    """

    def __init__(self, layers: Sequence[PostNorm], ranges: Ranges | None = None, *, watch: bool = False) -> None:
        import openvino
        from openvino import opset13

        self.op: Any = opset13
        self.ranges, self.watch = ranges, watch
        self._watched: list[_Watched] = []
        self.heads, self.width = layers[0].heads, layers[0].width
        inputs = self._inputs(layers[0].outward.out_features)  # type: ignore[arg-type]
        self.hidden, self.first, self.slots, self.back, self.mask = inputs
        results = [self._through(layers), *(end for seen in self._watched for end in (seen.low, seen.high))]
        self.model = openvino.Model([self.op.result(result) for result in results], inputs, "reranker")

    @property
    def watched(self) -> list[str]:
        """The names of what is watched, in the order of the results."""
        return [seen.name for seen in self._watched]

    def _inputs(self, hidden: int) -> list[Any]:
        whole, real = np.int32, np.float32
        shapes = (([1, -1, hidden], real), ([-1], whole), ([-1, -1], whole), ([-1], whole), ([-1, 1, 1, -1], real))
        return [self.op.parameter(shape, kind) for shape, kind in shapes]

    def _through(self, layers: Sequence[PostNorm]) -> Any:
        hidden = self.hidden
        for index, layer in enumerate(layers[:-1]):
            hidden = self._layer(layer, hidden, str(index))
        return self._last(layers[-1], hidden, "last")

    def _layer(self, layer: PostNorm, hidden: Any, name: str) -> Any:
        inward: Any = layer.inward
        quantised, weight = self._smoothed(hidden, inward.weight.detach(), f"{name}.inward")
        rows = (quantised, quantised, quantised)
        q, k, v = self._inwards(rows, weight, inward.bias.detach())
        q, k, v = (self._quantised(part, f"{name}.{kind}") for part, kind in ((q, "query"), (k, "key"), (v, "value")))
        context = self._attention(self._texts(q), self._texts(k), self._texts(v))
        return self._finish(layer, self._rows(self._joined(context, name), self.back), hidden, name)

    def _last(self, layer: PostNorm, hidden: Any, name: str) -> Any:
        """Keys and values of every token, all else for first tokens alone; attention then costs little and is exact."""
        inward: Any = layer.inward
        query: Any = layer.query
        together = torch.cat([query.weight, inward.weight]).detach()
        quantised, weight = self._smoothed(hidden, together, f"{name}.inward")
        bias = torch.cat([query.bias, inward.bias]).detach()
        rows = (self._rows(quantised, self.first), quantised, quantised)
        q, k, v = self._inwards(rows, weight, bias)
        alone = self.op.reshape(q, self._constant([-1, 1, self.heads, self.width // self.heads]), False)
        context = self._attention(self._by_head(alone), self._texts(k), self._texts(v), exact=True)
        return self._finish(layer, self._joined(context, name), self._rows(hidden, self.first), name)

    def _inwards(self, rows: Sequence[Any], weight: Tensor, bias: Tensor) -> list[Any]:
        """Queries, keys and values; attention's scale is in the queries."""
        scales = ((self.width // self.heads) ** -0.5, 1.0, 1.0)
        parts = zip(rows, weight.chunk(3), bias.chunk(3), scales, strict=True)
        return [self._product(row, weight * scale, bias * scale) for row, weight, bias, scale in parts]

    def _finish(self, layer: PostNorm, context: Any, hidden: Any, name: str) -> Any:
        """Output projection, and the feed-forward half."""
        outward, up, down = (cast("nn.Linear", linear) for linear in (layer.outward, layer.up, layer.down))
        projected = self._product(context, outward.weight.detach(), outward.bias)
        attended = self._norm(layer.attention_norm, self.op.add(projected, hidden))
        rows, weight = self._smoothed(attended, up.weight, f"{name}.up")
        inner = self._activated(layer, self._product(rows, weight, up.bias))
        rows, weight = self._smoothed(inner, down.weight, f"{name}.down", symmetric=False)
        return self._norm(layer.output_norm, self.op.add(self._product(rows, weight, down.bias), attended))

    # -- attention -----------------------------------------------------------------------------------------------

    def _attention(self, q: Any, k: Any, v: Any, *, exact: bool = False) -> Any:
        """[texts, heads, *, dim] -> [texts, *, heads, dim]."""
        scores = self.op.add(self.op.matmul(q, k, False, True), self.mask)
        weights = self.op.softmax(scores, -1)
        if not exact:
            weights = self._limited(weights, 0.0, 1.0)
        return self._by_head(self.op.matmul(weights, v, False, False))

    def _joined(self, context: Any, name: str) -> Any:
        """[texts, *, heads, dim] -> [1, texts * *, width]."""
        quantised = self._quantised(context, f"{name}.outward")
        return self.op.reshape(quantised, self._constant([1, -1, self.width]), False)

    def _texts(self, row: Any) -> Any:
        """[1, tokens, width] -> [texts, heads, longest, dim]; what is beyond a text's end is hidden by the mask."""
        flat = self.op.reshape(row, self._constant([-1, self.width]), False)
        texts = self.op.gather(flat, self.slots, self._constant(np.int32(0)))
        shape = self._constant([0, 0, self.heads, self.width // self.heads])
        return self._by_head(self.op.reshape(texts, shape, True))

    def _by_head(self, texts: Any) -> Any:
        return self.op.transpose(texts, self._constant([0, 2, 1, 3]))

    def _rows(self, row: Any, indices: Any) -> Any:
        return self.op.gather(row, indices, self._constant(np.int32(1)))

    # -- row by row ----------------------------------------------------------------------------------------------

    def _activated(self, layer: PostNorm, inner: Any) -> Any:
        kind = activation(layer)
        return self.op.relu(inner) if kind == "relu" else self.op.gelu(inner, kind)

    def _norm(self, norm: Any, hidden: Any) -> Any:
        scaled = self.op.mvn(hidden, self._constant([-1]), True, norm.eps, "inside_sqrt")
        return self.op.add(self.op.multiply(scaled, self._vector(norm.weight)), self._vector(norm.bias))

    def _product(self, row: Any, weight: Tensor, bias: Tensor) -> Any:
        return self.op.add(self.op.matmul(row, self._weight(weight), False, True), self._vector(bias))

    # -- numbers -------------------------------------------------------------------------------------------------

    def _weight(self, weight: Tensor) -> Any:
        """In int8, each output channel with a scale of its own."""
        values = weight.float().numpy()
        if self.ranges is None:
            return self._constant(values)
        scale = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12).astype(np.float32) / LEVELS
        levels = np.rint(values / scale).astype(np.int8)
        return self.op.multiply(self.op.convert(self._constant(levels), "f32"), self._constant(scale))

    def _quantised(self, value: Any, name: str) -> Any:
        """With one range for all channels."""
        self._see(value, name)
        if self.ranges is None:
            return value
        low, high = self.ranges[name]
        return self._limited(value, *_limits(low.min(), high.max(), symmetric=True))

    def _smoothed(self, value: Any, weight: Tensor, name: str, *, symmetric: bool = True) -> tuple[Any, Tensor]:
        """Quantised with a range for each channel, and the weights that make up for it.

        Channels with outliers would cost all others their levels. As in SmoothQuant (Xiao et al., 2023,
        https://arxiv.org/abs/2211.10438) some of a channel's range goes over to the weights that read it.
        """
        self._see(value, name)
        if self.ranges is None:
            return value, weight.detach()
        low, high = (ends.reshape(-1) for ends in self.ranges[name])
        shares = _shares(np.maximum(-low, high), weight.detach().abs().amax(0).numpy())
        limits = _limits((low / shares).min(), (high / shares).max(), symmetric=symmetric)
        evened = self.op.multiply(value, self._constant((1 / shares)[None, None]))
        return self._limited(evened, *limits), weight.detach() * torch.from_numpy(shares)

    def _limited(self, value: Any, low: Any, high: Any) -> Any:
        if self.ranges is None:
            return value
        ends = [self._constant(np.float32(low)), self._constant(np.float32(high))]
        return self.op.fake_quantize(value, *ends, *ends, 256)

    def _see(self, value: Any, name: str) -> None:
        if self.watch:
            axes = self._constant([0, 1])
            self._watched.append(_Watched(name, self.op.reduce_min(value, axes), self.op.reduce_max(value, axes)))

    def _vector(self, vector: Tensor) -> Any:
        return self._constant(vector.detach().float().numpy()[None, None])

    def _constant(self, value: Any) -> Any:
        array = np.array(value, order="C")
        return self.op.constant(array.astype(np.int64) if isinstance(value, list) else array)


def _shares(seen: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of each channel's range the weights take over, 1 in the geometric mean."""
    shares = np.maximum(seen, 1e-5) ** SHIFT / np.maximum(weights, 1e-5) ** (1 - SHIFT)
    normed: NDArray[np.float32] = (shares / np.exp(np.log(shares).mean())).astype(np.float32)
    return normed


def _limits(low: float, high: float, *, symmetric: bool) -> tuple[np.float32, np.float32]:
    """The values of the first and the last of 256 levels; zero is a level."""
    if symmetric:
        step = max(-low, high, 1e-12) / LEVELS
        return np.float32(-(LEVELS + 1) * step), np.float32(LEVELS * step)
    low, high = min(low, 0.0), max(high, 1e-12)
    step = (high - low) / 255
    zero = round(-low / step)
    return np.float32(-zero * step), np.float32((255 - zero) * step)


def activation(layer: PostNorm) -> str:
    """OpenVINO's word for a layer's activation, or "" when it is another."""
    from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation

    kinds: dict[type, str] = {
        GELUActivation: "erf",
        nn.GELU: "erf",
        NewGELUActivation: "tanh",
        GELUTanh: "tanh",
        nn.ReLU: "relu",
    }
    kind = kinds.get(type(layer.activation), "")
    return "tanh" if kind == "erf" and getattr(layer.activation, "approximate", "none") == "tanh" else kind


def check_layers(model: Any, layers: Sequence[nn.Module]) -> None:
    """Refuse layers of another shape than BERT's.

    Raises:
        CheckpointError: naming the family.
    """
    plain = all(type(layer) is PostNorm and type(layer.attention) is TextAttention for layer in layers)
    if not plain or not all(activation(layer) for layer in layers if isinstance(layer, PostNorm)):
        raise CheckpointError(
            f"OpenVINO runs layers of BERT's shape here, and {type(model).__name__} has others; "
            "leave dtype out for float32"
        )
