"""Checkpoints as lightning-ir saves them (https://github.com/webis-de/lightning-ir): a backbone's files by other names.

`model_type` names what the model is for, and `backbone_model_type` what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["backbone_config", "backbone_tokenizer"]

NOT_OF_THE_BACKBONE = ("model_type", "backbone_model_type", "architectures", "transformers_version", "auto_map")


def backbone_config(backbone: str, values: Mapping[str, Any]) -> Any:
    """The config of the backbone, out of what config.json says."""
    import transformers

    kept = {name: value for name, value in values.items() if name not in NOT_OF_THE_BACKBONE}
    return transformers.AutoConfig.for_model(backbone, **kept)


def backbone_tokenizer(folder: Path) -> Any:
    """Its class is lightning-ir's, which adds nothing to the backbone's but how texts are put together."""
    import transformers

    made: Any = transformers.PreTrainedTokenizerFast
    if not (folder / "tokenizer.json").is_file():
        made = transformers.BertTokenizerFast
    return made.from_pretrained(folder)
