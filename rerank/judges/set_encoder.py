"""Set-encoders: an encoder reads all documents of a query side by side, and each knows of the others."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rerank import checkpoints
from rerank.engine import batches, packing
from rerank.engine.encoder import usual_budget
from rerank.engine.encoders.packed import Output
from rerank.engine.encoders.set_model import INTERACTION, load_set_encoder
from rerank.engine.encoders.sets import SetEncoding
from rerank.engine.flops_estimate import Shape, estimated_flops
from rerank.engine.loading import Loading
from rerank.engine.texts.set_tokens import SetTexts, SetTokens
from rerank.engine.texts.text_tokens import store_for
from rerank.errors import CheckpointError, InputError, JudgeError
from rerank.judges.cross_encoder import checked_budget, score_of
from rerank.questions import Bill, GradedSet, GradeSet, Question

__all__ = ["SetEncoder"]

SCORING = "set-encoder 1"
"""Changes when the same model and texts would give other scores; part of every journal key."""

Asked = tuple[int, GradeSet, SetTexts]


class SetEncoder:
    """Set-Encoder (Schlatt et al., 2024, https://arxiv.org/abs/2404.06912) over BERT or ELECTRA.

    Each document stands beside the query in a sequence of its own. In every layer its tokens see, beyond their own
    sequence, the present state of one token of each other document: [INT], or [CLS] in models without it. The score is
    linear in the final state of [CLS]. The order of documents changes nothing, in float32 on the CPU not a bit. A set
    is computed in one call whatever its size, several sets together where they fit; no document is ever made up.

    The novelty checkpoints are the same model, trained to put a document below those that it repeats: their scores say
    how much that is relevant a document adds to the set.

    Args:
        folder: the checkpoint, as lightning-ir saves it.
        max_tokens: the most tokens of a query, a document and the special tokens between them. A query is cut to what
            the model was trained to read (its config's `query_length`), a document to that (`doc_length`) and to what
            is left; both are counted. By default as many as the config says.
        token_budget: the most tokens in a forward pass; a larger set is computed alone.
        device, dtype: as of a cross-encoder.
        token_store: a folder in which the token ids of texts are kept for later runs; in memory by default.

    Raises:
        CheckpointError: when the folder holds no set-encoder.
        InputError: when an option does not fit the model or the machine.
    """

    answers: ClassVar[frozenset[type]] = frozenset({GradeSet})
    reads_ids: ClassVar[bool] = False

    def __init__(
        self,
        folder: str | Path,
        *,
        max_tokens: int | None = None,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        token_store: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        if (kind := checkpoints.kind(self.folder)) != "set-encoder":
            raise CheckpointError(f"{self.folder} is no set-encoder but of kind {kind}; leave out the judge")
        loaded, config = load_set_encoder(self.folder, Loading(device, dtype))
        self.loaded_as = loaded.choices
        self.shape = Shape.of(loaded.model.config)
        self.dtype = str(loaded.model.dtype).removeprefix("torch.")
        self.tokens = SetTokens(
            loaded.tokenizer,
            extra=INTERACTION if config.extra_token else None,
            query_tokens=config.query_tokens,
            document_tokens=config.document_tokens,
            store=store_for(loaded.tokenizer, token_store),
        )
        self.max_tokens = self._fitted(max_tokens, loaded.model.config.max_position_embeddings)
        self.budget = batches.Budget(checked_budget(token_budget, usual_budget(loaded.model.device.type)))
        self.encoding = SetEncoding(loaded.model, interaction=int(config.extra_token))
        self.key = self._key()

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, GradedSet | Exception]]:
        """Grade sets of documents, batch by batch; a set is never divided."""
        for name, value in self.choices.items():
            bill.note(name, value)
        grades = [question for question in questions if isinstance(question, GradeSet)]
        encoded = self.tokens.sets(
            [(grade.query.text, [document.full_text for document in grade.documents]) for grade in grades]
        )
        asked: list[Asked] = []
        for index, (grade, texts) in enumerate(zip(grades, encoded, strict=True)):
            if isinstance(texts, InputError):
                yield index, texts
            elif not texts.texts:
                yield index, GradedSet(())
            else:
                asked.append((index, grade, texts))

        def score(batch: list[int]) -> tuple[Output, float]:
            started = time.perf_counter()
            return self.encoding.run([asked[place][2].texts for place in batch]), time.perf_counter() - started

        lengths = [len(texts) for _, _, texts in asked]
        for batch, (output, seconds) in batches.run(lengths, self.budget, packing.in_order, score, bill):
            together = [asked[place] for place in batch]
            self._charge(together, output, seconds, bill)
            yield from _graded(together, output.values.tolist())

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen at load, for the ledger."""
        return {
            "weights": checkpoints.origin(self.folder),
            **self.loaded_as,
            "execution": self.encoding.execution,
            "max tokens": f"{self.max_tokens}, of a query {self.tokens.query_tokens}",
            "token budget": str(self.budget.tokens),
            "token store": self.tokens.texts.store.place,
        }

    def _fitted(self, asked: int | None, positions: int) -> int:
        """The most tokens of a text; documents are cut so that it holds for the longest query."""
        tokens = self.tokens
        fixed = tokens.special + tokens.query_tokens
        longest = min(positions, fixed + tokens.document_tokens)
        if asked is not None and not fixed < asked <= positions:
            raise InputError(
                f"max_tokens={asked}, but {self.folder.name} reads at most {positions} tokens, and {fixed} of them may "
                "be the query's and special ones"
            )
        longest = longest if asked is None else min(asked, longest)
        tokens.document_tokens = longest - fixed
        return longest

    def _charge(self, asked: Sequence[Asked], output: Output, seconds: float, bill: Bill) -> None:
        """Each query pays for its tokens; the call and its filler are charged to the first query in it."""
        total = sum(len(texts) for _, _, texts in asked)
        bill.charge(asked[0][1].query.query_id, calls=1, tokens_padded=output.padded)
        left = output.flops
        for place, (_, grade, texts) in enumerate(asked, start=1):
            share = left if place == len(asked) else output.flops * len(texts) // total
            left -= share
            amounts = {"tokens_real": len(texts), "flops": share, "seconds": seconds * len(texts) / total}
            if self.shape is not None:
                amounts["flops_estimated"] = sum(estimated_flops(self.shape, len(text.ids)) for text in texts.texts)
            bill.charge(grade.query.query_id, **amounts, **texts.amounts)

    def _key(self) -> str:
        tokens = self.tokens
        parts: list[Any] = [
            SCORING,
            checkpoints.fingerprint(self.folder),
            f"tokens={tokens.query_tokens} {tokens.document_tokens}",
            f"dtype={self.dtype}",
            f"device={self.encoding.device.type}",
            f"execution={self.encoding.execution}",
        ]
        return f"set-encoder-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def _graded(asked: Sequence[Asked], logits: list[list[float]]) -> Iterator[tuple[int, GradedSet | Exception]]:
    rows = iter(logits)
    for index, _, texts in asked:
        scores = [score_of(next(rows)) for _ in texts.texts]
        if all(map(math.isfinite, scores)):
            yield index, GradedSet(tuple(scores))
        else:
            yield index, JudgeError(f"the model gave {scores}; a score must be finite")
