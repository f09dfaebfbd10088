"""Tiny checkpoints with random weights, laid out as the ones that are published with code of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from judge_models import TOKENIZERS, _saved
from multi_vector_models import backbone
from safetensors.torch import load_file, save_file
from small_folders import VOCABULARY, enlarge, wordpiece
from torch import nn

LAYERS = 4
START = 2
EMBEDDED = {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig}


def layer_wise(folder: Path, real: Path, kind: str) -> tuple[Path, Any, list[torch.Tensor]]:
    """A checkpoint laid out as BAAI's are, the plain model it was made from (scales not yet in it), and its heads."""
    family = "llama" if kind == "minicpm" else "gemma2"
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    tokens = {"vocab_size": 49_152, "max_position_embeddings": 1024, "pad_token_id": 2, "eos_token_id": 2}
    own = {} if family == "llama" else {
        "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 24, "final_logit_softcapping": 30.0,
    }  # fmt: skip
    config = transformers.AutoConfig.for_model(family, **shape, **tokens, num_key_value_heads=2, **own)
    transformers.set_seed(3)
    model = transformers.AutoModel.from_config(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)
    heads = [torch.randn(1, 64) for _ in range(START, LAYERS + 1)]
    folder.mkdir()
    weights = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    weights |= {f"lm_head.{index}.linear_head.weight": head for index, head in enumerate(heads)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = {name: value for name, value in config.to_dict().items() if value is not None}
    said |= {"start_layer": START, "auto_map": {"AutoModelForCausalLM": "modeling.Theirs"}}
    said |= (
        {"architectures": ["LayerWiseMiniCPMForCausalLM"], "model_type": "minicpm", "head_multi": True,
         "head_type": "simple", "scale_emb": 3, "scale_depth": 1.4, "dim_model_base": 16}
        if kind == "minicpm"
        else {"architectures": ["CostWiseGemmaForCausalLM"], "model_type": "cost_wise_gemma", "layer_wise": True,
              "layer_sep": 1}
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(said))
    for name in TOKENIZERS:
        if (real / name).is_file():
            shutil.copy(real / name, folder / name)
    return folder, model, heads


def jina(folder: Path, real: Path, *, tokens: bool = True, projector: bool = True) -> Path:
    """A checkpoint laid out as jinaai's is, tiny, with a real tokenizer that has its two tokens."""
    folder.mkdir(exist_ok=True)
    for name in TOKENIZERS:
        if (real / name).is_file():
            shutil.copy(real / name, folder / name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|embed_token|>", "<|rerank_token|>"]})
        tokenizer.save_pretrained(folder)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 16,
    }
    config = transformers.Qwen3Config(
        **shape, vocab_size=len(tokenizer) + 6, num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=2
    )
    transformers.set_seed(11)
    model = transformers.Qwen3Model(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)
    weights = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    if projector:
        weights |= {"projector.0.weight": torch.randn(32, 64), "projector.2.weight": torch.randn(16, 32)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = config.to_dict() | {"architectures": ["JinaForRanking"], "auto_map": {"AutoModel": "modeling.Theirs"}}
    (folder / "config.json").write_text(json.dumps({name: value for name, value in said.items() if value is not None}))
    return folder


def kalm(folder: Path, real: Path) -> Path:
    """A T5Gemma 2 with eyes, tiny, with a real tokenizer that has the tokens of Gemma's turns."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(real)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<bos>", "<start_of_turn>", "<end_of_turn>"]})
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "max_position_embeddings": 2048,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }
    eyes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    images = {"vision_config": {"model_type": "siglip_vision_model", **eyes, "image_size": 28, "patch_size": 14}}
    encoder = {"text_config": text, **images, "mm_tokens_per_image": 4, "eoi_token_index": 4}
    decoder = {**text, "final_logit_softcapping": 30.0}
    config = transformers.T5Gemma2Config(encoder=encoder, decoder=decoder, image_token_index=3)
    _saved(transformers.T5Gemma2ForConditionalGeneration(config), folder, real)
    tokenizer.save_pretrained(folder)
    return folder


def score_encoder(
    folder: Path, flan: Path, head: str, said: dict[str, Any], bias: bool, labels: int
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Small random weights with a real T5's tokenizer."""
    transformers.set_seed(5)
    config = transformers.T5Config(
        vocab_size=32128, d_model=64, d_kv=32, d_ff=96, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    model = transformers.T5EncoderModel(config).eval()
    enlarge(model)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(flan).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors") | {f"{head}.weight": torch.randn(labels, 64)}
    weights |= {f"{head}.bias": torch.randn(labels)} if bias else {}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    values = json.loads((folder / "config.json").read_text()) | said
    (folder / "config.json").write_text(json.dumps(values))
    return model, weights[f"{head}.weight"], weights.get(f"{head}.bias", torch.zeros(labels))


def tilde_v2(folder: Path, real: Path) -> Path:
    """The authors' layout: a BERT under "bert." and `tok_proj` beside it."""
    backbone(folder, real)
    weights = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights |= {"tok_proj.weight": torch.randn(1, 64) * 0.3, "tok_proj.bias": torch.tensor([2.5])}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["TILDEv2"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def plain_bert(folder: Path, *, hidden: int = 64) -> Path:
    """A plain encoder, tiny."""
    tokenizer = wordpiece(folder)
    transformers.set_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96, max_position_embeddings=64,
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # large enough to tell texts apart by their first states
            nn.init.normal_(parameter, std=0.12)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pe_rank(folder: Path, real: Path, encoder: Path | None = None, *, family: str = "mistral", **said: Any) -> Path:
    """A checkpoint laid out as the method's own code saves it: model, projector and encoder in one file."""
    folder.mkdir(exist_ok=True)
    encoder = encoder or plain_bert(folder / "encoder")
    for name in TOKENIZERS:
        if (real / name).is_file():
            shutil.copy(real / name, folder / name)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = EMBEDDED[family](
        **shape, vocab_size=49_152, num_key_value_heads=2, max_position_embeddings=1024, pad_token_id=2, eos_token_id=2
    )
    transformers.set_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)
    weights = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    sizes = {"0.weight": (64, 64), "0.bias": (64,), "2.weight": (64, 64), "2.bias": (64,)}
    weights |= {f"model.projector.{name}": torch.randn(size) * 0.5 for name, size in sizes.items()}
    own = load_file(encoder / "model.safetensors")
    weights |= {f"model.encoder.encoder.{name}": value.clone() for name, value in own.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    values = {name: value for name, value in config.to_dict().items() if value is not None} | {
        "model_type": f"embed_{family}",
        "architectures": [f"Embed{family.capitalize()}ForRankLM"],
        "encoder_name": str(encoder),
        "encoder_pooling": "mean",
        "projector_type": "mlp2x_gelu",
        "embedding_size": 64,
    }
    (folder / "config.json").write_text(json.dumps(values | said))
    return folder
