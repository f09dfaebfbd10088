"""Small lists whose relevant document anybody can tell, in words that the small tokenizers have."""

from __future__ import annotations

import random

from small_folders import WORDS

from training.examples import Example


def lists(count: int, *, documents: int = 4, seed: int = 0) -> list[Example]:
    """Lists of a query, one document that repeats it and others that do not, with labels, scores and an order."""
    choice = random.Random(seed)
    return [_list(choice, index, documents) for index in range(count)]


def _list(choice: random.Random, index: int, documents: int) -> Example:
    words = choice.sample(sorted(set(WORDS)), 2)
    others = [word for word in WORDS if word not in words]
    texts = [" ".join(choice.choices(others, k=choice.randint(2, 10))) + f" . {place}" for place in range(documents)]
    relevant = choice.randrange(documents)
    texts[relevant] = " ".join(words) + " " + texts[relevant]
    relevance = tuple(float(place == relevant) for place in range(documents))
    scores = tuple(5.0 * grade + choice.random() for grade in relevance)
    order = tuple(sorted(range(documents), key=lambda place: -scores[place]))
    return Example(
        " ".join(words), tuple(texts), relevance, scores, order, query_id=f"q{index}", where=f"lists.jsonl:{index + 1}"
    )
