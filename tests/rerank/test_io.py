"""Files of every kind: read line by line, gzip or not; written whole or not at all."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rerank.errors import FileError
from rerank.io import atomic_write, read_corpus, read_qrels, read_queries, read_requests, read_run
from rerank.io.lines import lines

READERS = [read_run, read_qrels, read_corpus, read_queries, read_requests]


def read(reader, path):
    return list(reader(path))


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named(reader, tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*nothing.*: No such file or directory"):
        read(reader, tmp_path / "nothing")


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_is_no_file(reader, tmp_path):
    with pytest.raises(FileError, match="is a folder; a file is wanted here"):
        read(reader, tmp_path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", gzip.compress(b"")])
def test_an_empty_file_is_an_error(reader, content, tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(content)

    with pytest.raises(FileError, match="empty is empty"):
        read(reader, path)


@pytest.mark.parametrize("reader", READERS)
def test_torn_gzip_is_told_with_the_line_where_it_tears(reader, tmp_path):
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress(b'{"_id": "a", "text": "b"}\n' * 99)[:-12])

    with pytest.raises(FileError, match=r"torn\.gz:\d+: "):
        read(reader, path)


@pytest.mark.parametrize(("name", "pack"), [("x.gz", bytes), ("x.txt", gzip.compress), ("x.gz", gzip.compress)])
def test_gzip_is_known_by_its_bytes_and_not_by_its_name(name, pack, tmp_path):
    path = tmp_path / name
    path.write_bytes(pack(b"one\ntwo"))

    assert list(lines(path)) == [(1, b"one"), (2, b"two")]


def test_byte_order_mark_carriage_returns_and_blank_lines_are_no_part_of_the_records(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n")

    assert list(lines(path)) == [(1, b"one"), (3, b"two")]


def test_only_newlines_end_a_line(tmp_path):
    path = tmp_path / "separators.jsonl"
    path.write_text('{"_id": "1", "text": "a\u2028b\u0085c\x0cd"}\n'.replace("\x0c", "\\f"), encoding="utf-8")

    [document] = read_corpus(path)

    assert document.text == "a\u2028b\u0085c\x0cd"


@pytest.mark.parametrize("name", ["out.txt", "out.txt.gz"])
def test_a_written_file_holds_what_was_written_and_nothing_lies_beside_it(name, tmp_path):
    write(tmp_path / name, "grüße\n")

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert list(lines(tmp_path / name)) == [(1, "grüße".encode())]


def test_equal_content_gives_equal_gzip_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        with atomic_write(tmp_path / name, "wb") as file:
            file.write(b"content")

    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="needs permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("old")
    path.chmod(mode)

    with atomic_write(path) as file:
        [part] = tmp_path.glob(".*.part")
        while_written = part.stat().st_mode & 0o777
        file.write("new")

    assert while_written == mode
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_text() == "new"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("name", ["out.txt", "out.txt.gz"])
def test_what_stops_in_the_middle_leaves_the_old_file_and_no_trace(stop, name, tmp_path):
    def stopped():
        yield "new" * 10_000
        raise stop

    (tmp_path / name).write_text("old")

    with pytest.raises(stop), atomic_write(tmp_path / name) as file:
        file.writelines(stopped())

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


def write(path, text):
    with atomic_write(path) as file:
        file.write(text)


def test_a_disk_that_is_found_full_at_the_end_says_how_far_it_came(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"no space left to write .*out\.txt \(100,000 bytes written\); free some or"):
        write(tmp_path / "out.txt", "x" * 100_000)

    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_half_way_is_one_line_and_leaves_no_trace(tmp_path):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from rerank.io import atomic_write\n"
        "try:\n"
        "    with atomic_write('out.txt') as file:\n"
        "        for _ in range(99): file.write('x' * 999)\n"
        "except ValueError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("cannot write out.txt: File too large\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_really_full_device_is_one_line():
    with pytest.raises(FileError, match="no space left to write /dev/full"):
        write("/dev/full", "x")

    assert Path("/dev/full").is_char_device()


def test_standard_output_can_be_written_to_even_where_it_is_a_file(tmp_path):
    code = (
        "from rerank.io import atomic_write\n"
        "print('before', flush=True)\n"
        "with atomic_write('/dev/stdout') as file: file.write('between\\n')\n"
        "print('after', flush=True)"
    )
    out = tmp_path / "out.txt"

    with open(out, "a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)

    assert out.read_text() == "before\nbetween\nafter\n"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a file system under /dev")
def test_an_ordinary_file_under_dev_is_replaced_as_anywhere():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for text in ("a longer text", "short"):
            write(Path(folder) / "out.txt", text)

        assert [path.read_text() for path in Path(folder).iterdir()] == ["short"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    write(tmp_path / "link", "new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_folder_cannot_be_written_over(tmp_path):
    with pytest.raises(FileError, match="it is a folder"):
        write(tmp_path, "new")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match=r"there is no folder .*nowhere; create it first"):
        write(tmp_path / "nowhere" / "out.txt", "new")


def test_text_without_utf8_is_one_line_and_leaves_no_trace(tmp_path):
    with pytest.raises(FileError, match="has no UTF-8"):
        write(tmp_path / "out.txt", "\ud800")

    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_is_not_blamed_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "out.txt"):
        (tmp_path / "other").read_text()
