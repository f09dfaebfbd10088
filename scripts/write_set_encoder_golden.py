"""What lightning-ir says of small set-encoders, written down for tests/rerank/test_set_encoder.py.

It needs an environment of its own, because lightning-ir 0.0.6 works with transformers before 5:

    python -m venv /tmp/lightning && /tmp/lightning/bin/pip install lightning-ir==0.0.6 'transformers<5'
    /tmp/lightning/bin/python scripts/write_set_encoder_golden.py

Every weight is drawn from a seed made of its name, so that a test can draw it again; what is written are the config and
the tokenizer as lightning-ir saves them, and the scores. No document is made up (`sample_missing_docs=False`).
"""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_ir.models import SetEncoderConfig, SetEncoderModel, SetEncoderTokenizer
from transformers import BertConfig, BertModel, BertTokenizerFast, ElectraConfig, ElectraModel, ElectraTokenizerFast

OUT = Path(__file__).resolve().parents[1] / "tests" / "rerank" / "golden" / "set_encoder.json"

TEXT = "how many people live in berlin the city has three million and a wall of art new york is far away who won"
WORDS = TEXT.split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ing", "?", "."]
SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
QUERIES = ["how many people live in berlin?", "who won the city of art and a wall and new york and the art of berlin"]
DOCUMENTS = [
    ["berlin has three million people.", "new york is far away", "the wall", "the wall", "", "people " * 40],
    ["a city of art", "berlin."],
]


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A weight, large enough that texts are told apart; norms stay near one."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    values = random.standard_normal(shape) * (0.1 if len(shape) == 1 else 0.2)
    return (values + (name.endswith("LayerNorm.weight"))).astype(np.float32)


def main() -> None:
    """Write the file."""
    cases = [case(backbone, extra) for backbone in ("bert", "electra") for extra in (True, False)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def case(backbone: str, extra: bool) -> dict[str, Any]:
    """One model: what it saves, and what it says of each query's documents."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plain_backbone(backbone, folder)
        config = SetEncoderConfig(
            query_length=12, doc_length=20, depth=100, add_extra_token=extra, sample_missing_docs=False
        )
        tokenizer = SetEncoderTokenizer.from_pretrained(folder, config=config)
        model = SetEncoderModel.from_pretrained(folder, config=config).eval()
        model.resize_token_embeddings(len(tokenizer))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.from_numpy(draw(name, tuple(parameter.shape))))
        shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
        scores = [told(model, tokenizer, query, documents) for query, documents in zip(QUERIES, DOCUMENTS, strict=True)]
        model.save_pretrained(folder / "saved")
        tokenizer.save_pretrained(folder / "saved")
        names = ("config.json", "tokenizer.json", "tokenizer_config.json")
        files = {name: json.loads((folder / "saved" / name).read_text(encoding="utf-8")) for name in names}
    return {"files": files, "shapes": shapes, "queries": QUERIES, "documents": DOCUMENTS, "scores": scores}


def plain_backbone(backbone: str, folder: Path) -> None:
    """A backbone that knows nothing of sets, saved with its tokenizer."""
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    kind = BertTokenizerFast if backbone == "bert" else ElectraTokenizerFast
    kind(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"vocab_size": len(VOCABULARY), **SHAPE}
    if backbone == "bert":
        BertModel(BertConfig(**size)).save_pretrained(folder)
    else:
        ElectraModel(ElectraConfig(**size, embedding_size=32)).save_pretrained(folder)


@torch.inference_mode()
def told(model: Any, tokenizer: Any, query: str, documents: list[str]) -> list[float]:
    """Scores of one query's documents."""
    encoding = tokenizer.tokenize([query], documents, num_docs=[len(documents)], return_tensors="pt", padding=True)[
        "encoding"
    ]
    return [float(score) for score in model.forward(encoding).scores]


if __name__ == "__main__":
    main()
