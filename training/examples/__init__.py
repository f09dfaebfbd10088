"""Examples to train on: one record, readers for the field's files, validation, and Arrow."""

from training.examples.arrow import open_arrow, read_arrow, write_arrow
from training.examples.formats import FORMATS, guess, read_examples, write_examples
from training.examples.jsonl import write_jsonl
from training.examples.record import LABELS, BadExample, Example, Pair
from training.examples.stream import Counts, Examples
from training.examples.texts import Collection, IndexedTexts

__all__ = [
    "FORMATS",
    "LABELS",
    "BadExample",
    "Collection",
    "Counts",
    "Example",
    "Examples",
    "IndexedTexts",
    "Pair",
    "guess",
    "open_arrow",
    "read_arrow",
    "read_examples",
    "write_arrow",
    "write_examples",
    "write_jsonl",
]
