"""Messages about a store: reason, remedy, and no secrets."""

from mono3d.storage.s3_errors import explain, without_userinfo


def _explain(code: str) -> str:
    return explain(code, action="write", target="s3://runs/a", endpoint="http://me:secret@host:1")


def test_line_says_what_where_why_and_what_to_do() -> None:
    assert _explain("NoSuchBucket") == (
        "cannot write s3://runs/a at http://host:1: the bucket does not exist; "
        "create the bucket or correct its name"
    )


def test_unknown_code_and_bare_status_are_still_explained() -> None:
    assert "the store answered Teapot; look at its log" in _explain("Teapot")
    assert "HTTP 418, is not one of an S3 store" in _explain("418")


def test_user_and_password_are_dropped() -> None:
    assert without_userinfo("https://a:b@host:1/x") == "https://host:1/x"
    assert without_userinfo("http://host:1") == "http://host:1"
    assert "secret" not in _explain("InternalError")
