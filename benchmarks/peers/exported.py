"""Classifiers exported from torch: ONNX Runtime, OpenVINO and FlashRank, in float32 and int8.

Exported once a run; text in: tokenised by the fast tokenizer, sorted by length, padded batches.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contest import Scores, Setting
from benchmarks.pairs import Item, by_query, calibration, rectangles

__all__ = ["flashrank", "onnxruntime", "openvino"]

Work = Sequence[Item]
Way = Callable[[Work, int], Scores]
NAMES = ("input_ids", "attention_mask", "token_type_ids")
FLASHRANK_NAME = "ms-marco-TinyBERT-L-2-v2"  # the name of a float model that FlashRank knows; the file is ours
FLASHRANK_FILE = "flashrank-TinyBERT-L-2-v2.onnx"


def onnxruntime(folder: Path, setting: Setting, *, int8: bool = False) -> Callable[[], Way]:
    """An ONNX Runtime session; int8 is its dynamic quantisation."""

    def make() -> Way:
        import onnxruntime as ort

        session = ort.InferenceSession(str(_onnx(folder, int8=int8)), _options(ort))
        wanted = {entry.name for entry in session.get_inputs()}

        def infer(inputs: dict[str, Any]) -> Any:
            return session.run(None, {name: rows for name, rows in inputs.items() if name in wanted})[0]

        return _sorted_batches(folder, infer)

    return make


def openvino(folder: Path, setting: Setting, *, int8: bool = False, streams: int = 1) -> Callable[[], Way]:
    """OpenVINO on the model as it reads it from torch; int8 is NNCF's static quantisation, as its guide has it."""

    def make() -> Way:
        import openvino as ov

        model = _openvino(folder, int8=int8)
        options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": streams}
        if not int8:
            options["INFERENCE_PRECISION_HINT"] = "f32"  # else it takes bfloat16 where the processor has it
        compiled = ov.Core().compile_model(model, "CPU", options)
        names = [entry.get_any_name() for entry in compiled.inputs]
        if streams == 1:
            request = compiled.create_infer_request()
            return _sorted_batches(
                folder, lambda inputs: request.infer({name: inputs[name] for name in names})[compiled.outputs[0]]
            )
        queue = ov.AsyncInferQueue(compiled, streams)
        return _queued(folder, queue, names)

    return make


def flashrank(folder: Path, setting: Setting, *, int8: bool = False) -> Callable[[], Way]:
    """`Ranker.rerank` on our model, with as many threads as everyone else has; it knows no batches."""

    def make() -> Way:
        import onnxruntime as ort
        from flashrank import Ranker, RerankRequest

        home = folder / ("flashrank-int8" if int8 else "flashrank")
        place = home / FLASHRANK_NAME
        place.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
            shutil.copy(folder / name, place / name)
        model = _onnx(folder, int8=int8)
        for file in (model, model.with_suffix(".onnx.data")):
            if file.exists():
                shutil.copy(file, place / file.name)
        shutil.copy(model, place / FLASHRANK_FILE)
        ranker = Ranker(model_name=FLASHRANK_NAME, cache_dir=str(home), log_level="ERROR")
        ranker.session = ort.InferenceSession(str(place / FLASHRANK_FILE), _options(ort))

        def run(work: Work, batch_size: int) -> Scores:
            scores: list[float] = []
            for query, documents in by_query(work):
                passages = [{"id": index, "text": text} for index, text in enumerate(documents)]
                ranked = ranker.rerank(RerankRequest(query=query, passages=passages))
                found = {passage["id"]: float(passage["score"]) for passage in ranked}
                scores += [_logit(found[index]) for index in range(len(documents))]
            return scores

        return run

    return make


def _logit(probability: float) -> float:
    probability = min(max(probability, 1e-12), 1 - 1e-12)
    return math.log(probability / (1 - probability))


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return options


def _sorted_batches(folder: Path, infer: Callable[[dict[str, Any]], Any]) -> Way:
    encode = _encoder(folder)

    def run(work: Work, batch_size: int) -> Scores:
        scores = np.empty(len(work), dtype=np.float32)
        for batch, inputs in encode(work, batch_size):
            scores[batch] = infer(inputs)[:, 0]
        return [float(score) for score in scores]

    return run


def _queued(folder: Path, queue: Any, names: Sequence[str]) -> Way:
    encode = _encoder(folder)

    def run(work: Work, batch_size: int) -> Scores:
        scores = np.empty(len(work), dtype=np.float32)

        def keep(request: Any, batch: list[int]) -> None:
            scores[batch] = request.get_output_tensor(0).data[:, 0]

        queue.set_callback(keep)
        for batch, inputs in encode(work, batch_size):
            queue.start_async({name: inputs[name] for name in names}, batch)
        queue.wait_all()
        return [float(score) for score in scores]

    return run


def _encoder(folder: Path) -> Callable[[Work, int], Any]:
    """Text in: (indices, int64 arrays by name) batch by batch."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    backend.no_padding()

    def encode(work: Work, batch_size: int) -> Any:
        encoded = backend.encode_batch([(item.query, item.document) for item in work])
        for batch in rectangles([len(entry.ids) for entry in encoded], batch_size):
            longest = len(encoded[batch[0]].ids)
            rows = {name: np.zeros((len(batch), longest), dtype=np.int64) for name in NAMES}
            for place, index in enumerate(batch):
                entry = encoded[index]
                rows["input_ids"][place, : len(entry.ids)] = entry.ids
                rows["attention_mask"][place, : len(entry.ids)] = 1
                rows["token_type_ids"][place, : len(entry.ids)] = entry.type_ids
            yield batch, rows

    return encode


class _Logits(torch.nn.Module):
    """A classifier with plain inputs and one output, for exporters."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=False
        )[0]


def _example() -> tuple[torch.Tensor, ...]:
    ids = torch.randint(5, 100, (4, 24))
    return ids, torch.ones_like(ids), torch.zeros_like(ids)


def _onnx(folder: Path, *, int8: bool) -> Path:
    plain, quantised = folder / "model.onnx", folder / "model_int8.onnx"
    if not plain.exists():
        batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=512)
        torch.onnx.export(
            _Logits(_stock(folder)),
            _example(),
            str(plain),
            input_names=list(NAMES),
            output_names=["logits"],
            dynamic_shapes=({0: batch, 1: tokens},) * 3,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if int8 and not quantised.exists():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load(str(plain))
        del model.graph.value_info[:]  # the exporter's shapes contradict those that the quantiser infers
        quantize_dynamic(model, quantised, weight_type=QuantType.QInt8, per_channel=True)
    return quantised if int8 else plain


def _openvino(folder: Path, *, int8: bool) -> Any:
    import openvino as ov

    path = folder / ("openvino_int8.xml" if int8 else "openvino.xml")
    if not path.exists():
        ov.save_model(_quantised(folder) if int8 else _converted(folder), path, compress_to_fp16=False)
    return ov.Core().read_model(path)


def _converted(folder: Path) -> Any:
    """As OpenVINO reads it from torch, with free batch and length."""
    import openvino as ov

    model = ov.convert_model(_Logits(_stock(folder)), example_input=_example())
    for entry, name in zip(model.inputs, NAMES, strict=True):
        entry.get_tensor().set_names({name})
        entry.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
    model.validate_nodes_and_infer_types()
    return model


def _quantised(folder: Path) -> Any:
    """As NNCF's guide has it for transformers."""
    import nncf

    texts = _calibration(folder)
    data = nncf.Dataset(texts)
    return nncf.quantize(_converted(folder), data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts))


def _calibration(folder: Path) -> list[dict[str, Any]]:
    encode = _encoder(folder)
    return [inputs for _, inputs in encode(calibration(folder), 1)]


def _stock(folder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval()
