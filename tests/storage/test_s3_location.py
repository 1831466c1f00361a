"""S3 URIs: what they name, and what is none."""

import pytest

from mono3d.errors import StorageError
from mono3d.storage.s3_location import S3Location


def test_parse_drops_slashes_at_the_end() -> None:
    assert S3Location.parse("s3://runs/a/b/") == S3Location("runs", "a/b")
    assert S3Location.parse("s3://runs") == S3Location.parse("s3://runs/") == S3Location("runs", "")


def test_prefix_does_not_match_a_longer_name() -> None:
    assert not "run10/model".startswith(S3Location.parse("s3://runs/run1").prefix)
    assert S3Location("runs", "").prefix == ""


def test_child_and_text() -> None:
    location = S3Location.parse("s3://runs").child("a").child("b.json")
    assert str(location) == "s3://runs/a/b.json"
    assert str(S3Location("runs", "")) == "s3://runs"


@pytest.mark.parametrize(
    "uri", ["runs/a", "s3:/runs", "s3://", "http://runs/a", "s3://Ab/x", "s3://ab"]
)
def test_refused_uri_is_named_in_one_line(uri: str) -> None:
    with pytest.raises(StorageError) as caught:
        S3Location.parse(uri)
    assert repr(uri) in str(caught.value)
    assert "\n" not in str(caught.value)
