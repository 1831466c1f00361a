from pathlib import Path

import pytest

from mono3d.tracking.outbox import Outbox


def post_text(outbox: Outbox, kind: str, text: str) -> None:
    with outbox.post(kind, {"folder": "a/b"}) as content:
        (content / "note.txt").write_text(text)


def test_parcels_are_delivered_in_the_order_of_posting(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    for number in range(12):
        post_text(outbox, "files", str(number))

    texts = [(parcel.content / "note.txt").read_text() for parcel in outbox.pending()]
    assert texts == [str(number) for number in range(12)]


def test_next_process_finds_what_is_pending_and_goes_on_counting(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox")
    for text in ("delivered", "waiting"):
        post_text(first, "files", text)
    first.settle(first.pending()[0])

    second = Outbox(tmp_path / "outbox")
    post_text(second, "files", "new")

    texts = [(parcel.content / "note.txt").read_text() for parcel in second.pending()]
    assert texts == ["waiting", "new"]
    assert second.pending()[0].fields == {"folder": "a/b"}


def test_parcel_whose_content_fails_is_not_queued(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    with pytest.raises(RuntimeError, match="no model"), outbox.post("model", {}):
        raise RuntimeError("no model")

    assert outbox.pending() == []
    assert list((tmp_path / "outbox").iterdir()) == []


def test_half_a_parcel_left_by_a_kill_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "outbox" / ".000001" / "content").mkdir(parents=True)
    (tmp_path / "outbox" / "000002" / "content").mkdir(parents=True)

    assert Outbox(tmp_path / "outbox").pending() == []
    assert list((tmp_path / "outbox").iterdir()) == []
