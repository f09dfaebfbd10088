"""Kept ids are the ids that were kept: by whom, in whichever process, and after whatever happened to the files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank import Reranker
from rerank.engine.texts.disk_tokens import DiskTokens
from rerank.engine.texts.token_store import ENTRY, MemoryTokens
from rerank.errors import InputError

OWNER = "a" * 64


def key(name: object) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()


def array(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def listed(store: MemoryTokens | DiskTokens, *names: object) -> list[list[int] | None]:
    return [None if ids is None else ids.tolist() for ids in store.recall([key(name) for name in names])]


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryTokens | DiskTokens:
    return MemoryTokens() if request.param == "memory" else DiskTokens(tmp_path / "kept", OWNER)


def test_what_was_kept_is_recalled(store):
    store.keep({key("a"): array(1, 2, 3), key("empty"): array(), key("b"): array(2**31 - 1)})

    assert listed(store, "b", "c", "a", "empty") == [[2**31 - 1], None, [1, 2, 3], []]
    assert len(store) == 3


def test_keeping_twice_changes_nothing(store):
    store.keep({key("a"): array(1)})
    store.keep({key("a"): array(1), key("b"): array(2)})

    assert len(store) == 2
    assert listed(store, "a", "b") == [[1], [2]]


def test_memory_forgets_what_was_not_asked_for_the_longest():
    store = MemoryTokens(max_tokens=3 * (ENTRY + 10))
    for name in "abc":
        store.keep({key(name): array(*range(10))})
    store.recall([key("a")])

    store.keep({key("d"): array(*range(10))})

    assert [ids is not None for ids in listed(store, *"abcd")] == [True, False, True, True]
    assert store.tokens <= store.max_tokens


def test_kept_ids_are_nobodys_to_change_and_less_may_be_kept_later(store):
    store.keep({key("a"): array(1, 2)})
    [ids] = store.recall([key("a")])

    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 7
    if isinstance(store, MemoryTokens):
        store.max_tokens = ENTRY + 1
        store.keep({key("b"): array(3)})
        assert listed(store, "a", "b") == [None, [3]]


def test_a_text_longer_than_the_memory_is_not_kept():
    store = MemoryTokens(max_tokens=ENTRY + 10)
    store.keep({key("a"): array(1)})

    store.keep({key("long"): array(*range(11))})

    assert listed(store, "a", "long") == [[1], None]


def test_a_memory_for_nothing_is_refused():
    with pytest.raises(InputError, match="keeps nothing"):
        MemoryTokens(max_tokens=ENTRY)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=20), max_size=20), st.integers(1, 2000))
def test_the_memory_never_holds_more_than_it_may(texts, room):
    store = MemoryTokens(ENTRY + room)
    for index, text in enumerate(texts):
        store.keep({key(index): array(*text)})

        kept = [len(ids) for ids in store.recall([key(place) for place in range(len(texts))]) if ids is not None]
        assert store.tokens == sum(kept) + ENTRY * len(kept) <= store.max_tokens


def test_a_folder_outlives_its_store(tmp_path):
    DiskTokens(tmp_path, OWNER).keep({key("a"): array(1, 2), key("b"): array()})

    again = DiskTokens(tmp_path, OWNER)

    assert listed(again, "a", "b", "c") == [[1, 2], [], None]
    assert again.torn == 0


def test_a_folder_of_another_tokenizer_is_refused(tmp_path):
    DiskTokens(tmp_path, OWNER)

    with pytest.raises(InputError, match=r"another tokenizer \(aaaaaaaaaaaa, not bbbbbbbbbbbb\)"):
        DiskTokens(tmp_path, "b" * 64)


@pytest.mark.parametrize("about", ["", "[]", '{"format": 1}'])
def test_a_folder_of_something_else_is_refused(tmp_path, about):
    (tmp_path / "store.json").write_text(about)

    with pytest.raises(InputError, match="is no token store's"):
        DiskTokens(tmp_path, OWNER)


def test_a_folder_of_another_version_is_refused(tmp_path):
    (tmp_path / "store.json").write_text(json.dumps({"format": 99, "tokenizer": OWNER}))

    with pytest.raises(InputError, match="format 99"):
        DiskTokens(tmp_path, OWNER)


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="cannot be used"):
        DiskTokens(tmp_path / "file", OWNER)


@pytest.mark.parametrize("file", ["index", "tokens.int32"])
@pytest.mark.parametrize("lost", [1, 3, 8, 31, 32, 33])
def test_whatever_is_torn_off_what_is_recalled_is_right(tmp_path, file, lost):
    DiskTokens(tmp_path, OWNER).keep({key(index): array(*range(index, 2 * index + 1)) for index in range(9)})
    os.truncate(tmp_path / file, (tmp_path / file).stat().st_size - lost)

    torn = DiskTokens(tmp_path, OWNER)
    found = listed(torn, *range(9))

    assert None in found
    assert all(ids is None or ids == list(range(index, 2 * index + 1)) for index, ids in enumerate(found))
    assert torn.torn > 0 or lost == 32  # a whole record that is gone was never there
    torn.keep({key(index): array(*range(index, 2 * index + 1)) for index in range(9)})
    assert listed(torn, *range(9)) == [list(range(index, 2 * index + 1)) for index in range(9)]
    assert listed(DiskTokens(tmp_path, OWNER), *range(9)) == listed(torn, *range(9))


def test_a_flipped_bit_is_noticed_and_counted(tmp_path):
    DiskTokens(tmp_path, OWNER).keep({key("a"): array(1, 2), key("b"): array(3)})
    damaged = bytearray((tmp_path / "tokens.int32").read_bytes())
    damaged[4] ^= 1
    (tmp_path / "tokens.int32").write_bytes(damaged)

    store = DiskTokens(tmp_path, OWNER)

    assert listed(store, "a", "b") == [None, [3]]
    assert store.torn == 1
    assert "1 damaged" in store.place


def test_a_full_folder_keeps_no_more(tmp_path):
    store = DiskTokens(tmp_path, OWNER, max_tokens=3)

    store.keep({key("a"): array(1, 2), key("b"): array(3, 4)})

    assert listed(store, "a", "b") == [[1, 2], None]


def test_two_stores_of_one_folder_see_what_the_other_kept(tmp_path):
    one, two = DiskTokens(tmp_path, OWNER), DiskTokens(tmp_path, OWNER)

    one.keep({key("a"): array(1)})
    two.keep({key("b"): array(2)})
    one.keep({key("b"): array(2), key("c"): array(3)})

    assert listed(one, *"abc") == listed(two, *"abc") == [[1], [2], [3]]
    assert (tmp_path / "tokens.int32").stat().st_size == 12


WRITER = """
import sys, numpy as np
sys.path.insert(0, sys.argv[3])
from hashlib import blake2b
from rerank.engine.texts.disk_tokens import DiskTokens
store = DiskTokens(sys.argv[1], "a" * 64)
for step in range(40):
    number = step * 2 + int(sys.argv[2])
    store.keep({blake2b(str(number).encode(), digest_size=16).digest(): np.arange(number, dtype=np.int32)})
"""


def test_two_processes_write_one_folder(tmp_path):
    root = str(Path(__file__).resolve().parents[2])
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, which, root]) for which in "01"]
    assert [writer.wait(60) for writer in writers] == [0, 0]

    store = DiskTokens(tmp_path, OWNER)

    assert listed(store, *range(80)) == [list(range(number)) for number in range(80)]
    assert store.torn == 0


def test_a_cross_encoder_recalls_documents_from_its_folder(minilm, tmp_path):
    first, later = (Reranker(minilm, token_store=tmp_path / "tokens") for _ in range(2))
    documents = ["Berlin has 3.7 million people.", "New York is a city.", ""]

    fresh = first.rank("how many people live in Berlin?", documents)
    recalled = later.rank("which city is large?", documents)
    again = Reranker(minilm).rank("which city is large?", documents)

    assert "tokens_recalled" not in first.ledger.total
    assert later.ledger.total["tokens_recalled"] == sum(
        len(later.judge.tokens.texts.encode([text])[0]) for text in documents
    )
    assert [candidate.score for candidate in recalled] == [candidate.score for candidate in again]
    assert len(fresh) == 3
    assert first.ledger.notes["token store"] == "folder tokens"


def test_a_folder_of_another_checkpoints_tokens_is_refused(minilm, tmp_path):
    DiskTokens(tmp_path / "tokens", OWNER)

    with pytest.raises(InputError, match="another tokenizer"):
        Reranker(minilm, token_store=tmp_path / "tokens")
