"""Small encoders with random weights in several libraries' layouts, and what sentence-transformers makes of them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from rerank.questions import Grade
from rerank.types import Document, Query

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
TEXTS = (
    "Berlin has 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "New York City is famous for its museums [3].",
    "The Berlin Wall fell in 1989; people danced. " * 9,
    "!!! ... ???",
    "",
)
QUERIES = ("how many people live in Berlin?", "museums", "which wall fell, and why did so many people dance? " * 4)
GRADES = [
    Grade(Query(f"q{number}", query), Document(f"d{index}", text))
    for number, query in enumerate(QUERIES)
    for index, text in enumerate(TEXTS)
]


def backbone(folder: Path, real: Path, *, seed: int = 3, family: str = "bert", **options: Any) -> Any:
    """A small encoder saved with a real tokenizer of BERT's vocabulary."""
    transformers.set_seed(seed)
    shape = {"vocab_size": 30_522, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.AutoConfig.for_model(
        family, **(shape | {"intermediate_size": 96, "max_position_embeddings": 512, "pad_token_id": 0} | options)
    )
    model = transformers.AutoModel.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    for name in TOKENIZER:
        if (real / name).is_file():
            shutil.copy(real / name, folder / name)
    return model


def stanford(folder: Path, real: Path, **metadata: Any) -> Path:
    """ColBERT's own layout: the backbone's weights under "bert.", a matrix beside them, and artifact.metadata."""
    backbone(folder, real)
    stored = load_file(folder / "model.safetensors")
    weights = {f"bert.{name}": tensor for name, tensor in stored.items()}
    weights["linear.weight"] = torch.randn(24, 64, generator=torch.Generator().manual_seed(1)) * 0.2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _change(folder / "config.json", architectures=["HF_ColBERT"])
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


def pylate(folder: Path, real: Path, **settings: Any) -> Path:
    """PyLate's older layout: a Dense behind the model, everything else in code."""
    backbone(folder, real)
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": torch.randn(24, 64) * 0.2}, folder / "1_Dense/model.safetensors", {"format": "pt"})
    dense = {"in_features": 64, "out_features": 24, "bias": False}
    (folder / "1_Dense/config.json").write_text(
        json.dumps(dense | {"activation_function": "torch.nn.modules.linear.Identity"})
    )
    types = ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")
    modules = [{"idx": i, "name": str(i), "path": path, "type": types[i]} for i, path in enumerate(("", "1_Dense"))]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 300, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "ColBERT", "similarity_fn_name": "MaxSim"} | settings)
    )
    return folder


def multi_vector(
    folder: Path, real: Path, *, family: str = "bert", mask: dict[str, Any] | None = None, **knobs: Any
) -> Path:
    """The layout that sentence-transformers writes itself."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    plain = folder.with_name(f"{folder.name}-backbone")
    ids = {"bos_token_id": 101, "eos_token_id": 102, "cls_token_id": 101, "sep_token_id": 102}
    options = {"modernbert": {"local_attention": 16, **ids}}
    backbone(plain, real, family=family, **options.get(family, {}))
    prompts = knobs.pop("prompts", {"query": "query: ", "document": "text: "})
    modules = [
        Transformer(str(plain), **knobs),
        Dense(64, 24, bias=True, activation_function=nn.Tanh(), module_input_name="token_embeddings"),
        MultiVectorMask(**(mask or {})),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(modules=modules, prompts=prompts).save_pretrained(str(folder))
    return folder


def lightning(folder: Path, real: Path, **settings: Any) -> Path:
    """lightning-ir's layout: a projection beside the backbone's weights, and all settings in config.json."""
    from tokenizers import AddedToken

    backbone(folder, real)
    weights = load_file(folder / "model.safetensors")
    weights |= {"projection.weight": torch.randn(24, 64) * 0.2, "projection.bias": torch.randn(24) * 0.1}
    if settings.get("add_marker_tokens"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        markers = [AddedToken(name, special=True) for name in ("[QUE]", "[DOC]")]
        tokenizer.add_tokens(markers, special_tokens=True)
        tokenizer.save_pretrained(folder)
        more = torch.randn(2, 64) * 0.2
        weights["embeddings.word_embeddings.weight"] = torch.cat([weights["embeddings.word_embeddings.weight"], more])
        settings["vocab_size"] = 30_524
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _change(folder / "tokenizer_config.json", tokenizer_class="ColBertTokenizer")
    _change(
        folder / "config.json", model_type="col", backbone_model_type="bert", architectures=["ColBertModel"], **settings
    )
    return folder


def theirs(model: Any, grades: list[Grade]) -> list[float]:
    """Scores by sentence-transformers, one pair at a time."""
    scores = []
    for grade in grades:
        query = model.encode_query(grade.query.text, show_progress_bar=False)
        document = model.encode_document(grade.document.full_text, show_progress_bar=False)
        scores.append(float(model.similarity_pairwise([torch.as_tensor(query)], [torch.as_tensor(document)])[0]))
    return scores


def peer(folder: Path) -> Any:
    """The same folder in sentence-transformers."""
    from sentence_transformers import MultiVectorEncoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MultiVectorEncoder(str(folder), device="cpu")


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
