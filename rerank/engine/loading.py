"""From a folder to a model on a device: every choice made here is named, so that the ledger can show it."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.checkpoints import adapters
from rerank.engine.products import MODE, VARIABLE, are_reproducible
from rerank.errors import CheckpointError, InputError, RerankError
from rerank.registry import extra_for, unknown

if TYPE_CHECKING:
    import torch

__all__ = [
    "HEADS",
    "Loaded",
    "Loading",
    "Shaped",
    "choose_device",
    "choose_dtype",
    "explained",
    "load",
    "load_classifier",
    "longest_input",
    "quiet",
]

DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("8bit", "4bit")
DEVICE_MAPS = ("auto", "balanced", "sequential")


def choose_device(name: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one, else the CPU."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}; say 'cpu', 'cuda' or 'cuda:0'") from error
    if device.type not in ("cpu", "cuda") and not (device.type == "mps" and torch.backends.mps.is_available()):
        raise InputError(f"device={name!r} cannot be used here; say 'cpu', 'cuda' or 'cuda:0'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={name!r}, but torch {torch.__version__} finds no CUDA device here; say 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"device={name!r}, but torch finds {count} CUDA devices here; the last is 'cuda:{count - 1}'")
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The dtype asked for, or bfloat16 on CUDA and float32 elsewhere."""
    import torch

    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    dtype: torch.dtype = getattr(torch, name)
    return dtype


@dataclass(frozen=True, slots=True)
class Loading:
    """How a checkpoint becomes a model in memory.

    Args:
        device: "cpu", "cuda", "cuda:1" …; CUDA where there is one by default. Not together with `device_map`.
        dtype: "float32", "bfloat16" or "float16"; float32 on the CPU, bfloat16 on CUDA by default.
        quantize: "8bit" or "4bit" (NF4): weights are quantised by bitsandbytes while they are loaded. A checkpoint that
            is quantised already (AWQ, GPTQ …) says so in its config and needs no word here.
        adapter: folder or hub id of a LoRA adapter (peft), which is merged into the weights in `dtype`.
        device_map: "auto", "balanced" or "sequential": accelerate spreads the layers over all GPUs.

    Raises:
        InputError: when options do not fit together.
    """

    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    adapter: str | Path | None = None
    device_map: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("quantisation", self.quantize, QUANTIZATIONS),
            ("device map", self.device_map, DEVICE_MAPS),
        ):
            if value is not None and value not in known:
                raise unknown(name, value, known)
        if self.device_map is not None and self.device is not None:
            raise InputError(
                f"device={self.device!r} and device_map={self.device_map!r}: a map chooses devices itself; give one"
            )
        if self.adapter is not None and self.quantize is not None:
            raise InputError(
                f"quantize={self.quantize!r} with an adapter, which cannot be merged into quantised weights; "
                "merge it first, and quantise what comes of it"
            )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, and its tokenizer.

    Attributes:
        choices: what was chosen, name -> choice, for the ledger.
        identity: what changes answers beside the checkpoint's own files: quantisation, and the adapter's content.
    """

    model: Any
    tokenizer: Any
    choices: dict[str, str]
    identity: str


HEADS = {
    "classifier": "AutoModelForSequenceClassification",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "causal": "AutoModelForCausalLM",
    "backbone": "AutoModel",
    "masked": "AutoModelForMaskedLM",
}
"""What a model is loaded as -> the class of transformers that does it."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """What a model is made of when its config alone does not say it.

    Args:
        made: a class of transformers' kind, in the place of the one in `HEADS`.
        config: its config, when the checkpoint's is another library's.
        tokenizer: the checkpoint's, when transformers does not know its class.
        unread: how the names of weights begin that may be missing, because nobody reads them.
    """

    made: Any = None
    config: Any = None
    tokenizer: Any = None
    unread: tuple[str, ...] = ()


def load(folder: str | Path, head: str, loading: Loading | None = None, shaped: Shaped | None = None) -> Loaded:
    """A model of transformers and its tokenizer.

    Args:
        folder: of the checkpoint: config, weights, tokenizer.
        head: a name in `HEADS`.
        loading: how.
        shaped: of what, where the config does not say it.

    Raises:
        CheckpointError: when transformers cannot load them, weights are missing from the checkpoint, or a package that
            quantised weights need is not installed.
        InputError: when there is no such device or dtype.
    """
    import transformers

    loading = loading or Loading()
    device = choose_device(loading.device) if loading.device_map is None else None
    dtype = choose_dtype(loading.dtype, device or choose_device(None))
    options = {"dtype": dtype, **_quantized(loading, dtype), **_placed(loading, device)}
    shaped = shaped or Shaped()
    configured = {} if shaped.config is None else {"config": shaped.config}
    options |= configured
    with quiet(), explained(folder):
        tokenizer = shaped.tokenizer or transformers.AutoTokenizer.from_pretrained(folder, **configured)
        made = shaped.made or getattr(transformers, HEADS[head])
        model, info = made.from_pretrained(folder, output_loading_info=True, **options)
    _check_complete(folder, model, [key for key in info["missing_keys"] if not key.startswith(shaped.unread)])
    identity = [loading.quantize or ""]
    if loading.adapter is not None:
        adapter = adapters.fetch(loading.adapter)
        identity += [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(adapter.glob("adapter_*"))]
        model = _merged(model, adapter)
    if device is not None and loading.quantize is None and not _is_quantized(model):
        model = model.to(device)
    model.eval()
    return Loaded(model, tokenizer, _choices(model, loading), " ".join(filter(None, identity)))


def load_classifier(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """A sequence-classification model in evaluation mode, and its tokenizer. Errors as of `load`."""
    loaded = load(folder, "classifier", Loading(str(device), str(dtype).removeprefix("torch.")))
    return loaded.model, loaded.tokenizer


def _quantized(loading: Loading, dtype: torch.dtype) -> dict[str, Any]:
    if loading.quantize is None:
        return {}
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise CheckpointError(str(extra_for(f"quantize={loading.quantize!r}", "bitsandbytes")))
    if loading.quantize == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": four}


def _placed(loading: Loading, device: torch.device | None) -> dict[str, Any]:
    """Where the weights go while they are loaded: quantised ones cannot be moved later."""
    if loading.device_map is not None:
        return {"device_map": loading.device_map}
    return {"device_map": {"": device}} if loading.quantize is not None else {}


def _merged(model: Any, adapter: Path) -> Any:
    """The model with a LoRA adapter in its weights, so that it is run like any other."""
    from peft import PeftModel

    with quiet(), explained(adapter), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft still calls transformers' switches
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)  # they would stay random
        try:
            return PeftModel.from_pretrained(model, adapter).merge_and_unload()
        except UserWarning as error:
            raise CheckpointError(f"{adapter} lacks weights that its config promises: {str(error)[:200]}") from error


def _check_complete(folder: str | Path, model: Any, missing: Iterable[str]) -> None:
    if lacking := sorted(missing):
        raise CheckpointError(
            f"{folder} lacks {len(lacking)} weights of {type(model).__name__}, {lacking[0]!r} among them: "
            "it has not been trained as a reranker"
        )


def _choices(model: Any, loading: Loading) -> dict[str, str]:
    """What was chosen, in words. Where layers are spread, the devices with the number of layers on each."""
    spread = Counter(str(device) for device in (getattr(model, "hf_device_map", None) or {}).values())
    where = ", ".join(f"{count} parts on {device}" for device, count in spread.items())
    choices = {
        "device": where if len(spread) > 1 else str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    config = getattr(model.config, "quantization_config", None)
    if _is_quantized(model):
        method = getattr(config, "quant_method", "") or "bitsandbytes"
        choices["quantisation"] = loading.quantize or str(getattr(method, "value", method))
    if loading.adapter is not None:
        choices["adapter"] = f"{loading.adapter}, merged"
    if model.device.type == "cpu" and not are_reproducible():
        choices["bits"] = (
            "the last bit of a score may change from run to run: torch had computed before rerank was imported; import "
            f"rerank first, or set {VARIABLE}={MODE}"
        )
    return choices


def _is_quantized(model: Any) -> bool:
    return bool(getattr(model, "is_quantized", False))


@contextmanager
def explained(what: str | Path) -> Iterator[None]:
    """What transformers and its friends say when they cannot load something, in one line; ours say it themselves."""
    try:
        yield
    except RerankError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"transformers cannot load {what}: {reason}") from error


def longest_input(model: Any, tokenizer: Any) -> int:
    """The most tokens that the model's positions and its tokenizer allow."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= model.config.pad_token_id + 1  # positions begin after the padding's
    return int(min(positions, tokenizer.model_max_length or 10**9))


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no advice from transformers while it loads; what matters is checked above."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
