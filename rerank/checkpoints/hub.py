"""Weights from the Hugging Face hub: only the files that are read, and a quick no when it does not answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rerank.checkpoints import folder as folders
from rerank.checkpoints.cache import Progress, one_line, watched
from rerank.checkpoints.layouts import check_modules
from rerank.errors import CheckpointError

__all__ = ["Hub"]

ANSWER_WITHIN = 4.0
"""Seconds in which the hub must answer, before another source is tried."""

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "artifact.metadata")
SUBFOLDERS = "*/*"
"""Exports to other runtimes (onnx/, openvino/); models we read lie at the top."""

MODULES = re.compile(
    r"\d+_(?:Pooling|Dense|LayerNorm|Dropout|Normalize|MultiVectorMask|SpladePooling|LogitScore)/"
    r"(?:config\.json|model\.safetensors|pytorch_model\.bin)"
)
"""What sentence-transformers puts behind a model: see `rerank.checkpoints.modules` and `layouts`."""

NOISY = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3")


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository on the hub; HF_HOME says where its files are kept and HF_HUB_OFFLINE=1 that it is not asked.

    Args:
        repo: its id, "organisation/name".
        revision: a branch, tag or commit; "main" when empty.
    """

    repo: str
    revision: str = ""

    def __str__(self) -> str:
        return f"the hub's {self.repo}"

    def cached(self, root: Path) -> Path | None:
        """The snapshot in the hub's own cache, if all of it is there."""
        with _quiet():
            for pattern in folders.WEIGHTS:
                place = self._local(pattern)
                if place is None or list(place.glob(pattern)):
                    return place
        return None

    def _local(self, weights: str) -> Path | None:
        """The snapshot on disk, or None when a file of these weights, the config or the tokenizer is missing."""
        from huggingface_hub import snapshot_download

        try:
            place = snapshot_download(
                self.repo,
                revision=self.revision or None,
                local_files_only=True,
                allow_patterns=["config.json", weights],
                ignore_patterns=[SUBFOLDERS],
            )
            folders.check(Path(place))
            check_modules(Path(place))
        except (OSError, ValueError, CheckpointError):  # not there, or in part: other programs fetch a config alone
            return None
        return Path(place)

    def fetch(self, root: Path, progress: Progress | None) -> Path:
        """The snapshot, downloaded as far as it is not there.

        Raises:
            CheckpointError: when the hub is not to be asked, does not answer, or has no such repository.
        """
        sizes = self.files()
        with _quiet():
            place = self._download(_wanted(sizes), progress)
        folders.check(place)
        return place

    def files(self) -> dict[str, int]:
        """The repository's files and their sizes in bytes; the one request that finds out whether there is a hub.

        Raises:
            CheckpointError: as `fetch` does.
        """
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise CheckpointError(f"the hub was not asked for {self.repo} (HF_HUB_OFFLINE is set)")
        with _quiet():
            return self._ask()

    def _ask(self) -> dict[str, int]:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

        try:
            info = HfApi().model_info(
                self.repo, revision=self.revision or None, timeout=ANSWER_WITHIN, files_metadata=True
            )
        except GatedRepoError as error:
            raise CheckpointError(
                f"{self.repo} is gated: accept its terms on the hub and run 'hf auth login'"
            ) from error
        except RepositoryNotFoundError as error:
            raise CheckpointError(f"the hub has no {self.repo} (or does not show it to you)") from error
        except HfHubHTTPError as error:
            raise CheckpointError(f"the hub refused {self.repo} ({one_line(error)})") from error
        except Exception as error:  # transport errors are of other libraries' kinds, which change with their versions
            raise CheckpointError(f"the hub did not answer ({type(error).__name__}: {one_line(error)})") from error
        return {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}

    def _download(self, sizes: dict[str, int], progress: Progress | None) -> Path:
        from huggingface_hub import constants, snapshot_download

        blobs = Path(constants.HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}" / "blobs"
        try:
            with watched(blobs, sum(sizes.values()), progress):
                return Path(
                    snapshot_download(
                        self.repo,
                        revision=self.revision or None,
                        allow_patterns=list(sizes),
                        etag_timeout=ANSWER_WITHIN,
                        tqdm_class=_no_bar(),
                    )
                )
        except Exception as error:
            raise CheckpointError(f"{self}: the download failed ({type(error).__name__}: {one_line(error)})") from error


def _wanted(sizes: dict[str, int]) -> dict[str, int]:
    """The files that are read: config, tokenizer, one kind of weights, and what lies behind the model."""
    top = [name for name in sizes if not fnmatch(name, SUBFOLDERS)]
    weights = next((found for pattern in folders.WEIGHTS if (found := [n for n in top if fnmatch(n, pattern)])), [])
    small = [name for name in top if any(fnmatch(name, pattern) for pattern in SMALL_FILES)]
    modules = [name for name in sizes if MODULES.fullmatch(name)]
    return {name: sizes[name] for name in [*small, *weights, *modules]}


def _no_bar() -> Any:
    """The hub's own progress bar, switched off: callers show theirs."""
    from huggingface_hub.utils.tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return NoBar


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the hub's libraries log; what matters of it is in our one line."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
