"""Cross-encoders of pairs of documents: which of the two is more relevant?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rerank.engine.encoders.modular import Readout
from rerank.engine.texts.triple_tokens import TripleTokens
from rerank.engine.tokens import Pair
from rerank.errors import InputError
from rerank.judges.cross_encoder import CrossEncoder
from rerank.questions import Answer, Compare, Compared, Question

__all__ = ["DuoEncoder"]


class DuoEncoder(CrossEncoder):
    """duoBERT (Nogueira et al., 2019, https://arxiv.org/abs/1910.14424): a classifier reads the query and two documents
    together and says how likely the first is the more relevant one.

    The probability is softmax(logits)[1] of a head with two logits, and the logistic function of a single one. Each
    order of a pair is a question of its own. The documents share the room beside the query; what does not fit is cut
    from their ends and counted. Token types are 0, 1 and 2 where the model knows three, else 0, 1 and 1.

    Args:
        folder, options: as of `CrossEncoder`; dtype="int8" is not for it.
    """

    answers: ClassVar[frozenset[type]] = frozenset({Compare})
    scoring: ClassVar[str] = "duo-encoder 1"

    def __init__(self, folder: str | Path, **options: Any) -> None:
        if options.get("dtype") == "int8":
            raise InputError("dtype='int8' is calibrated on single documents; leave it out")
        self.types = 0
        super().__init__(folder, **options)
        store = self.tokens.texts.store
        self.triples = TripleTokens(self.tokens.tokenizer, self.max_tokens, types=self.types, store=store)

    def made(self, model: Any, readout: Readout | None, compile: bool, deterministic: bool) -> Any:
        """As its base; token types are the model's."""
        self.types = int(getattr(model.config, "type_vocab_size", 0) or 0)
        return super().made(model, readout, compile, deterministic)

    def read(self, questions: Sequence[Question]) -> list[Pair | InputError]:
        """Each comparison as the model reads it."""
        asked = [question for question in questions if isinstance(question, Compare)]
        return self.triples.triples([(one.query.text, one.first.full_text, one.second.full_text) for one in asked])

    def said(self, logits: list[float]) -> Answer:
        """P(the first wins)."""
        margin = logits[0] if len(logits) == 1 else logits[1] - logits[0]
        return Compared(_logistic(margin))


def _logistic(margin: float) -> float:
    """1 / (1 + exp(−margin)), without overflow."""
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))
