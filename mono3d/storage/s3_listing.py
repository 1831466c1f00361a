"""What lies in a folder of an S3 store."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from mono3d.storage import s3
from mono3d.storage.s3_location import S3Location


@dataclass(frozen=True)
class ListedObject:
    """What a listing says of an object."""

    size: int
    """Bytes."""
    etag: str
    """Changes with the content."""


@dataclass(frozen=True)
class Listing:
    """Objects directly in a folder, in the order of their names.

    Arrays: a data set has hundreds of thousands of objects, and forked processes share an array's
    pages, which those of as many Python objects they soon do not.
    """

    names: Shaped[np.ndarray, " n"]
    """UTF-8, as are ETags."""
    sizes: Int64[np.ndarray, " n"]
    etags: Shaped[np.ndarray, " n"]
    folders: tuple[str, ...]
    """Names of the folders in it."""

    def find(self, name: str) -> ListedObject | None:
        """The object of a name; None if there is none."""
        row = int(np.searchsorted(self.names, name.encode()))
        if row == len(self.names) or self.names[row] != name.encode():
            return None
        return ListedObject(int(self.sizes[row]), self.etags[row].decode())


def list_folder(folder: S3Location) -> Listing:
    """List a folder without those in it; one that is not there is empty.

    Raises:
        StorageError: If the store cannot be asked or the bucket is missing.
    """
    client, start = s3.connect(), len(folder.prefix)
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=folder.bucket, Prefix=folder.prefix, Delimiter="/"
    )
    rows: list[tuple[bytes, int, bytes]] = []
    folders: list[str] = []
    with s3.explained(client, "list", folder):
        for page in pages:
            # An object of the folder's own name is how some tools mark a folder.
            rows += [
                (entry["Key"][start:].encode(), entry["Size"], entry["ETag"].strip('"').encode())
                for entry in page.get("Contents", [])
                if entry["Key"] != folder.prefix
            ]
            folders += [entry["Prefix"][start:-1] for entry in page.get("CommonPrefixes", [])]
    names, sizes, etags = zip(*sorted(rows), strict=True) if rows else ((), (), ())
    return Listing(
        names=np.array(names, dtype=np.bytes_),
        sizes=np.array(sizes, dtype=np.int64),
        etags=np.array(etags, dtype=np.bytes_),
        folders=tuple(folders),
    )
