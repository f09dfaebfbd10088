"""Where a command will write, checked before it does hours of work."""

from __future__ import annotations

import os
from pathlib import Path

from rerank.errors import FileError, InputError

__all__ = ["check_new_file", "check_new_folder", "is_device"]


def check_new_file(path: Path, *inputs: Path | None) -> None:
    """See that a file can be written, and that it is none of those that are read.

    Raises:
        FileError: when its folder is missing or not writable, or it is a folder itself.
        InputError: when it is one of `inputs`.
    """
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if not os.access(path if is_device(path) else path.parent, os.W_OK):
        raise FileError(f"cannot write {path}: you may not write there; choose another folder")
    for given in inputs:
        if given is not None and not is_device(path) and path.resolve() == given.resolve():
            raise InputError(f"{path} would be written and is read as well; give the new file another name")


def is_device(path: Path) -> bool:
    """Whether it is no ordinary file of its own name: a device, a pipe, /dev/stdout wherever that leads."""
    streams = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
    return os.path.abspath(path).startswith(streams) or (path.exists() and not path.is_file())


def check_new_folder(path: Path) -> None:
    """See that a folder can be made: there is none of the name, or an empty one.

    Raises:
        FileError: when something lies there, or the folder above is missing or not writable.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileError(f"{path} exists already; remove it or give another folder")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write {path}: you may not write there; choose another folder")
