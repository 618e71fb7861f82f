"""Members of a .tar.gz read into memory by exact name, kind and size; nothing is ever written to disk."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from io import BufferedReader

from lrlab.data.images import DataError


def sha256_of(file: BufferedReader) -> str:
    """SHA-256 of the whole file, in hexadecimal; leaves the file at its start."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


def read_members(file: BufferedReader, *, exact: Mapping[str, int], at_most: Mapping[str, int]) -> dict[str, bytes]:
    """Contents of the named members, and of no others.

    Whatever else the archive holds is passed over unread: no name from it is used as a path, no link is
    followed, and a wanted name that is not a regular file of the right size is refused before it is read.

    Args:
        file: a .tar.gz, at its start, whose checksum has been compared: tarfile itself trusts some headers.
        exact: member name -> its size in bytes.
        at_most: member name -> the largest size allowed.
    Raises: DataError that names the member, or all that are missing.
    """
    wanted = {**exact, **at_most}
    contents: dict[str, bytes] = {}
    where = file.name
    try:
        with tarfile.open(fileobj=file, mode="r:gz") as archive:
            for member in archive:
                if member.name not in wanted or member.name in contents:
                    continue
                _check_member(where, member, size=wanted[member.name], may_be_less=member.name in at_most)
                content = archive.extractfile(member)
                assert content is not None  # a regular file
                contents[member.name] = content.read()
                if len(contents) == len(wanted):
                    return contents
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{where}: not a complete .tar.gz archive: {error}.") from error
    raise DataError(f"{where}: the archive lacks {', '.join(sorted(wanted.keys() - contents.keys()))}.")


def _check_member(where: str, member: tarfile.TarInfo, *, size: int, may_be_less: bool) -> None:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):  # isreg() also lets sparse files through
        raise DataError(f"{where}: {member.name} must be a regular file, not a link, a device or the like.")
    if member.size > size or (member.size < size and not may_be_less):
        limit = "at most " if may_be_less else ""
        raise DataError(f"{where}: {member.name} must be {limit}{size:,} bytes, got {member.size:,}.")
