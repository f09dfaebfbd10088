"""Dynamically quantised ONNX back into a Hugging Face folder, without an ONNX runtime.

onnxruntime's dynamic quantisation leaves embeddings, layer norms and biases under their PyTorch names. The matrix of a
linear layer has lost its name ("onnx::MatMul_1853") and been transposed; its bias has kept its own, so the module is
found by following MatMulInteger → Cast → Mul → Add(bias). A layer without a bias is named by its node, which keeps the
path of the module ("/m/decoder/block.0/layer.0/SelfAttention/q/MatMul_quant"). A quantised tensor X is stored as
`X_quantized`, `X_scale` and `X_zero_point`, and stands for (X_quantized − X_zero_point) · X_scale.

An encoder-decoder is two graphs, each of a module that somebody wrapped for the export: "enc.block.0…" in
`encoder.onnx` is the model's "encoder.block.0…", "m.decoder.block.0…" its "decoder.block.0…".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["REVISION", "to_folder", "weights"]

REVISION = 1
"""Raise it when the same file is converted otherwise than before: old results are then made anew."""

QUANTISED = "_quantized"


def to_folder(source: Path, config: Mapping[str, Any], target: Path) -> None:
    """Make a Hugging Face folder of a folder with graphs and a tokenizer.

    Args:
        source: has model.onnx, or encoder.onnx and decoder.onnx; tokenizer.json; any other files of the tokenizer,
            which are copied.
        config: becomes config.json; `architectures` names the transformers class whose parameters must all be there.
        target: an existing, empty folder.

    Raises:
        CheckpointError: when the graphs are not such a model's, or a parameter is missing, left over or misshapen.
    """
    from safetensors.numpy import save

    found = _collect(sorted(source.glob("*.onnx")), _shapes(config))
    _check(found, config)
    tensors = {name: found[name] for name in sorted(found)}
    (target / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    (target / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")
    for path in source.iterdir():
        if path.suffix != ".onnx" and path.name != "tokenizer.json":
            shutil.copyfile(path, target / path.name)
    _unpadded_tokenizer(source / "tokenizer.json", target / "tokenizer.json")


def weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every parameter in an ONNX file, under its PyTorch name and in PyTorch's layout.

    Raises:
        CheckpointError: when the file is no ONNX, a matrix cannot be named, or a quantised tensor is never used.
    """
    graph = _read(path)
    stored = _Stored(graph)
    found = {name: stored.take(name) for name in stored.vectors()}
    for node in graph.node:
        if node.op_type == "Gather" and stored.is_matrix(node.input[0]):
            found[node.input[0].removesuffix(QUANTISED)] = stored.take(node.input[0])
        elif node.op_type in ("MatMul", "MatMulInteger") and stored.is_matrix(node.input[1]):
            found[f"{_module(graph, node)}.weight"] = stored.take(node.input[1]).T.copy()
    if left := stored.left():
        raise CheckpointError(
            f"{path.name}: {len(left)} tensors are in no layer that is known, the first is {left[0]!r}"
        )
    return found


def _collect(graphs: Sequence[Path], wanted: Container[str]) -> dict[str, NDArray[np.float32]]:
    """What all graphs hold, by the names of the model; T5's embeddings, which both of its graphs hold, once."""
    import numpy as np

    found: dict[str, NDArray[np.float32]] = {}
    for path in graphs:
        for name, array in weights(path).items():
            found[_unwrapped(name, path.stem, wanted)] = array
    for name in [name for name in found if name.endswith(".embed_tokens.weight") and "shared.weight" in found]:
        if not np.array_equal(found["shared.weight"], found.pop(name)):
            raise CheckpointError(f"{name} differs from shared.weight, and a T5 has one table of embeddings")
    return found


def _unwrapped(name: str, part: str, wanted: Container[str]) -> str:
    """A parameter's name without what a wrapper put before it, or took from it when it wrapped a part of the model."""
    inner = name.partition(".")[2]
    return next((each for each in (name, inner, f"{part}.{inner}") if each in wanted), name)


class _Stored:
    """The tensors of a graph, and which of them have been taken."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._arrays: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        self._taken: set[str] = set()

    def vectors(self) -> Iterator[str]:
        """Names of the float vectors that have kept their names: biases and layer norms."""
        return (name for name, array in self._arrays.items() if array.ndim == 1 and name.endswith((".weight", ".bias")))

    def is_matrix(self, name: str) -> bool:
        """Whether it is a stored matrix of weights, rather than something computed or a constant of indices."""
        array = self._arrays.get(name)
        return array is not None and array.ndim == 2 and array.dtype.name in ("float32", "int8", "uint8")

    def take(self, name: str) -> NDArray[np.float32]:
        """A tensor in float32, with its quantisation undone."""
        import numpy as np

        self._taken.add(name)
        array: NDArray[Any] = self._arrays[name]
        if not name.endswith(QUANTISED):
            return array.astype(np.float32)
        stem = name.removesuffix(QUANTISED)
        scale = self._arrays[f"{stem}_scale"].astype(np.float32)  # [] for the tensor, or [columns]
        zero = np.asarray(self._arrays.get(f"{stem}_zero_point", 0)).astype(np.float32)
        undone: NDArray[np.float32] = (array.astype(np.float32) - zero) * scale
        return undone

    def left(self) -> list[str]:
        """Weight matrices that nobody took."""
        return sorted(name for name in self._arrays if self.is_matrix(name) and name not in self._taken)


def _read(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path, load_external_data=False).graph
    except (DecodeError, OSError) as error:
        raise CheckpointError(f"{path.name} is no ONNX file ({error})") from error


def _module(graph: Any, node: Any) -> str:
    """The linear layer that a matrix product belongs to, by the bias that is added to it or by the product's path."""
    step: Any = node
    while step is not None:
        if step.op_type == "Add":
            for name in step.input:
                if name.endswith(".bias"):
                    return str(name).removesuffix(".bias")
            break
        step = next((user for user in graph.node if step.output[0] in user.input), None)
    if node.name.startswith("/"):
        return str(node.name).strip("/").rpartition("/")[0].replace("/", ".")
    raise CheckpointError(f"no bias is added to the product {node.name!r}, so its layer cannot be named")


def _check(found: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> None:
    """See that the tensors are exactly the parameters of the model that the config describes."""
    wanted = _shapes(config)
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if "shared.weight" in found:
        missing = [name for name in missing if not name.endswith(".embed_tokens.weight")]  # its other names
    wrong = [name for name in wanted if name in found and found[name].shape != wanted[name]]
    for names, what in ((missing, "are missing"), (extra, "are left over"), (wrong, "have another shape")):
        if names:
            model = config["architectures"][0]
            raise CheckpointError(f"the weights are no {model}: {len(names)} tensors {what}, the first is {names[0]!r}")


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch
    import transformers

    made = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        model = getattr(transformers, config["architectures"][0])(made)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _unpadded_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer with padding and truncation switched off: exported ones pad everything to the full length."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(target))
