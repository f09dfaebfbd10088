"""PE-Rank: passages as vectors of an encoder, in place of their tokens; their order, decoded over these vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerank import checkpoints
from rerank.engine.encoders.layers import HEAD_ROWS
from rerank.engine.kept import Kept
from rerank.engine.loading import Loading
from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.engine.texts.prompt_tokens import PromptTokens
from rerank.engine.translated import projected
from rerank.engine.vector_decoding import VectorDecoder
from rerank.errors import CheckpointError, InputError
from rerank.judges.bi_encoder import BiEncoder
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.causal_text import CausalText
from rerank.judges.passage_tokens import PLACEHOLDER, POOLINGS, as_tokens, encoder_folder, with_places
from rerank.judges.prompted import PromptedJudge
from rerank.judges.text_models import TextModel
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Bill, Grade, Permute, Permuted, Question

__all__ = ["PassageEmbedding"]

SHARED = ("device", "dtype", "token_store")
"""Options that are the encoder's as well."""


class PassageEmbedding(PromptedJudge):
    """PE-Rank (Liu et al., 2024, https://arxiv.org/abs/2406.14848): a passage is one token of the prompt.

    An encoder's vector of the passage, brought to length 1, goes through a projector into the space of the language
    model's embeddings. At each step the model's candidates are the passages that are left: the logit of each is the
    product of the hidden state and its projected vector, the highest is chosen, and its vector is read next. Equal ones
    keep the order shown. Passages are read by the encoder alone, once for all queries.

    Args:
        folder: a checkpoint in the layout of the method's own code, which docs/methods/listwise.md states.
        prompt: its {text} is where a passage's vector stands.
        encoder: a name, hub id or folder of the encoder; the one that the config names by default. Another one than
            the projector was trained with gives orders that mean nothing.
        kept_megabytes: how much of the vectors is kept in memory, in MiB.
        options: as of `PromptedJudge`; `document_tokens` is the most of a passage that the encoder reads.

    Raises:
        CheckpointError: when the checkpoint is no such model, or its encoder cannot be loaded or does not fit.
        InputError: as `PromptedJudge`; also when the prompt shortens documents by words or characters.
    """

    answers = frozenset({Permute})
    scoring = "passage-embedding 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "pe-rank",
        encoder: str | Path | None = None,
        kept_megabytes: int = 1024,
        **options: Any,
    ) -> None:
        if (kind := checkpoints.kind(folder)) != "passage-embedding":
            raise CheckpointError(f"{folder} is of kind {kind}, which reads no passage as a vector")
        place = _encoder_of(Path(folder), encoder)
        super().__init__(folder, prompt=prompt, **options)
        if self.prompt.words or self.prompt.characters:
            raise InputError(
                f"prompt {self.prompt.name!r} shortens documents that an encoder reads; say document_tokens="
            )
        self.encoder = BiEncoder(
            place,
            pooling=_pooling(self.folder),
            document_prompt="",
            max_tokens=self.document_tokens,
            kept_megabytes=kept_megabytes,
            **{name: options[name] for name in SHARED if name in options},
        )
        self._check_size()
        self.placeholder = int(self.tokenizer.convert_tokens_to_ids(PLACEHOLDER))
        assert isinstance(self.model, CausalText)
        self.decoder = VectorDecoder(self.model.packed)

    @property
    def options(self) -> dict[str, str]:
        """The encoder."""
        return {"encoder": self.encoder.key}

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """As of `PromptedJudge`, behind the passages of all questions, which the encoder reads first."""
        grades = [[Grade(question.query, document) for document in question.documents] for question in questions]
        made = self.encoder.read(list(chain.from_iterable(grades)), bill)
        shown: dict[int, Question] = {}
        for index, question in enumerate(questions):
            found = [made[document.full_text] for document in question.documents]
            vectors = tuple(each.tensor for each in found if isinstance(each, Kept))
            if len(vectors) == len(found):
                shown[index] = _Shown(question.query, question.documents, vectors=vectors)
            else:
                yield index, next(each for each in found if isinstance(each, Exception))
        indices = list(shown)
        for place, answer in super().answer(list(shown.values()), bill):
            yield indices[place], answer

    def texts(self, question: Question, *, whole: bool = False) -> dict[str, str]:
        """What the prompt says in words: nothing of its passages."""
        said = super().texts(question, whole=whole)
        return {name: text for name, text in said.items() if not name.startswith("document ")}

    def room(self, question: Question) -> int:
        """A token for each passage."""
        return len(question.documents)

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`; a passage is one token."""
        return replace(super().render(question), renamed=self.prompt.identifiers_in(question.query, ()))

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One pass over the prompts, and a step for each place in the orders."""
        vectors = [self._projected(each.question) for each in asked]
        places = [[at for at, token in enumerate(each.prompt.ids) if token == self.placeholder] for each in asked]
        done = self.decoder.decode([each.prompt.segments for each in asked], vectors, places)
        answers = [Permuted(tuple((index,) for index in order)) for order in done.orders]
        projecting = Work(0, 0, sum(self._flops(len(own)) for own in vectors), calls=0)
        return Given(answers, Work.total([Work.of(done.cost), projecting]), [len(order) for order in done.orders])

    @torch.inference_mode()
    def _projected(self, question: Question) -> Tensor:
        """Its passages as the model reads them: [passages, dim], float32."""
        assert isinstance(question, _Shown)
        return as_tokens(self.projector, torch.cat(question.vectors).to(self.model.loaded.model.device))

    def _flops(self, vectors: int) -> int:
        rows = -(-vectors // HEAD_ROWS) * HEAD_ROWS
        return 2 * rows * sum(weight.numel() for weight in self.projector.parameters() if weight.ndim > 1)

    def _loaded(self, loading: Loading) -> TextModel:
        """The model, its projector, and a tokenizer that knows the placeholder."""
        made = projected(self.folder, loading, prefix="model.projector.", activation=nn.GELU())
        self.projector = made.projector
        made.loaded.tokenizer.add_tokens([PLACEHOLDER], special_tokens=True)  # nothing where it has it
        return CausalText(made.loaded)

    def _template(self, documents: int) -> PromptTokens:
        said = [(role, with_places(parts)) for role, parts in self.prompt.render(documents)]
        return PromptTokens(self._borders, self.model.template(said, thinking=self.prompt.thinking))

    def _check_size(self) -> None:
        """Refuse an encoder whose vectors the projector does not read."""
        size, reads = self.encoder.vectors(["a"]).shape[1], self.projector[0].in_features
        if size != reads:
            raise CheckpointError(
                f"encoder {self.encoder.folder} gives vectors of {size}, and the projector of {self.folder} reads "
                f"{reads}: it was trained with another one"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Shown(Permute):
    """A question with the encoder's vectors of its documents, [1, dim] each."""

    vectors: tuple[Tensor, ...] = ()


def _encoder_of(folder: Path, asked: str | Path | None) -> Path:
    """Where the encoder lies: the one that was asked for, or that the config names."""
    name = asked or checkpoints.settings(folder).get("encoder_name")
    if not name:
        raise CheckpointError(f"the config in {folder} names no encoder ('encoder_name'); say which: encoder=")
    return encoder_folder(name, folder)


def _pooling(folder: Path) -> str:
    said = str(checkpoints.settings(folder).get("encoder_pooling", "mean"))
    if said not in POOLINGS:
        raise CheckpointError(f"{folder}: 'encoder_pooling' is {said!r}; it may be {', '.join(POOLINGS)}")
    return POOLINGS[said]
