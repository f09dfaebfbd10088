"""Small set-encoders as lightning-ir saves them, with weights that are drawn from their names."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parent / "golden" / "set_encoder.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))


def name_of(case: dict[str, Any]) -> str:
    config = case["files"]["config.json"]
    return f"{config['backbone_model_type']}, {'[INT]' if config['add_extra_token'] else '[CLS]'}"


def draw(name: str, shape: list[int]) -> Any:
    """As scripts/write_set_encoder_golden.py draws it."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    values = random.standard_normal(shape) * (0.1 if len(shape) == 1 else 0.2)
    return (values + (name.endswith("LayerNorm.weight"))).astype(np.float32)


def written(case: dict[str, Any], folder: Path, **changed: Any) -> Path:
    """The checkpoint in a folder; `changed` goes into its config."""
    folder.mkdir(exist_ok=True)
    for name, content in case["files"].items():
        values = content | changed if name == "config.json" else content
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    weights = {name: draw(name, shape) for name, shape in case["shapes"].items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
