"""What all judges share that put a prompt to a language model: reading it, running it in batches, and the bill."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import ClassVar

from rerank import checkpoints, prompts
from rerank.engine import batches
from rerank.engine.flops_estimate import Shape
from rerank.engine.loading import Loading
from rerank.engine.texts.borders import Borders
from rerank.engine.texts.fused_tokens import fused
from rerank.engine.texts.prompt_tokens import Prompt, PromptTokens, Slot, Template
from rerank.engine.texts.text_tokens import TextTokens, store_for
from rerank.engine.windows import windows_within
from rerank.errors import CheckpointError, InputError
from rerank.judges.bills import Asked, Given, charge
from rerank.judges.choosing import ASKS
from rerank.judges.readings import wanted
from rerank.judges.shots import Asking, Shots, Source
from rerank.judges.target_words import continuation
from rerank.judges.text_models import TextModel, loaded_text_model
from rerank.prompts.demonstrations import Demonstration
from rerank.prompts.prompt import Prompt as PromptFile
from rerank.prompts.prompt import identifiers
from rerank.questions import Answer, Bill, Grade, Question
from rerank.types import Document, Query

__all__ = ["PromptedJudge"]


READING = "texts 2"
"""How queries and documents become tokens, and its version, as `PromptedJudge.scoring` is of an answer."""

CHARACTERS_A_TOKEN = 8
"""More than most have, so that a text that is cut by its characters is not cut too short."""


class PromptedJudge(ABC):
    """A language model that is asked by one prompt. Subclasses say how its answer is read.

    Args:
        folder: the checkpoint, as `rerank.checkpoints.fetch` gives it: a T5, or a causal language model.
        prompt: the name of a prompt (`rerank list prompts`), a path that ends in .toml, or a prompt.
        max_tokens: the most tokens of a prompt; documents are cut at their ends to fit, and counted. As many as the
            model reads by default; a T5, whose positions have no end, 512. Where each document is a text of its own
            (fusion in decoder), of each of these.
        document_tokens: the most tokens of each document, as the prompt's file says by default; all, where it does not.
        wording: how queries are said, one of the prompt's `wordings`; as it usually says them by default.
        token_budget: the most tokens in a forward pass; changes speed and memory, never a bit of a float32 CPU score.
        device, dtype, quantize, adapter, device_map: as of `rerank.engine.loading.Loading`.
        token_store: a folder in which the token ids of texts are kept for later runs; in memory by default.
        demonstrations: solved examples for a prompt that shows {demonstrations}: a JSONL file with query, better and
            worse, or a sequence of `rerank.prompts.demonstrations.Demonstration`.
        shots, choose, mirrored, seed: how many a query is shown, which, in which orders; see
            `rerank.judges.shots.Asking`.

    Raises:
        CheckpointError: when the folder holds no model that answers prompts.
        InputError: when the prompt asks another kind of question, or an option does not fit the model.
    """

    answers: frozenset[type]
    reads_ids: ClassVar[bool] = False
    reads_heads: ClassVar[bool] = False
    """Whether it reads a score head, which is all that a T5 encoder alone has."""
    scoring: ClassVar[str]
    """Name and version; changes when the same model and texts would give other answers."""
    reads_priors: ClassVar[bool] = False
    fuses: ClassVar[bool] = False
    """Whether it asks by prompts of one text for each document, and by no others."""
    divides: ClassVar[bool] = False
    """Whether it asks by prompts of a text for an encoder and one for a decoder, and by no others."""

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | PromptFile,
        max_tokens: int | None = None,
        document_tokens: int | None = None,
        wording: str | None = None,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        quantize: str | None = None,
        adapter: str | Path | None = None,
        device_map: str | None = None,
        token_store: str | Path | None = None,
        demonstrations: Source | None = None,
        shots: int = 1,
        choose: str = "similar",
        mirrored: bool = False,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.prompt = prompt if isinstance(prompt, PromptFile) else prompts.find(prompt)
        self.answers = self._checked_prompt()
        if not self.reads_heads and checkpoints.kind(self.folder) == "encoder-head":
            raise CheckpointError(
                f"{self.folder} is a T5 encoder with a score head, which has no words to be asked for; leave out the "
                "judge, or say 'score-head'"
            )
        self._check_demonstrations(demonstrations)
        self.document_tokens = _document_tokens(document_tokens, self.prompt)
        self.wording = wording
        said = self.prompt.wording_of(wording) if wording else ""  # refused, if unknown, before a model is loaded
        self._showing = _showing(said, self.document_tokens, self.prompt)
        loading = Loading(device, dtype, quantize, adapter, device_map)
        self.model: TextModel = self._loaded(loading)
        self.tokenizer = self.model.loaded.tokenizer
        self.max_tokens = self._checked_tokens(max_tokens)
        if token_budget is not None and token_budget < 1:
            raise InputError(f"token_budget={token_budget}; a forward pass needs at least 1 token")
        self.budget = batches.Budget(token_budget or self.model.budget)
        self.shape = Shape.of(self.model.loaded.model.config)
        self._borders = Borders(TextTokens(self.tokenizer, store_for(self.tokenizer, token_store)))
        self.text_tokens = self._borders.texts
        self.templates = lru_cache(maxsize=64)(self._template)
        self._text = lru_cache(maxsize=1024)(self._text_of)
        self.tail = self._tail()
        asking = Asking(demonstrations, shots, choose, mirrored, seed)
        self.shots = None if demonstrations is None else Shots(self.prompt, asking, self._query_likelihoods)

    @abstractmethod
    def ask(self, asked: Sequence[Asked]) -> Given:
        """The answers of one batch, in the order asked."""

    @property
    def options(self) -> dict[str, str]:
        """What else decides an answer, for its key and the ledger."""
        return {}

    def room(self, question: Question) -> int:
        """Tokens of the context that the prompt must leave free, for what is written behind it."""
        return 0

    @cached_property
    def key(self) -> str:
        """Hash of all that decides an answer."""
        loaded = self.model.loaded
        parts = [
            self.scoring,
            READING,
            checkpoints.fingerprint(self.folder),
            *self.prompt.identity,
            f"chat={getattr(self.tokenizer, 'chat_template', None)!r}",
            *(f"{name}={value}" for name, value in {**self._showing, **self._all_options}.items()),
            f"max_tokens={self.max_tokens}",
            f"dtype={loaded.model.dtype}",
            f"device={loaded.model.device.type}",
            f"execution={self.model.execution}",
            loaded.identity,
        ]
        hashed = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.scoring.partition(' ')[0]}-{hashed[:32]}"

    @property
    def token_budget(self) -> int:
        """The most tokens in a forward pass, as it is now: halved when memory ran out."""
        return self.budget.tokens

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen at load, for the ledger."""
        return {
            "weights": checkpoints.origin(self.folder),
            **self.model.loaded.choices,
            "execution": self.model.execution,
            "prompt": self.prompt.name,
            **self._showing,
            **self._all_options,
            "max tokens": str(self.max_tokens),
            "token budget": str(self.token_budget),
            "token store": self._borders.texts.store.place,
        }

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """Answer questions, batch by batch; those whose prompts begin alike stand together."""
        for name, value in self.choices.items():
            bill.note(name, value)
        asked: dict[int, Asked] = {}
        for index, question in enumerate(questions):
            try:
                asked[index] = Asked(question, self.render(question))
            except InputError as error:
                yield index, error
        order = sorted(asked, key=lambda index: asked[index].prompt.segments)
        lengths = [len(asked[index].prompt) for index in order]

        def call(batch: list[int]) -> tuple[Given, float]:
            started = time.perf_counter()
            return self.ask([asked[order[place]] for place in batch]), time.perf_counter() - started

        for batch, (given, seconds) in batches.run(lengths, self.budget, self.model.pack, call, bill):
            indices = [order[place] for place in batch]
            charge(bill, [asked[index] for index in indices], given, seconds=seconds, shape=self.shape)
            yield from zip(indices, given.answers, strict=True)

    def render(self, question: Question) -> Prompt:
        """The prompt of a question, its documents cut to fit.

        Raises:
            InputError: when the query leaves no room for them, or a text cannot be read.
        """
        most = self.max_tokens - self.room(question)
        if most < 1:
            raise InputError(
                f"max_tokens={self.max_tokens} leaves no room for a prompt: {self.room(question)} tokens are for what "
                "is written; allow more, or write less"
            )
        shown = self.shown(question)
        rendered = self._rendered(self.texts(question), len(shown), most, self.texts(question, whole=True))
        return replace(rendered, renamed=self.prompt.identifiers_in(question.query, shown))

    def windows(
        self, query: Query, document: Document, *, max_tokens: int | None = None, stride: int | None = None
    ) -> list[Document]:
        """The document in pieces that the prompt shows whole; see `rerank.engine.windows.windows_within`.

        Args:
            query: what stands beside each piece.
            document: any length.
            max_tokens: the most tokens of a piece; by default, and at most, as many as the rest of the prompt leaves.
            stride: tokens from one beginning to the next.

        Raises:
            InputError: when the prompt shows several documents, or the query leaves no room.
        """
        if Grade not in self.answers:
            raise InputError(
                f"prompt {self.prompt.name!r} asks to {self.prompt.asks}, so that its documents have no scores of "
                "their own that windows could be joined by; use long_documents='truncate'"
            )
        texts = self._borders.texts
        room = -self._over(query, Document("", "a")) + len(texts.encode(["a"])[0])
        if room < 1:
            self.check_queries([query])
            raise InputError(f"query {query.query_id!r} leaves no room for a document within {self.max_tokens} tokens")
        room = min(room, self.document_tokens or room)
        over = partial(self._over, query)
        return windows_within(texts, document, room, window=max_tokens, stride=stride, over=over)

    def _over(self, query: Query, piece: Document) -> int:
        """How many tokens too many a piece has, so far as is sure, for all of it to be shown."""
        texts = self._demonstrated(self.prompt.texts(query, [piece], wording=self.wording), query)
        rendered = self.templates(1).render(texts)
        tokens = len(rendered) + self.room(Grade(query, piece)) - self.max_tokens
        text, limits = piece.full_text, self.prompt
        words = 0 if limits.words is None else len(text.split()) - limits.words
        rest = 0 if limits.characters is None else len(" ".join(text.split())) - limits.characters
        more = max(words, -(-rest // CHARACTERS_A_TOKEN))
        return max(tokens, more) if more > 0 else tokens

    def shown(self, question: Question) -> Sequence[Document]:
        """The documents of a question as the prompt shows them."""
        return question.documents

    def texts(self, question: Question, *, whole: bool = False) -> dict[str, str]:
        """What the blanks of the prompt say; `whole` as of `Prompt.texts`."""
        shown = self.shown(question)
        texts = self.prompt.texts(question.query, shown, wanted(question), wording=self.wording, whole=whole)
        return self._demonstrated(texts, question.query)

    def _demonstrated(self, texts: dict[str, str], query: Query) -> dict[str, str]:
        """With the examples that the query is shown."""
        return texts | ({} if self.shots is None else {"demonstrations": self.shots.text(query.text)})

    def check_queries(self, queries: Sequence[Query]) -> None:
        """Refuse queries that leave no room for a document, before any work is done.

        Raises:
            InputError: naming the first, and how many there are.
        """
        errors = [(query, error) for query in queries if (error := self._unreadable(query)) is not None]
        if errors:
            query, error = errors[0]
            more = f" ({len(errors)} of {len(queries)} queries cannot be read)" if len(errors) > 1 else ""
            raise InputError(f"query {query.query_id!r}: {error}{more}")

    def labels(self, question: Question) -> list[str]:
        """What the documents of a question are called, in the order shown."""
        return identifiers(self.prompt.identifiers, len(self.shown(question)))

    @property
    def _all_options(self) -> dict[str, str]:
        return self.options | ({} if self.shots is None else {"demonstrations": self.shots.description})

    def _check_demonstrations(self, given: Source | None) -> None:
        if (given is not None) != self.prompt.shows_demonstrations:
            name, path = self.prompt.name, "a JSONL file with query, better and worse in each line"
            raise InputError(
                f"prompt {name!r} shows no demonstrations; leave them out, or choose a prompt such as 'prp-fewshot'"
                if given is not None
                else f"prompt {name!r} shows demonstrations: give demonstrations={path}"
            )

    def _query_likelihoods(self, shown: Sequence[Demonstration]) -> list[float]:
        """How likely the model finds each demonstration's query behind its better document, token for token."""
        template = PromptTokens(self._borders, Template(("Document: ", Slot("document", cut=True), " Query:")))
        queries = [continuation(self.tokenizer, each.query.strip(), behind="Query:") for each in shown]
        most = self.max_tokens - max(map(len, queries))
        texts = [template.render({"document": each.better}, max_tokens=most) for each in shown]
        found, _ = self.model.likelihood(texts, queries)
        return [numbers.double().mean().item() for numbers in found]

    def _unreadable(self, query: Query) -> InputError | None:
        shown = [Document("a", "a")] * (2 if self.prompt.shows is None else self.prompt.shows)
        try:
            texts = self._demonstrated(self.prompt.texts(query, shown, wording=self.wording), query)
            self._rendered(texts, len(shown), self.max_tokens)
        except InputError as error:
            return error
        return None

    def _loaded(self, loading: Loading) -> TextModel:
        """The model, known to read the prompt."""
        if self.prompt.fused and (kind := checkpoints.kind(self.folder)) != "encoder-decoder":
            raise CheckpointError(
                f"prompt {self.prompt.name!r} makes a text of each document, which one decoder reads together; "
                f"{self.folder} is of kind {kind}: use a T5, or another prompt"
            )
        return loaded_text_model(self.folder, loading, self.prompt.answer)

    def _rendered(
        self, texts: Mapping[str, str], documents: int, most: int, whole: Mapping[str, str] | None = None
    ) -> Prompt:
        limits = {"max_tokens": most, "document_tokens": self.document_tokens}
        if self.prompt.fused:
            return fused([self._text(index) for index in range(documents)], texts, whole=whole, **limits)
        return self.templates(documents).render(texts, whole=whole, **limits)

    def _template(self, documents: int) -> PromptTokens:
        said = self.prompt.render(documents)
        return PromptTokens(self._borders, self.model.template(said, thinking=self.prompt.thinking))

    def _text_of(self, index: int) -> PromptTokens:
        """The text of one document, where each has its own."""
        return PromptTokens(self._borders, self.model.template(self.prompt.render(index + 1)[index:]))

    def _tail(self) -> str:
        """What an answer is read behind: the end of the prompt, or for a T5 the answer's beginning."""
        if not self.model.writes_behind:
            return self.prompt.answer
        parts = self.templates(2 if self.prompt.shows is None else self.prompt.shows).template.parts
        last = parts[-1]
        return last if isinstance(last, str) else "a"  # behind a document the answer is another word

    def _checked_prompt(self) -> frozenset[type]:
        kind = ASKS[self.prompt.asks]
        if kind not in self.answers:
            able = " or ".join(sorted(name for name, each in ASKS.items() if each in self.answers))
            raise InputError(
                f"prompt {self.prompt.name!r} asks to {self.prompt.asks}, and {type(self).__name__} answers prompts "
                f"that ask to {able}; choose another prompt or judge"
            )
        if self.prompt.fused != self.fuses:
            other = "a text of each document" if self.prompt.fused else "one text of all documents"
            raise InputError(
                f"prompt {self.prompt.name!r} makes {other}, which {type(self).__name__} does not ask; "
                "choose another prompt or judge"
            )
        if self.prompt.divided != self.divides:
            other = "a text for an encoder and one for a decoder" if self.prompt.divided else "one text"
            raise InputError(
                f"prompt {self.prompt.name!r} makes {other}, which {type(self).__name__} does not ask; "
                "choose another prompt or judge"
            )
        if self.prompt.shows_priors and not self.reads_priors:
            raise InputError(
                f"prompt {self.prompt.name!r} shows {{prior}}, and {type(self).__name__} does not know how the stage "
                "before scored a document; choose another prompt or judge"
            )
        return frozenset({kind})

    def _checked_tokens(self, asked: int | None) -> int:
        if asked is None:
            return self.model.usual
        if not 1 <= asked <= self.model.longest:
            raise InputError(f"max_tokens={asked}, but {self.folder.name} reads from 1 to {self.model.longest} tokens")
        return asked


def _document_tokens(asked: int | None, prompt: PromptFile) -> int | None:
    if asked is not None and asked < 1:
        raise InputError(f"document_tokens={asked} leaves nothing of a document; allow at least 1")
    return prompt.tokens if asked is None else asked


def _showing(wording: str, tokens: int | None, prompt: PromptFile) -> dict[str, str]:
    """How queries and documents are shown, where that is not as the prompt usually shows them."""
    own = {} if tokens == prompt.tokens else {"document tokens": str(tokens)}
    return {**({"wording": wording} if wording else {}), **own}
