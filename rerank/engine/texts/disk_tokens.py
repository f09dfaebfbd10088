"""Token ids in a folder that outlives the process and is shared by several."""

from __future__ import annotations

import json
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from rerank.engine.texts.token_store import Ids
from rerank.errors import InputError

__all__ = ["DiskTokens"]

FORMAT = 1
RECORD = struct.Struct("<16sQII")  # key, first token, tokens, checksum


class DiskTokens:
    """Ids in a folder: a file of int32 that only grows and is mapped into memory, and an index beside it.

    Several processes may use a folder at once. What a killed one left half written is dropped and counted; ids whose
    checksum is wrong are taken for absent.

    Args:
        folder: made when it is not there.
        tokenizer: the fingerprint of the tokenizer; ids of another one are never read.
        max_tokens: how far the file grows, 4 bytes a token; nothing more is kept then.

    Raises:
        InputError: when the folder belongs to another tokenizer, is no token store, or cannot be written.

    Attributes:
        torn: entries that were dropped because they were unfinished or damaged.
    """

    def __init__(self, folder: str | Path, tokenizer: str, max_tokens: int = 1 << 30) -> None:
        self.folder = Path(folder)
        self.max_tokens = max_tokens
        self.torn = 0
        self._tokens, self._index = self.folder / "tokens.int32", self.folder / "index"
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._read = 0  # bytes of the index that are known
        self._ids: Ids = np.empty(0, np.int32)
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._others = FileLock(self.folder / "lock")
            with self._others:
                self._check(tokenizer)
                self._mend()
                self._catch_up()
        except OSError as error:
            raise InputError(f"the token store {self.folder} cannot be used: {error}") from error

    def recall(self, keys: Sequence[bytes]) -> list[Ids | None]:
        """The ids of each key, None where there are none; what another process has kept is found too."""
        with self._lock:
            if not all(key in self._places for key in keys):
                self._catch_up()
            return [self._recalled(key) for key in keys]

    def keep(self, texts: Mapping[bytes, Ids]) -> None:
        """Append ids to the files.

        Raises:
            InputError: when the disk refuses.
        """
        try:
            with self._lock, self._others:
                self._mend()
                self._catch_up()
                self._append({key: ids for key, ids in texts.items() if key not in self._places})
        except OSError as error:
            raise InputError(f"the token store {self.folder} cannot be written: {error}") from error

    def __len__(self) -> int:
        return len(self._places)

    @property
    def place(self) -> str:
        """Where they are kept, for the ledger."""
        torn = f", {self.torn} damaged entries dropped" if self.torn else ""
        return f"folder {self.folder.name}{torn}"

    def _check(self, tokenizer: str) -> None:
        """Whose store this is; a new one becomes ours."""
        about = self.folder / "store.json"
        if not about.exists():
            if self._tokens.exists() or self._index.exists():
                raise InputError(f"{self.folder} has lost its store.json; delete the folder")
            written = about.with_suffix(".new")
            written.write_text(json.dumps({"format": FORMAT, "tokenizer": tokenizer}))
            written.replace(about)
        try:
            found = json.loads(about.read_text())
            version, owner = found["format"], found["tokenizer"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{about} is no token store's; choose another folder, or delete it") from error
        if version != FORMAT:
            raise InputError(f"{self.folder} has format {version}, and this version reads {FORMAT}; delete it")
        if owner != tokenizer:
            raise InputError(
                f"the token store {self.folder} was made with another tokenizer ({owner[:12]}, not {tokenizer[:12]}); "
                "give each tokenizer a folder of its own"
            )

    def _mend(self) -> None:
        """Cut off what a killed process left unfinished; only while nobody else writes."""
        for file, unit in ((self._tokens, 4), (self._index, RECORD.size)):
            size = file.stat().st_size if file.exists() else 0
            if size % unit:
                os.truncate(file, size - size % unit)
                self.torn += 1

    def _catch_up(self) -> None:
        """Learn what has been appended since, by whomever."""
        if not self._index.exists() or self._index.stat().st_size < self._read + RECORD.size:
            return
        with self._index.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = len(new) - len(new) % RECORD.size
        self._read += whole
        self._map()
        for key, start, length, checksum in RECORD.iter_unpack(new[:whole]):
            if start + length <= len(self._ids):
                self._places[key] = (start, length, checksum)
            else:
                self.torn += 1

    def _map(self) -> None:
        """See all of the file; views of an earlier mapping stay valid."""
        size = self._tokens.stat().st_size if self._tokens.exists() else 0
        if size >= 4:
            with self._tokens.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            self._ids = np.frombuffer(mapped, "<i4", count=size // 4)

    def _recalled(self, key: bytes) -> Ids | None:
        if key not in self._places:
            return None
        start, length, checksum = self._places[key]
        ids = self._ids[start : start + length]
        if zlib.crc32(ids.data) == checksum:
            return ids
        self.torn += 1
        del self._places[key]
        return None

    def _append(self, texts: Mapping[bytes, Ids]) -> None:
        start = self._tokens.stat().st_size // 4 if self._tokens.exists() else 0
        records, arrays = [], []
        for key, ids in texts.items():
            if start + len(ids) > self.max_tokens:
                break
            array = np.ascontiguousarray(ids, "<i4")
            records.append(RECORD.pack(key, start, len(array), zlib.crc32(array.data)))
            arrays.append(array)
            start += len(array)
        with self._tokens.open("ab") as file:  # the ids first: an index never speaks of what is not there
            file.write(b"".join(array.tobytes() for array in arrays))
        with self._index.open("ab") as file:
            file.write(b"".join(records))
        self._catch_up()
