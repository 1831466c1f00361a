"""Digests by which a stored object is compared with the file it came from."""

import hashlib
from pathlib import Path

# boto3's own default; the ETag of a large object depends on it.
PART_BYTES = 8 * 1024**2


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def etag(path: Path) -> str:
    """The ETag of a file stored in parts of PART_BYTES.

    It is the MD5 of a file below one part, else the MD5 of the parts' MD5s and their number. It
    finds accidents, not forgeries.

    Source:
        Amazon S3 User Guide, "Checking object integrity". Encrypting stores differ.
    """
    with path.open("rb") as stream:
        parts = [_md5(part) for part in iter(lambda: stream.read(PART_BYTES), b"")]
    if path.stat().st_size < PART_BYTES:
        return (parts[0] if parts else _md5(b"")).hex()
    return f"{_md5(b''.join(parts)).hex()}-{len(parts)}"


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()
