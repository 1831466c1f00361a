"""Digests of files, against values from the definition."""

import hashlib
from pathlib import Path

from mono3d.storage.digests import PART_BYTES, etag, sha256


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_digests_of_a_short_text(tmp_path: Path) -> None:
    path = _file(tmp_path, b"abc")
    # RFC 1321, appendix A.5, and FIPS 180-2, appendix B.1.
    assert etag(path) == "900150983cd24fb0d6963f7d28e17f72"
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_etag_of_an_empty_file(tmp_path: Path) -> None:
    assert etag(_file(tmp_path, b"")) == "d41d8cd98f00b204e9800998ecf8427e"


def test_etag_of_a_file_in_parts(tmp_path: Path) -> None:
    first, second = b"a" * PART_BYTES, b"b"
    digests = hashlib.md5(first).digest() + hashlib.md5(second).digest()
    assert etag(_file(tmp_path, first + second)) == hashlib.md5(digests).hexdigest() + "-2"


def test_a_file_of_exactly_one_part_counts_as_parts(tmp_path: Path) -> None:
    assert etag(_file(tmp_path, b"a" * PART_BYTES)).endswith("-1")
