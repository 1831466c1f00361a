"""Listing one folder of a real store."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mono3d.errors import StorageError
from mono3d.storage import s3
from mono3d.storage.s3_listing import ListedObject, list_folder
from mono3d.storage.s3_location import S3Location

pytestmark = pytest.mark.services

MD5_OF_X = "9dd4e461268c8034f5c8564e155c67a6"


def test_a_folder_is_listed_without_its_neighbours_and_what_is_below(store: str) -> None:
    for name in ("a/b.txt", "a/ä.txt", "a/deep/c.txt", "a.txt", "ab/d.txt"):
        s3.write_bytes(f"{store}/listing/{name}", b"x")
    s3.connect().put_object(Bucket="mono3d", Key="listing/a/", Body=b"")  # as some tools mark it
    listing = list_folder(S3Location("mono3d", "listing/a"))
    assert [name.decode() for name in listing.names.tolist()] == ["b.txt", "ä.txt"]
    assert listing.folders == ("deep",)
    assert listing.find("b.txt") == listing.find("ä.txt") == ListedObject(1, MD5_OF_X)
    for name in ("a", "b", "b.txt2", "z", "", "deep"):
        assert listing.find(name) is None
    assert "listing" in list_folder(S3Location("mono3d", "")).folders


def test_a_folder_that_is_not_there_is_empty(store: str) -> None:
    listing = list_folder(S3Location("mono3d", "no/such"))
    assert (len(listing.names), listing.folders) == (0, ())
    assert listing.find("a") is None
    with pytest.raises(StorageError, match=r"cannot list s3://nowhere/a .*bucket does not exist"):
        list_folder(S3Location("nowhere", "a"))


@pytest.mark.slow
def test_a_listing_of_several_answers_is_whole(store: str) -> None:
    """One answer of the protocol holds a thousand."""
    names = [f"{number:05d}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3.write_bytes(f"{store}/many/{name}", b"x"), names))
    listing = list_folder(S3Location("mono3d", "many"))
    assert [name.decode() for name in listing.names.tolist()] == names
    assert all(listing.find(name) is not None for name in names)
