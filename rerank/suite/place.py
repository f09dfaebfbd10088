"""The folder that a suite writes: where everything lies, and what of it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank.errors import FileError, InputError
from rerank.io import atomic_write

__all__ = ["Place", "digest"]


@dataclass(frozen=True)
class Place:
    """A suite's folder.

    suite.json says what was asked for, versions.json with what; runs, ledgers, pipelines (resolved), journals and first
    (what first stages found) hold a folder for each dataset; measures, figures and tables hold a file for each. The
    folders in `perturbed` are places of this sort too, one for each perturbation.
    """

    folder: Path

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Make the folder, or go on with what is in it.

        Args:
            asked: `suite`, `systems` (name -> tables) and whatever else shall be on record.

        Raises:
            InputError: when it holds another suite, or runs of another pipeline of the same name.
            FileError: when it cannot be read or written.
        """
        if (before := self._asked_before()) is not None:
            if before.get("suite") != asked["suite"]:
                raise InputError(
                    f"{self.folder} holds the suite {before.get('suite')!r}, not {asked['suite']!r}; "
                    "give another folder"
                )
            for key in ("split", "cutoffs"):
                then, now = before.get(key) or "none", asked[key] or "none"
                if then != now:
                    raise InputError(
                        f"{self.folder} holds runs with {key}: {then}, and {now} is asked for now; give another folder"
                    )
            if before.get("perturbations") and asked["perturbations"] and before.get("seed") != asked["seed"]:
                raise InputError(
                    f"{self.folder} holds runs perturbed with seed {before.get('seed')}, not {asked['seed']}; give "
                    "another folder"
                )
            for name, tables in before.get("systems", {}).items():
                if name in asked["systems"] and _plain(asked["systems"][name]) != tables:
                    raise InputError(
                        f"{self.folder} holds runs of another pipeline called {name!r}; name the new one otherwise, or "
                        "give another folder"
                    )
            asked = {
                **asked,
                "systems": {**before.get("systems", {}), **asked["systems"]},
                "perturbations": list(dict.fromkeys([*before.get("perturbations", []), *asked["perturbations"]])),
                "seed": asked["seed"] if asked["perturbations"] else before.get("seed", asked["seed"]),
            }
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty and holds no suite; give another folder")
        self.write_json("suite.json", asked)

    def path(self, *parts: str) -> Path:
        """A file of the folder, whose own folder is made."""
        path = self.folder.joinpath(*(part.replace("/", "-") for part in parts))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot make the folder {path.parent}: {error.strerror}") from error
        return path

    def run(self, dataset: str, system: str) -> Path:
        """Where a system's run over a dataset lies; it is written last, so that it is there when all of it is."""
        return self.path("runs", dataset, f"{system}.trec")

    def journal(self, dataset: str, table: Mapping[str, Any], stage: int | None = None) -> Path:
        """Where the answers of a reranker are kept: systems with the same one ask it once.

        Args:
            dataset: whose queries.
            table: the reranker's `[[stage]]` table.
            stage: its number, where a pipeline has the same reranker twice; a journal is open once.
        """
        asked = {key: value for key, value in table.items() if key != "cutoff"}
        name = str(table["reranker"]).rstrip("/").rsplit("/", 1)[-1]
        twice = "" if stage is None else f".{stage}"
        return self.path("journals", dataset, f"{name}-{digest(asked)}{twice}.journal")

    def ledgers(self, dataset: str, system: str) -> Sequence[Path]:
        """What a system's stages cost on a dataset, those that keep a ledger."""
        folder = self.path("ledgers", dataset, "any").parent
        return sorted(path for path in folder.glob("*.json") if path.name.rsplit(".", 2)[0] == system)

    def check_corpus(self, dataset: str, key: str) -> None:
        """Refuse to go on with a dataset whose documents are not those of before.

        Raises:
            InputError: when they are others.
        """
        path = self.path("first", dataset, "corpus.txt")
        if path.exists() and path.read_text(encoding="utf-8") != key:
            raise InputError(f"{self.folder} holds runs over other documents called {dataset!r}; give another folder")
        self.write("first", dataset, "corpus.txt", text=key)

    def write(self, *parts: str, text: str) -> Path:
        """Write a text file; gives its path."""
        path = self.path(*parts)
        with atomic_write(path) as file:
            file.write(text)
        return path

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        self.write(name, text=json.dumps(values, ensure_ascii=False, indent=1, default=str) + "\n")

    def _asked_before(self) -> dict[str, Any] | None:
        path = self.folder / "suite.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"cannot read {path}: {error}; give another folder") from error
        return found if isinstance(found, dict) else {}


def digest(table: Mapping[str, Any]) -> str:
    """The same for tables that say the same."""
    return hashlib.sha256(json.dumps(table, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _plain(tables: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(tables, default=str))
