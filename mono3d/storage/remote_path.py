"""Files of a data set in an S3 store, with what their readers use of a `Path`.

A folder is listed once, when something in it is first asked for, and read as it was then: what is
not listed is missing, and a cached content counts only while its object has the listed ETag.
"""

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import PurePosixPath

from mono3d.storage import s3
from mono3d.storage.object_cache import ObjectCache
from mono3d.storage.s3_listing import ListedObject, Listing, list_folder
from mono3d.storage.s3_location import S3Location


class ListedBucket:
    """A bucket, what was listed of it, and the cache of its contents. Picklable."""

    def __init__(self, name: str, cache: ObjectCache) -> None:
        """Nothing is asked of the store yet."""
        self.name = name
        self.cache = cache
        self._listings: dict[str, Listing] = {}

    def listing(self, folder: str) -> Listing:
        """What lies directly in a folder.

        Raises:
            StorageError: If the store cannot be asked or the bucket is missing.
        """
        if folder not in self._listings:
            self._listings[folder] = list_folder(S3Location(self.name, folder))
        return self._listings[folder]


@dataclass(frozen=True)
class RemotePath:
    """A file or a folder in a bucket; paths made of one another share what was listed."""

    bucket: ListedBucket
    key: str
    """Without slashes at either end."""

    @classmethod
    def at(cls, uri: str, cache: ObjectCache) -> "RemotePath":
        """The path of a URI, to be listed anew.

        Raises:
            StorageError: If it is no `s3://` URI.
        """
        location = S3Location.parse(uri)
        return cls(ListedBucket(location.bucket, cache), location.key)

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.bucket, self._location.child(name).key)

    def __str__(self) -> str:
        return str(self._location)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """Name without its suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """Ending of the name, with its dot."""
        return PurePosixPath(self.key).suffix

    def listing(self) -> Listing:
        """What lies directly in this folder; nothing if there is no such folder.

        Raises:
            StorageError: If the store cannot be asked or the bucket is missing.
        """
        return self.bucket.listing(self.key)

    def is_dir(self) -> bool:
        """Whether anything lies below it; see `listing` for what may be raised."""
        listing = self.listing()
        return len(listing.names) > 0 or len(listing.folders) > 0

    def is_file(self) -> bool:
        """Whether it is an object; see `listing` for what may be raised."""
        return self._find() is not None

    def is_cached(self) -> bool:
        """Whether its content is in the cache by now; see `listing` for what may be raised."""
        listed = self._find()
        return listed is not None and self.bucket.cache.holds(_digest(self._location, listed))

    @property
    def content_digest(self) -> str:
        """Digest of which content the file has: of store, place, size and ETag.

        Raises:
            FileNotFoundError: If it is not there.
            StorageError: If the store cannot be asked.
        """
        return _digest(self._location, self._listed())

    def read_bytes(self) -> bytes:
        """Content of the file, from the cache if it is there.

        Raises:
            FileNotFoundError: If it is not there.
            StorageError: If the store cannot be read.
        """
        listed, cache = self._listed(), self.bucket.cache
        digest = _digest(self._location, listed)
        content = cache.read(digest, listed.size)
        if content is not None:
            return content
        try:
            found = s3.read_object(str(self))
        except s3.NoSuchObjectError as error:
            raise self._missing() from error
        if found.etag == listed.etag:  # else it changed after it was listed
            cache.write(digest, found.content)
        return found.content

    @property
    def _location(self) -> S3Location:
        return S3Location(self.bucket.name, self.key)

    def _find(self) -> ListedObject | None:
        folder, _, name = self.key.rpartition("/")
        return self.bucket.listing(folder).find(name)

    def _listed(self) -> ListedObject:
        listed = self._find()
        if listed is None:
            raise self._missing()
        return listed

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))


def _digest(location: S3Location, listed: ListedObject) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    facts = f"{endpoint}\n{location}\n{listed.etag}\n{listed.size}"
    return hashlib.sha256(facts.encode()).hexdigest()
