"""Where an object or a prefix is in an S3 store."""

import re
from dataclasses import dataclass

from mono3d.errors import StorageError

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class S3Location:
    """A bucket and a key or a key prefix in it, without slashes at either end."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> "S3Location":
        """Read `s3://bucket/prefix`; the prefix may be missing.

        Raises:
            StorageError: If it is not such a URI or the bucket's name breaks the rules of S3.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not _BUCKET_NAME.fullmatch(bucket):
            raise StorageError(
                f"{uri!r} is not an S3 URI; use s3://bucket/prefix with a bucket of 3 to 63 "
                "lower-case letters, digits, dots and hyphens"
            )
        return cls(bucket, key.strip("/"))

    def child(self, name: str) -> "S3Location":
        """The location of `name` below this one."""
        return S3Location(self.bucket, f"{self.prefix}{name}")

    @property
    def prefix(self) -> str:
        """What the keys below this location begin with: `runs/a/`, so that `runs/ab` is none."""
        return f"{self.key}/" if self.key else ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")
