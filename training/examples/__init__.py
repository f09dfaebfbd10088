"""Examples to train on: one record, readers for the field's files, validation, and Arrow."""

from training.examples.arrow import open_arrow, read_arrow, write_arrow
from training.examples.record import LABELS, BadExample, Example, Pair
from training.examples.stream import Counts, Examples

__all__ = [
    "LABELS",
    "BadExample",
    "Counts",
    "Example",
    "Examples",
    "Pair",
    "open_arrow",
    "read_arrow",
    "write_arrow",
]
