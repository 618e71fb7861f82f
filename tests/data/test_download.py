from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lrlab.data import CifarArchive, DataError, fetch_cifar, load_cifar
from lrlab.data.download import DownloadError, download


@dataclass
class Server:
    """An http server on this machine, and what it does with the next request."""

    url: str
    status: int = 200
    body: bytes = b""
    claimed_length: int | None = None
    num_requests: int = 0

    def archive(self, archive: CifarArchive) -> CifarArchive:
        return replace(archive, url=f"{self.url}/{archive.file_name}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.num_requests += 1
            self.send_response(state.status)
            length = len(state.body) if state.claimed_length is None else state.claimed_length
            if length >= 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def refused(archive: CifarArchive, directory: Path, *messages: str) -> None:
    """The download fails with these words, says how to do without, and leaves nothing behind."""
    with pytest.raises(DataError) as caught:
        fetch_cifar(archive, directory)
    text = str(caught.value)
    for message in (f"small: could not download {archive.url} to {directory}: ", *messages):
        assert message in text
    assert text.splitlines()[1:] == [
        "Put small-binary.tar.gz there by hand, or name a folder that has it: data.dir (--data-dir where "
        "the command has it) or LRLAB_DATA_DIR. The data set digits needs no download."
    ]
    assert not directory.exists() or list(directory.iterdir()) == []


def test_the_right_bytes_are_kept_under_their_own_name(server: Server, small: Any, tmp_path: Path) -> None:
    server.body = small.packed
    path = fetch_cifar(server.archive(small.archive), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "small-binary.tar.gz"
    assert path.read_bytes() == small.packed
    assert [entry.name for entry in path.parent.iterdir()] == ["small-binary.tar.gz"]


def test_what_is_there_and_sound_is_not_fetched_again(server: Server, small: Any, tmp_path: Path) -> None:
    path = small.pack(tmp_path)
    assert fetch_cifar(server.archive(small.archive), tmp_path) == path
    assert server.num_requests == 0


def test_what_is_there_and_damaged_is_replaced(server: Server, small: Any, tmp_path: Path) -> None:
    server.body = small.packed
    path = small.pack(tmp_path)
    path.write_bytes(small.packed[:-1])
    fetch_cifar(server.archive(small.archive), tmp_path)
    assert path.read_bytes() == small.packed


def test_loading_from_an_empty_cache_downloads_once(
    server: Server, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRLAB_DATA_DIR", str(tmp_path / "cache"))
    server.body = small.packed
    for _ in range(2):
        assert len(load_cifar(server.archive(small.archive), None).train) == 12
    assert server.num_requests == 1


def test_a_given_directory_is_never_downloaded_to(server: Server, small: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        load_cifar(server.archive(small.archive), tmp_path)
    assert server.num_requests == 0


def test_wrong_bytes_are_named_by_both_checksums(server: Server, small: Any, tmp_path: Path) -> None:
    server.body = b"a page that asks you to log in"
    wrong = hashlib.sha256(server.body).hexdigest()
    refused(server.archive(small.archive), tmp_path, small.archive.sha256, wrong)


def test_a_download_cut_short_is_refused(server: Server, small: Any, tmp_path: Path) -> None:
    server.body, server.claimed_length = small.packed[:1000], len(small.packed)
    refused(server.archive(small.archive), tmp_path, "1000 bytes read", "more expected")


def test_a_cut_that_the_server_hides_is_found_by_the_checksum(server: Server, small: Any, tmp_path: Path) -> None:
    server.body, server.claimed_length = small.packed[:1000], -1
    refused(server.archive(small.archive), tmp_path, "does not match")


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_error_of_the_server_is_passed_on(server: Server, small: Any, tmp_path: Path, status: int) -> None:
    server.status = status
    refused(server.archive(small.archive), tmp_path, f"{status} ")


def test_no_network_says_so_in_plain_words(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    archive = replace(small.archive, url=f"http://127.0.0.1:{port}/small-binary.tar.gz")
    refused(archive, tmp_path, "Connection refused\n")


def test_a_folder_that_cannot_be_written_says_so(server: Server, small: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"could not download .*file/folder: .*Not a directory|File exists"):
        fetch_cifar(server.archive(small.archive), tmp_path / "file" / "folder")


def test_a_failed_replacement_leaves_the_old_file(server: Server, small: Any, tmp_path: Path) -> None:
    server.status = 500
    path = small.pack(tmp_path)
    path.write_bytes(b"old")
    with pytest.raises(DataError, match="500"):
        fetch_cifar(server.archive(small.archive), tmp_path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_terminal_no_bar_is_drawn(
    server: Server, small: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.body = small.packed
    fetch_cifar(server.archive(small.archive), tmp_path)
    output = capfd.readouterr()
    assert output.out == ""
    assert "\x1b" not in output.err
    assert "kB" not in output.err


@contextmanager
def terminal_as_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Makes stderr a terminal; afterwards the result holds what was drawn on it."""
    main, secondary = os.openpty()
    drawn = io.BytesIO()

    def copy() -> None:
        with suppress(OSError):  # the other end is closed
            while True:
                drawn.write(os.read(main, 4096))

    reader = threading.Thread(target=copy)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(secondary, "w") as stderr:
        patch.setattr("sys.stderr", stderr)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "120")
        yield drawn
    reader.join()
    os.close(main)


def test_on_a_terminal_a_bar_is_drawn_to_its_end(
    server: Server, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = small.packed
    with terminal_as_stderr(monkeypatch) as drawn:
        fetch_cifar(server.archive(small.archive), tmp_path)
    text = drawn.getvalue().decode()
    assert "small-binary.tar.gz" in text
    size = f"{len(small.packed) / 1000:.1f}"
    assert f"{size}/{size} kB" in text


def test_a_bar_ends_with_a_failed_download_and_the_cursor_returns(
    server: Server, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 500
    with terminal_as_stderr(monkeypatch) as drawn, pytest.raises(DataError, match="500"):
        fetch_cifar(server.archive(small.archive), tmp_path)
    text = drawn.getvalue().decode()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > -1  # shown again after it was hidden


def test_a_server_that_stops_answering_is_given_up(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("lrlab.data.download._PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/small-binary.tar.gz"
        start = time.monotonic()
        with pytest.raises(DownloadError, match="timed out"):
            download(url, directory=tmp_path, num_bytes=10, sha256=small.archive.sha256)
        assert time.monotonic() - start < 4
    assert list(tmp_path.iterdir()) == []
