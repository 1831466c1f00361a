"""Objects in an S3 store: verified upload and download, listing, deletion.

Any S3-compatible store will do; which one is said by the environment alone (`AWS_ENDPOINT_URL`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_DEFAULT_REGION`), so that this module, Ray and
MLflow always mean the same. Only this file imports boto3, and only when it is used: a machine
without it can import all that stands on this one.

Every failure is a `StorageError` of one line with the endpoint, the object and the remedy.
"""

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mono3d.errors import StorageAwayError, StorageError
from mono3d.storage.digests import PART_BYTES, etag, sha256
from mono3d.storage.s3_errors import explain, is_passing
from mono3d.storage.s3_location import S3Location

# boto3 builds its clients at run time and ships no types.
S3Client = Any

MAX_CONNECTIONS = 32
"""Of one client, each for one thread."""
_DELETE_BATCH = 1000  # the protocol's limit for one request
_READ_ATTEMPTS = 3
_ANSWER_S = 60
"""That a store may take."""


class NoSuchObjectError(StorageError):
    """The bucket holds no such object."""


class StoredObject(NamedTuple):
    """An object as the store gave it."""

    content: bytes
    etag: str
    """Changes with the content."""


class _Settings(NamedTuple):
    """What tells one client from another."""

    endpoint: str | None
    access_key: str | None
    secret_key: str | None
    token: str | None
    region: str
    is_hasty: bool
    process: int
    """A forked one would share, and mix up, its parent's connections."""


def connect(environ: Mapping[str, str] = os.environ, *, hasty: bool = False) -> S3Client:
    """A boto3 client for the store that `environ` names; nothing is sent yet.

    An endpoint at which nobody answers is given up after less than 10 seconds. Without
    `AWS_ACCESS_KEY_ID` boto3 looks for credentials in its usual places (profiles, roles).

    Args:
        environ: Variables to read; the process's own unless given.
        hasty: Give up within 8 seconds also on a server that accepts and never answers; else
            a store may take its time, a minute for each of three attempts.

    Returns:
        The client, the same one for the same settings in a process. Several threads may use it.

    Raises:
        StorageError: If boto3 is not installed or the endpoint is not a URL.
    """
    return _build_client(
        _Settings(
            endpoint=environ.get("AWS_ENDPOINT_URL") or None,
            access_key=environ.get("AWS_ACCESS_KEY_ID") or None,
            secret_key=environ.get("AWS_SECRET_ACCESS_KEY") or None,
            token=environ.get("AWS_SESSION_TOKEN") or None,
            region=environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            is_hasty=hasty,
            process=os.getpid(),
        )
    )


@lru_cache(maxsize=8)
def _build_client(settings: _Settings) -> S3Client:
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise StorageError("s3:// needs boto3; run `pip install boto3`") from error
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=2,
        read_timeout=2 if settings.is_hasty else _ANSWER_S,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"total_max_attempts": 2 if settings.is_hasty else 3, "mode": "standard"},
    )
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=settings.endpoint,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            aws_session_token=settings.token,
            region_name=settings.region,
            config=config,
        )
    except ValueError as error:
        shown = (settings.endpoint or "").rpartition("@")[2]  # without a user's password
        raise StorageError(
            f"AWS_ENDPOINT_URL={shown!r} is not a URL; set it to http(s)://host:port"
        ) from error


@contextmanager
def explained(client: S3Client, action: str, location: S3Location) -> Iterator[None]:
    """Turn whatever the client raises inside into a StorageError of one line."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from s3transfer.exceptions import RetriesExceededError  # type: ignore[import-untyped]

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, ResponseParserError, RetriesExceededError) as e:
        code = e.response["Error"]["Code"] if isinstance(e, ClientError) else type(e).__name__
        where = {"target": str(location), "endpoint": client.meta.endpoint_url}
        kind = StorageAwayError if is_passing(code) else StorageError
        kind = NoSuchObjectError if code == "NoSuchKey" else kind
        raise kind(explain(code, action=action, **where)) from e


def ensure_bucket(uri: str, *, client: S3Client = None) -> None:
    """Create the bucket of `uri` unless it is there.

    Raises:
        StorageError: If the store cannot be reached, or does not let us.
    """
    client, location = client or connect(), S3Location.parse(uri)
    with explained(client, "create the bucket of", location):
        names = {bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])}
        if location.bucket not in names:
            client.create_bucket(Bucket=location.bucket)


def check_access(uri: str, *, client: S3Client = None) -> None:
    """Write, read and delete a small object below `uri`.

    Raises:
        StorageError: If one of the three fails, within 10 seconds where nobody answers.
    """
    client = client or connect(hasty=True)
    location = S3Location.parse(uri)
    probe = location.child(f".probe-{uuid.uuid4().hex}")
    at, content = {"Bucket": probe.bucket, "Key": probe.key}, probe.key.encode()
    with explained(client, "write below", location):
        client.put_object(**at, Body=content)
    with explained(client, "read below", location):
        found = client.get_object(**at)["Body"].read()
    if found != content:
        raise StorageError(
            f"{location} does not give back what was written; correct AWS_ENDPOINT_URL"
        )
    with explained(client, "delete below", location):
        client.delete_object(**at)


def read_bytes(uri: str) -> bytes:
    """The content of one object.

    Raises:
        StorageError: If it is not there, cannot be read, or is not what was uploaded.
    """
    return read_object(uri).content


def read_object(uri: str) -> StoredObject:
    """One object, and which version of it.

    Raises:
        NoSuchObjectError: If it is not there.
        StorageError: If it cannot be read, or is not what was uploaded.
    """
    client, location = connect(), S3Location.parse(uri)
    with explained(client, "read", location):
        answer, content = _get_whole(client, location)
    _check_digest(location, answer["Metadata"].get("sha256"), hashlib.sha256(content).hexdigest())
    return StoredObject(content, answer["ETag"].strip('"'))


def _get_whole(
    client: S3Client, location: S3Location, attempts: int = _READ_ATTEMPTS
) -> tuple[Mapping[str, Any], bytes]:
    """Answer and content; boto3 by itself repeats requests, but not answers that came damaged."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    answer = client.get_object(Bucket=location.bucket, Key=location.key)
    try:
        return answer, answer["Body"].read()
    except (HTTPClientError, IncompleteReadError, FlexibleChecksumError):
        if attempts == 1:
            raise
    return _get_whole(client, location, attempts - 1)


def write_bytes(uri: str, content: bytes) -> None:
    """Store one object, replacing what was there; readers see the old or the new, never a part.

    Raises:
        StorageError: If it cannot be written.
    """
    client, location = connect(), S3Location.parse(uri)
    metadata = {"sha256": hashlib.sha256(content).hexdigest()}
    with explained(client, "write", location):
        client.put_object(Bucket=location.bucket, Key=location.key, Body=content, Metadata=metadata)


def delete(uri: str) -> None:
    """Delete one object; no error if it is not there.

    Raises:
        StorageError: If the store cannot be reached, or does not let us.
    """
    client, location = connect(), S3Location.parse(uri)
    with explained(client, "delete", location):
        client.delete_object(Bucket=location.bucket, Key=location.key)


def exists(uri: str) -> bool:
    """Whether there is an object `uri`, or any below it.

    Raises:
        StorageError: If the store cannot be asked or the bucket is missing.
    """
    client, location = connect(), S3Location.parse(uri)

    def first_key(prefix: str) -> str:
        # A listing, not a HEAD request: only its failures say what is wrong.
        answer = client.list_objects_v2(Bucket=location.bucket, Prefix=prefix, MaxKeys=1)
        return next((entry["Key"] for entry in answer.get("Contents", [])), "")

    with explained(client, "look for", location):
        return first_key(location.key) == location.key or first_key(location.prefix) != ""


def list_keys(uri: str) -> list[str]:
    """Names of all objects below `uri`, relative to it, sorted; empty if there are none.

    Raises:
        StorageError: If the store cannot be asked or the bucket is missing.
    """
    client, location = connect(), S3Location.parse(uri)
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=location.bucket, Prefix=location.prefix
    )
    with explained(client, "list", location):
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    # Some tools mark a directory by an empty object whose name ends in a slash.
    names = (key.removeprefix(location.prefix) for key in keys)
    return sorted(name for name in names if name and not name.endswith("/"))


def delete_prefix(uri: str) -> int:
    """Delete every object below `uri`; returns how many there were.

    Raises:
        StorageError: If `uri` is a whole bucket, or an object cannot be deleted.
    """
    client, location = connect(), S3Location.parse(uri)
    if not location.key:
        raise StorageError(f"refusing to empty the whole bucket {location}: name a prefix in it")
    keys = [location.child(name).key for name in list_keys(uri)]
    for start in range(0, len(keys), _DELETE_BATCH):
        objects = [{"Key": key} for key in keys[start : start + _DELETE_BATCH]]
        with explained(client, "delete", location):
            answer = client.delete_objects(Bucket=location.bucket, Delete={"Objects": objects})
        for failure in answer.get("Errors", []):
            raise StorageError(f"cannot delete {failure['Key']} in {location}: {failure['Code']}")
    return len(keys)


def upload_file(path: Path, uri: str) -> None:
    """Store a file and check size and digest against what the store then holds.

    Raises:
        StorageError: If it cannot be stored, or is not stored as it is here.
    """
    from boto3.s3.transfer import TransferConfig

    client, location = connect(), S3Location.parse(uri)
    digest = sha256(path)
    with explained(client, "write", location), path.open("rb") as stream:
        client.upload_fileobj(
            stream,
            location.bucket,
            location.key,
            ExtraArgs={"Metadata": {"sha256": digest}},
            Config=TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES),
        )
        stored = client.head_object(Bucket=location.bucket, Key=location.key)
    if stored["ContentLength"] == path.stat().st_size and stored["ETag"].strip('"') == etag(path):
        return
    # Encrypting stores, among others, have ETags of their own: read the object back.
    _check_digest(location, digest, _stored_sha256(client, location))


def download_file(uri: str, path: Path) -> None:
    """Fetch one object into a file, which appears only when it is complete and undamaged.

    Raises:
        StorageError: If it is not there, cannot be read, or is not what was uploaded.
    """
    client, location = connect(), S3Location.parse(uri)
    part = path.with_name(f".{path.name}.part")
    try:
        with explained(client, "read", location), part.open("wb") as stream:
            client.download_fileobj(location.bucket, location.key, stream)
            stored = client.head_object(Bucket=location.bucket, Key=location.key)
        _check_digest(location, stored["Metadata"].get("sha256"), sha256(part))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check_digest(location: S3Location, expected: str | None, actual: str) -> None:
    """Objects that other tools stored carry no digest of ours and pass."""
    if expected is not None and actual != expected:
        raise StorageError(
            f"{location} is damaged: sha256 {actual[:12]}… where {expected[:12]}… was uploaded; "
            "delete it and upload again"
        )


def _stored_sha256(client: S3Client, location: S3Location) -> str:
    digest = hashlib.sha256()
    with explained(client, "read", location):
        answer = client.get_object(Bucket=location.bucket, Key=location.key)
        for chunk in answer["Body"].iter_chunks(PART_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
