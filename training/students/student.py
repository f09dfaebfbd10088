"""What a trainer asks of a student: to read examples, to score lists, to be saved and loaded."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rerank.checkpoints import ENTRY_FILE
from rerank.engine.loading import quiet
from rerank.errors import InputError
from rerank.registry import extra_for, unknown
from training.examples import Example

__all__ = ["Lora", "Student", "check_quantized", "kept_randomness", "lora_config", "quantized", "with_lora"]

QUANTIZATIONS = ("8bit", "4bit")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters in place of full fine-tuning (https://arxiv.org/abs/2106.09685).

    Args:
        rank: r.
        alpha: the update is scaled by alpha / r.
        dropout: on what goes into an adapter.
        targets: names of the modules that get one; "all-linear": all linear layers but the output head.
        quantize: "4bit" (NF4) or "8bit": the frozen weights, through bitsandbytes: QLoRA
            (https://arxiv.org/abs/2305.14314).

    Raises:
        InputError: when a number is out of range.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"rank={self.rank}; an adapter has at least rank 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout}; it must be from 0 to below 1")
        if self.quantize not in (None, *QUANTIZATIONS):
            raise unknown("quantisation", str(self.quantize), QUANTIZATIONS)


class Student(nn.Module, ABC):
    """A model of transformers, how it reads a list, and how it scores one.

    Args:
        model: of transformers, or of peft around one.
        tokenizer: its own.

    Attributes:
        wants: which losses it can be trained with: those over "lists", "tokens", "comparisons" and so on.
        sees_lists: whether it reads the documents of a list together, and may see that one is shown twice.
        measured: whether its forward pass gives documents scores, of which rankings are measured while it trains.
        target: the labels that an order to write is made of; None: the first that there are.
    """

    wants: ClassVar[str] = "lists"
    measured: ClassVar[bool] = True
    sees_lists: ClassVar[bool] = False

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.target: str | None = None

    @property
    def core(self) -> Any:
        """transformers' model, with adapters inside where there are any."""
        return self.model.get_base_model() if self.adapted else self.model

    @property
    def adapted(self) -> bool:
        """Whether LoRA adapters are trained, and nothing else."""
        return hasattr(self.model, "peft_config") and hasattr(self.model, "get_base_model")

    @property
    def config(self) -> Any:
        """transformers' config; its Trainer asks for it."""
        return self.core.config

    @property
    def _no_split_modules(self) -> Any:
        """The layers that FSDP keeps whole."""
        return getattr(self.core, "_no_split_modules", None)

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return "padded"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks, for `rerank.toml`; empty where its kind says so."""
        return {}

    def use(self, name: str) -> str:
        """How what was written is loaded, for the card."""
        return f'from rerank import Reranker\n\nreranker = Reranker("{name}")'

    def check(self, examples: Iterable[Example]) -> None:
        """See that it can read all examples, before the first step.

        Raises:
            BadExample: the first that it cannot.
        """

    def get_input_embeddings(self) -> Any:
        """The model's own; NEFTune asks for them."""
        return self.core.get_input_embeddings()

    @abstractmethod
    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Examples as `forward` wants them; what does not fit is cut, and counted in `cut`."""

    @abstractmethod
    def forward(self, **inputs: Tensor) -> Any:
        """Scores of a batch's documents, one after the other: float [texts]."""

    def scores_of(self, outputs: Any) -> Tensor:
        """The scores in what `forward` gave: float [texts]."""
        scores: Tensor = outputs
        return scores

    def scores_shown(self, outputs: Any) -> Tensor:
        """As `scores_of`, of the copies that a list shows as well (`training.duplicates`)."""
        return self.scores_of(outputs)

    def loss_beside(self, outputs: Any) -> Tensor | None:
        """What is learnt beside the loss over lists, out of what `forward` gave; None: nothing."""
        return None

    def gradient_checkpointing_enable(self) -> None:
        """Compute activations again in the backward pass, instead of keeping them."""
        core = self.core
        if hasattr(core, "activation_checkpointing_enable"):  # what transformers calls it from 5.24 on
            core.activation_checkpointing_enable({"use_reentrant": False})
        else:
            core.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.adapted:
            self.core.enable_input_require_grads()

    def save(self, folder: str | Path, state: dict[str, Tensor] | None = None) -> None:
        """Write it as transformers (or peft) does, with its tokenizer.

        Args:
            folder: made when missing.
            state: its weights, where they are gathered from several processes.
        """
        inner = (
            None
            if state is None
            else {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        )
        with quiet():
            self.model.save_pretrained(folder, state_dict=inner)
        self.tokenizer.save_pretrained(folder)

    def restore(self, folder: str | Path) -> None:
        """Take over the weights that `save` wrote."""
        if self.adapted:
            from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(self.model, load_peft_weights(str(folder), device="cpu"))
            return
        with quiet(), kept_randomness():
            saved = type(self.model).from_pretrained(folder, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())

    def finish(self, folder: str | Path) -> None:
        """Write what users load: adapters are merged, and lie beside in `adapter`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if asked := self.asked_as():
            said = {"hub": "", "description": f"trained: {folder.name}", "licence": "as its base model's", **asked}
            lines = [f"{key} = {_toml(value)}" for key, value in said.items()]
            (folder / ENTRY_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not self.adapted:
            self.save(folder)
            return
        self.save(folder / "adapter")
        with quiet():
            self.model.merge_and_unload().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Loading draws weights that it then overwrites; training must not notice."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def with_lora(model: Any, lora: Lora | None, *, heads: Sequence[str] = ()) -> Any:
    """A model with adapters.

    Args:
        model: of transformers.
        lora: None leaves it as it is.
        heads: modules that are trained whole and saved with the adapters, because they are new.

    Raises:
        MissingExtra: when peft is not installed.
    """
    if lora is None:
        return model
    try:
        from peft import get_peft_model, prepare_model_for_kbit_training
    except ModuleNotFoundError as error:
        raise extra_for("LoRA", "peft") from error
    config = lora_config(lora, heads=heads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft still calls transformers' switches
        if lora.quantize is not None:
            model = prepare_model_for_kbit_training(model)  # type: ignore[no-untyped-call]
        return get_peft_model(model, config)


def lora_config(lora: Lora, *, heads: Sequence[str] = ()) -> Any:
    """What peft calls it. Arguments as of `with_lora`."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.targets == ("all-linear",) else list(lora.targets),
        modules_to_save=list(heads) or None,
    )


def check_quantized(lora: Lora | None) -> None:
    """See that frozen weights can be quantised here, before anything is loaded.

    Raises:
        InputError: when there is no CUDA device.
        MissingExtra: when bitsandbytes is not installed.
    """
    if lora is None or lora.quantize is None:
        return
    if not torch.cuda.is_available():
        raise InputError(
            f"student.lora.quantize={lora.quantize!r} (QLoRA) needs a CUDA device, and there is none here; train "
            "unquantised adapters with --set student.lora.quantize="
        )
    if find_spec("bitsandbytes") is None:
        raise extra_for(f"student.lora.quantize={lora.quantize!r}", "bitsandbytes")


def quantized(lora: Lora | None, dtype: str) -> dict[str, Any]:
    """What `from_pretrained` is told for QLoRA.

    Errors as of `check_quantized`.
    """
    if lora is None or lora.quantize is None:
        return {}
    check_quantized(lora)
    from transformers import BitsAndBytesConfig

    if lora.quantize == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    compute = getattr(torch, dtype)
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
    return {"quantization_config": four}
