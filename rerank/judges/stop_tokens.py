"""Tokens that carry no meaning of their own, as TILDE's authors choose them from a vocabulary."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from rerank.engine.texts.token_store import Ids

__all__ = ["stop_ids", "unwritable_ids"]

QUESTION_WORDS = frozenset({"where", "how", "what", "when", "which", "why", "who"})

WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
its itself they them their theirs themselves what which who whom this that these those am is are was were be been
being have has had having do does did doing a an the and but if or because as until while of at by for with about
against between into through during before after above below to from up down in out on off over under again further
then once here there when where why how all any both each few more most other some such no nor not only own same so
than too very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma
mightn mustn needn shan shouldn wasn weren won wouldn
"""
STOP_WORDS = frozenset(WORDS.split())
"""NLTK's of English (https://www.nltk.org), of which those with an apostrophe are never one token."""

PLAIN = re.compile(r"[A-Za-z0-9_-]*")


def stop_ids(tokenizer: Any) -> Ids:
    """Ids that count nothing in a query or a document: stop words but for question words, symbols, a plural's "##s".

    As in https://github.com/ielab/TILDE, so that weights are those that the checkpoint was trained for.
    """
    return _ids(tokenizer, STOP_WORDS - QUESTION_WORDS)


def unwritable_ids(tokenizer: Any) -> Ids:
    """Ids that no document is expanded by: all stop words, "definition", symbols, "##s". As in the same code."""
    return _ids(tokenizer, STOP_WORDS | {"definition"})


def _ids(tokenizer: Any, words: frozenset[str]) -> Ids:
    encoded = tokenizer(sorted(words), add_special_tokens=False)["input_ids"]
    found = {ids[0] for ids in encoded if len(ids) == 1}
    for token, number in tokenizer.get_vocab().items():
        piece = token.startswith("#") and len(token) > 1
        if token == "##s" or (not piece and not PLAIN.fullmatch(token)):
            found.add(number)
    return np.array(sorted(found), np.int32)
