"""Queries and passages from free documentation: what a heading says is the query, what stands below it is relevant.

python scripts/documentation_corpus.py scripts/documentation.toml --output corpus --packages packages \\
    --never ../shared/data/trec-dl19 --never ../shared/data/scifact

The file lists packages of Debian and of PyPI with version and licence; those that `--packages` lacks are downloaded by
`apt-get download` and `pip download`, so a Debian of the release that has them is needed. HTML and reStructuredText are
read, English alone. Sections are cut at sentences into passages of at most 75 words; the first eight are taken. A
heading of one or two words gets the heading above it in front. Headings that come twice, or say nothing, ask nothing.

`--never` names collections that must not be trained on: a passage that shares eight words in a row with one of their
documents is left out, and so is a query that is one of theirs. The result is a folder as BEIR's: corpus.jsonl,
queries.jsonl, qrels/train.tsv; and sources.json, which says what came from where and what was left out.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import lxml.html

from rerank import Dataset
from rerank.io.atomic import atomic_write

MOST_WORDS, LEAST_WORDS, SHARED, OF_SECTION = 75, 25, 8, 8
RELEVANT = 2
"""Passages of a section that count as relevant: the first ones are about its heading, later ones about parts of it."""

DROPPED = "//script|//style|//pre|//table|//form|//nav|//footer|//sup|//*[@role='navigation' or @role='search']"
FURNITURE = {
    "toc", "contents", "sidebar", "sphinxsidebar", "related", "breadcrumb", "breadcrumbs", "footer", "menu",
    "navbar", "navheader", "navfooter", "nav-panel", "docnav", "localtoc", "toctree-wrapper", "wy-nav-side",
    "rst-versions", "section-toc", "footnotes",
}  # fmt: skip
HEADINGS, BLOCKS = ("h1", "h2", "h3", "h4", "h5", "h6"), ("p", "li", "dd", "blockquote", "div")
NUMBER = re.compile(
    r"^(?:(?:chapter|section|appendix|part)\s+(?:\d+|[a-z])\b[.:]?\s*|§\s*|[a-z]?\d+(?:[.-]\d+)*[.:)]?\s+|[a-z](?:\.\d+)+[.:)]?\s+)",
    re.IGNORECASE,
)
EMPTY = {
    "introduction", "overview", "description", "notes", "note", "see", "also", "example", "examples", "synopsis",
    "options", "contents", "index", "summary", "name", "usage", "general", "miscellaneous", "references", "author",
    "authors", "copyright", "license", "changes", "bugs", "other", "more", "details",
}  # fmt: skip
ENGLISH = {
    "the", "of", "to", "and", "a", "in", "is", "that", "for", "it", "be", "this", "are", "with", "as", "by", "or",
    "on", "can", "not",
}  # fmt: skip
LINK_SIGN = re.compile("[¶\ue000-\uf8ff]")
"""What themes put behind a heading, as a link to itself."""

ROLE = re.compile(r":[\w:+.-]+:`~?!?([^`<]*?)\s*(?:<[^`>]*>)?`")


@dataclass(frozen=True)
class Package:
    """Where text comes from.

    Args:
        archive: "debian" or "pypi".
        name, version: as the archive calls it.
        licence: of the text that is read.
        folder: only what lies below; "" takes all.
    """

    archive: str
    name: str
    version: str
    licence: str
    folder: str = ""


@dataclass
class Section:
    """A heading, the heading above it, and the paragraphs below it and above the next."""

    heading: str
    above: str
    paragraphs: list[str] = field(default_factory=list)


def main() -> None:
    """Download, read, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="the packages, as TOML")
    parser.add_argument("--output", type=Path, required=True, help="the collection's folder")
    parser.add_argument("--packages", type=Path, required=True, help="where the packages lie, or are downloaded to")
    parser.add_argument("--never", action="append", default=[], help="a collection that is not to be trained on")
    parser.add_argument("--queries", type=int, default=400, help="of a package at the most (400)")
    parser.add_argument("--passages", type=int, default=4000, help="of a package at the most (4000)")
    parser.add_argument("--seed", type=int, default=0, help="of what is taken where there is more (0)")
    given = parser.parse_args()
    packages = [Package(**table) for table in tomllib.loads(given.list.read_text(encoding="utf-8"))["package"]]
    given.packages.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(Never([Dataset.load(name) for name in given.never]), given.queries, given.passages, given.seed)
    for package in packages:
        path = downloaded(package, given.packages)
        corpus.add(package, sections(package, path))
        print(f"{package.name} {package.version}: {dict(corpus.counts[package.name])}", flush=True)
    corpus.write(given.output, packages)


# -- packages -----------------------------------------------------------------------------------------------------


def downloaded(package: Package, folder: Path) -> Path:
    """The package's file, fetched by the archive's own client where it is not there."""
    if not (path := _file_of(package, folder)):
        if package.archive == "debian":
            command = ["apt-get", "download", f"{package.name}={package.version}"]
        else:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command = [*pip, "--no-binary", package.name, f"{package.name}=={package.version}"]
        subprocess.run(command, cwd=folder, check=True)
        path = _file_of(package, folder)
    assert path is not None, f"{package.name} {package.version} was downloaded and is not in {folder}"
    return path


def _file_of(package: Package, folder: Path) -> Path | None:
    if package.archive == "debian":
        pattern = f"{package.name}_{package.version.replace(':', '%3a')}_*.deb"
    else:
        pattern = f"{package.name.lower()}-{package.version}.tar.gz"
    return next(iter(sorted(folder.glob(pattern))), None)


@contextmanager
def opened(package: Package, path: Path) -> Iterator[tarfile.TarFile]:
    """Its files, read one after another; nothing is unpacked."""
    if package.archive == "pypi":
        with tarfile.open(path, "r|gz") as archive:
            yield archive
        return
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        yield archive


def sections(package: Package, path: Path) -> Iterator[Section]:
    """Of all pages of a package, in the order of the archive."""
    readers = {".html": html_sections, ".htm": html_sections, ".rst": rst_sections}
    with opened(package, path) as archive:
        for member in archive:
            reader = readers.get(Path(member.name).suffix)
            if reader and member.isfile() and package.folder in member.name:
                content = archive.extractfile(member)
                assert content is not None
                yield from reader(content.read().decode("utf-8", errors="replace"))


# -- pages to sections --------------------------------------------------------------------------------------------


def html_sections(page: str) -> Iterator[Section]:
    """Headings and paragraphs, without code, tables and what only leads elsewhere."""
    try:
        root = lxml.html.document_fromstring(page.encode("utf-8"), parser=lxml.html.HTMLParser(encoding="utf-8"))
    except lxml.etree.ParserError:  # an empty page
        return
    title = _plain(root.findtext(".//title") or "")
    for element in root.xpath(DROPPED) + [one for one in root.iter("div", "ul", "dl") if _is_furniture(one)]:
        if element.getparent() is not None:
            element.drop_tree()
    above, section = {0: title}, Section(title, "")
    for element in root.iter(*HEADINGS, *BLOCKS):
        if element.tag in HEADINGS:
            yield section
            level, heading = int(element.tag[1]), _plain(element.text_content())
            above = {one: text for one, text in above.items() if one < level}
            section = Section(heading, _last_other(above, heading))
            above[level] = heading
        elif next(element.iterdescendants(*HEADINGS, *BLOCKS), None) is None and not _only_links(element):
            section.paragraphs.append(_plain(element.text_content()))
    yield section


def _is_furniture(element: Any) -> bool:
    return not FURNITURE.isdisjoint(element.get("class", "").lower().split())


def _only_links(element: Any) -> bool:
    linked = sum(len(link.text_content()) for link in element.iter("a"))
    return linked > 0.5 * len(element.text_content())


def _last_other(above: dict[int, str], heading: str) -> str:
    return next((text for _, text in sorted(above.items(), reverse=True) if text and text != heading), "")


def rst_sections(page: str) -> Iterator[Section]:
    """The same of reStructuredText; directives and roles that only Sphinx knows are passed over."""
    from docutils import nodes
    from docutils.core import publish_doctree

    settings = {"report_level": 5, "halt_level": 5, "file_insertion_enabled": False, "raw_enabled": False}
    settings |= {"doctitle_xform": False, "_disable_config": True}
    tree = publish_doctree(ROLE.sub(r"\1", page), settings_overrides=settings)
    for section in tree.findall(nodes.section):
        above = section.parent.next_node(nodes.title) if isinstance(section.parent, nodes.section) else None
        found = Section(_plain(section[0].astext()), _plain(above.astext()) if above else "")
        for child in section.children[1:]:
            if not isinstance(child, nodes.section | nodes.system_message):
                found.paragraphs += [_plain(one.astext()) for one in child.findall(nodes.paragraph)]
        yield found


def _plain(text: str) -> str:
    return " ".join(LINK_SIGN.sub(" ", text).split())


# -- sections to queries and passages -----------------------------------------------------------------------------


def query_of(section: Section) -> str | None:
    """What the heading asks, or None where it asks nothing by itself."""
    heading = _unnumbered(section.heading)
    if len(heading.split()) < 3:
        heading = f"{_unnumbered(section.above)} {heading}"
    words = re.findall(r"[^\W\d_]+", heading.lower())
    telling = {word for word in words if len(word) > 2} - EMPTY - ENGLISH
    odd = re.search(r"[_=(){}\\<>|;@/]|::|--|\d\.\d", heading)
    return None if odd or not 3 <= len(heading.split()) <= 15 or len(telling) < 2 else heading


def _unnumbered(heading: str) -> str:
    while (shorter := NUMBER.sub("", heading)) != heading:
        heading = shorter
    return heading.strip(" .:#–—-")


def passages_of(paragraphs: Iterable[str]) -> Iterator[str]:
    """Whole sentences together, as many as 75 words hold; rests under 25 words, and other languages, are left out."""
    taken: list[str] = []
    for sentence in (one for text in paragraphs for one in re.split(r"(?<=[.!?])\s+", text) if one):
        if taken and len(f"{' '.join(taken)} {sentence}".split()) > MOST_WORDS:
            yield from _readable(" ".join(taken))
            taken = []
        taken.append(sentence)
    yield from _readable(" ".join(taken))


def _readable(text: str) -> Iterator[str]:
    words = text.lower().split()
    english = sum(word in ENGLISH for word in words)
    if LEAST_WORDS <= len(words) <= 2 * MOST_WORDS and english >= 0.15 * len(words):
        yield text


class Never:
    """What is not to be trained on."""

    def __init__(self, collections: Sequence[Dataset]) -> None:
        self.queries = {_key(query.text) for one in collections for query in one.queries}
        self.runs = {run for one in collections for document in one.documents() for run in _runs(document.full_text)}

    def holds_query(self, text: str) -> bool:
        """It is one of theirs, but for case and punctuation."""
        return _key(text) in self.queries

    def holds_passage(self, text: str) -> bool:
        """It shares words in a row with one of their documents."""
        return not self.runs.isdisjoint(_runs(text))


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _runs(text: str) -> Iterator[int]:
    words = _key(text).split()
    return (hash(tuple(words[start : start + SHARED])) for start in range(len(words) - SHARED + 1))


class Corpus:
    """What is collected: passages, queries, which belong together, and counts of it all."""

    def __init__(self, never: Never, queries: int, passages: int, seed: int) -> None:
        self.never, self.queries, self.passages, self.seed = never, queries, passages, seed
        self.documents: dict[str, str] = {}
        self.asked: dict[str, tuple[str, list[str]]] = {}
        self.counts: dict[str, Counter[str]] = {}
        self._seen: set[str] = set()

    def add(self, package: Package, found: Iterable[Section]) -> None:
        """A package's sections, or those that are drawn of them."""
        count = self.counts[package.name] = Counter()
        kept = [(one, texts) for one in found if (texts := list(islice(self._new(one.paragraphs, count), OF_SECTION)))]
        headings = Counter(_key(query) for section, _ in kept if (query := query_of(section)))
        random.Random(f"{self.seed} {package.name}").shuffle(kept)
        for section, texts in kept:
            if count["passages"] + len(texts) > self.passages:
                count["passages beyond the limit"] += len(texts)
                continue
            names = [f"{package.name}-{count['passages'] + number}" for number in range(len(texts))]
            self.documents.update(zip(names, texts, strict=True))
            count["passages"] += len(texts)
            query = query_of(section)
            if query is not None and headings[_key(query)] == 1 and count["queries"] < self.queries:
                self._ask(query, names[:RELEVANT], count, package.name)

    def _ask(self, query: str, relevant: list[str], count: Counter[str], package: str) -> None:
        if self.never.holds_query(query):
            count["queries of collections that are never trained on"] += 1
        elif _key(query) not in self._seen:
            self._seen.add(_key(query))
            self.asked[f"{package}-q{count['queries']}"] = (query, relevant)
            count["queries"] += 1

    def _new(self, paragraphs: Sequence[str], count: Counter[str]) -> Iterator[str]:
        for text in passages_of(paragraphs):
            if self.never.holds_passage(text):
                count["passages of collections that are never trained on"] += 1
            elif (key := _key(text)) not in self._seen:
                self._seen.add(key)
                yield text

    def write(self, folder: Path, packages: Sequence[Package]) -> None:
        """As BEIR's folders are, sources.json last."""
        assert not any(self.never.holds_query(query) for query, _ in self.asked.values())
        assert not any(self.never.holds_passage(text) for text in self.documents.values())
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        _write_lines(folder / "corpus.jsonl", ({"_id": one, "text": text} for one, text in self.documents.items()))
        asked = random.Random(self.seed).sample(sorted(self.asked.items()), len(self.asked))  # the first N are of all
        _write_lines(folder / "queries.jsonl", ({"_id": one, "text": query} for one, (query, _) in asked))
        with atomic_write(folder / "qrels" / "train.tsv", "w") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            for name, (_, relevant) in self.asked.items():
                file.writelines(f"{name}\t{one}\t1\n" for one in relevant)
        sources = [vars(package) | dict(self.counts[package.name]) for package in packages]
        with atomic_write(folder / "sources.json", "w") as file:
            json.dump({"seed": self.seed, "packages": sources}, file, indent=1)


def _write_lines(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with atomic_write(path, "w") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
