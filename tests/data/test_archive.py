from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from pathlib import Path

import pytest

from lrlab.data import DataError
from lrlab.data.archive import read_members, sha256_of

WANTED = {"data/a.bin": 5, "data/b.bin": 3}
Members = list[tuple[tarfile.TarInfo, bytes]]


def member(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int | None = None
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if size is None else size
    return info, content


A, B = member("data/a.bin", b"aaaaa"), member("data/b.bin", b"bbb")


def packed(members: Members) -> bytes:
    """A .tar.gz with these headers, whatever they claim; tarfile itself would refuse to write some."""
    raw = b"".join(
        info.tobuf(tarfile.PAX_FORMAT) + content + b"\0" * (-len(content) % 512) for info, content in members
    )
    return gzip.compress(raw + b"\0" * 1024)


def read(tmp_path: Path, content: bytes, *, at_most: dict[str, int] | None = None) -> dict[str, bytes]:
    path = tmp_path / "some.tar.gz"
    path.write_bytes(content)
    with path.open("rb") as file:
        return read_members(file, exact=WANTED, at_most=at_most or {})


def test_wanted_members_are_read_and_no_others(tmp_path: Path) -> None:
    extra = member("data/readme.html", b"hello")
    assert read(tmp_path, packed([extra, B, extra, A])) == {"data/a.bin": b"aaaaa", "data/b.bin": b"bbb"}


def test_a_member_may_be_limited_rather_than_fixed_in_size(tmp_path: Path) -> None:
    names = member("names", b"xy")
    assert read(tmp_path, packed([names, A, B]), at_most={"names": 2})["names"] == b"xy"
    with pytest.raises(DataError, match="names must be at most 1 bytes, got 2"):
        read(tmp_path, packed([names, A, B]), at_most={"names": 1})


OUTSIDE = [
    member("../escaped", b"x"),
    member("/tmp/lrlab-escaped", b"x"),
    member("data/../../escaped", b"x"),
    member("data/link", kind=tarfile.SYMTYPE, link="../.."),
    member("data/link/escaped", b"x"),
    member("data/hard", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    member("data/device", kind=tarfile.CHRTYPE),
    member("data/pipe", kind=tarfile.FIFOTYPE),
    member("escaped", b"x"),
]


@pytest.mark.parametrize("trick", OUTSIDE, ids=lambda trick: f"{trick[0].name} {trick[0].type!r}")
def test_members_that_nobody_asked_for_never_touch_the_disk(
    trick: tuple[tarfile.TarInfo, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert read(folder, packed([trick, A, B])) == {"data/a.bin": b"aaaaa", "data/b.bin": b"bbb"}
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {folder / "some.tar.gz"}
    assert not Path("/tmp/lrlab-escaped").exists()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.CONTTYPE,
    ],
)
def test_a_wanted_name_that_is_no_regular_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    trick = member("data/a.bin", kind=kind, link="data/b.bin")
    with pytest.raises(DataError, match=r"data/a.bin must be a regular file, not a link, a device"):
        read(tmp_path, packed([B, trick, A]))


def test_a_sparse_file_is_refused_though_tarfile_calls_it_regular(tmp_path: Path) -> None:
    sparse = member("data/a.bin", kind=tarfile.GNUTYPE_SPARSE)
    assert sparse[0].isreg()
    with pytest.raises(DataError, match="must be a regular file"):
        read(tmp_path, packed([B, sparse]))


@pytest.mark.parametrize("size", [0, 4, 6, 10 * 2**30])
def test_a_wrong_size_is_refused_before_anything_is_read(size: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"data/a.bin must be 5 bytes, got {size:,}"):
        read(tmp_path, packed([B, member("data/a.bin", b"aaaaa", size=size)]))


def test_a_huge_member_that_nobody_asked_for_is_not_read(tmp_path: Path) -> None:
    huge = member("data/huge", b"x", size=10 * 2**30)
    assert set(read(tmp_path, packed([A, B, huge]))) == set(WANTED)
    with pytest.raises(DataError, match=r"some.tar.gz: not a complete .tar.gz archive"):
        read(tmp_path, packed([huge, A, B]))


def test_of_two_members_of_one_name_the_first_counts(tmp_path: Path) -> None:
    assert read(tmp_path, packed([A, member("data/a.bin", b"xxxxx"), B]))["data/a.bin"] == b"aaaaa"


def test_all_missing_members_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"some.tar.gz: the archive lacks data/a.bin, data/b.bin\."):
        read(tmp_path, packed([member("a.bin", b"aaaaa"), member("./data/b.bin", b"bbb")]))


def test_an_archive_cut_anywhere_is_refused_unless_all_was_there(tmp_path: Path) -> None:
    whole = packed([A, member("data/between", bytes(range(256)) * 40), B])
    for length in range(0, len(whole), 7):
        try:
            found = read(tmp_path, whole[:length])
        except DataError as error:
            assert "some.tar.gz" in str(error)
        else:
            assert found == {"data/a.bin": b"aaaaa", "data/b.bin": b"bbb"}
            assert length > len(whole) - 64  # only padding and gzip's trailer are gone


def test_damage_inside_a_member_is_refused(tmp_path: Path) -> None:
    tar = gzip.decompress(packed([A, member("data/b.bin", b"b" * 100_000)]))
    compressor = zlib.compressobj(wbits=31)
    sound = compressor.compress(tar[:50_000]) + compressor.flush(zlib.Z_FULL_FLUSH)
    path = tmp_path / "some.tar.gz"
    path.write_bytes(sound + b"\xff" * 64)  # begins a block of a kind that does not exist
    with path.open("rb") as file, pytest.raises(DataError, match=r"not a complete .* invalid block type"):
        read_members(file, exact={"data/a.bin": 5, "data/b.bin": 100_000}, at_most={})


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", gzip.compress(b"hello"), packed([A, B])[20:]],
    ids=["empty", "text", "text in gzip", "without its head"],  # gzip writes the time, and two workers have two
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"some.tar.gz: "):
        read(tmp_path, content)


def test_a_checksum_covers_the_whole_file_and_rewinds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300_000)
    with path.open("rb") as file:
        file.seek(1000, io.SEEK_SET)
        assert sha256_of(file) == hashlib.sha256(b"x" * 300_000).hexdigest()
        assert file.tell() == 0
