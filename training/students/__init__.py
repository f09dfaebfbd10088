"""What is trained: models that give the documents of a list scores, each with its way of reading texts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rerank.errors import InputError
from rerank.registry import did_you_mean, unknown
from training.students.cross_encoder import CrossEncoder
from training.students.duo_token import DuoToken
from training.students.fusion_in_decoder import FusionInDecoder
from training.students.layer_distilled import LayerDistilled
from training.students.listwise import Listwise
from training.students.passage_alignment import PassageAlignment
from training.students.passage_embedding import PassageEmbedding
from training.students.reasoner import Reasoner
from training.students.score_head import ScoreHead
from training.students.set_encoder import SetEncoder
from training.students.student import Lora, Student
from training.students.target_token import TargetToken

if TYPE_CHECKING:
    from training.recipe import StudentTable

__all__ = [
    "KINDS",
    "CrossEncoder",
    "DuoToken",
    "FusionInDecoder",
    "LayerDistilled",
    "Listwise",
    "Lora",
    "PassageAlignment",
    "PassageEmbedding",
    "Reasoner",
    "ScoreHead",
    "SetEncoder",
    "Student",
    "TargetToken",
    "checked",
    "student_of",
]

KINDS: Mapping[str, type[Student]] = {
    "cross-encoder": CrossEncoder,
    "duo-token": DuoToken,
    "fusion-in-decoder": FusionInDecoder,
    "layer-distilled": LayerDistilled,
    "listwise": Listwise,
    "passage-alignment": PassageAlignment,
    "passage-embedding": PassageEmbedding,
    "reasoner": Reasoner,
    "score-head": ScoreHead,
    "set-encoder": SetEncoder,
    "target-token": TargetToken,
}
"""By the name that a recipe gives them."""


def student_of(table: StudentTable) -> Student:
    """The student of a recipe. Errors as of `checked`, and as the student's own."""
    made: Any = checked(table)
    student: Student = made(table.model, lora=table.lora, **table.options)
    return student


def checked(table: StudentTable) -> type[Student]:
    """The class of a student, when there is one of that kind and it has all the options.

    Raises:
        UnknownName: when there is no such kind.
        InputError: when it has no such option.
    """
    if table.kind not in KINDS:
        raise unknown("student", table.kind, KINDS)
    made = KINDS[table.kind]
    known = [name for name in inspect.signature(made).parameters if name not in ("name", "lora")]
    for option in table.options:
        if option not in known:
            raise InputError(f"a {table.kind} has no option {option!r}{did_you_mean(option, known)}")
    return made
