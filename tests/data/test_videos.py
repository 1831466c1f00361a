"""Videos: numbers and colours of frames, and files that are none or are cut short."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.data.videos import Video, open_video
from mono3d.errors import DataError
from tests.support.videos import STEP, number_of, write_video


def numbers(video: Video, every: int = 1, skip: tuple[int, ...] = ()) -> list[int]:
    """Numbers of the frames that are decoded, each the one that its pixels say."""
    found = []
    for number, image in video.frames(every=every, is_skipped=lambda number: number in skip):
        assert number_of(image) == number
        assert image.dtype == np.uint8
        found.append(number)
    return found


def test_frames_are_rgb_and_numbered_from_0(tmp_path: Path) -> None:
    video = open_video(write_video(tmp_path / "a.avi", 12, rate_hz=12.5))
    assert (video.rate_hz, video.num_frames) == (12.5, 12)
    assert numbers(video) == list(range(12))
    _, image = next(video.frames(every=1, is_skipped=lambda number: False))
    assert image.shape == (64, 96, 3)
    assert image[30, 30].tolist() == pytest.approx([0, 40, 255], abs=4)


def test_numbers_count_frames_that_are_passed_over(tmp_path: Path) -> None:
    video = open_video(write_video(tmp_path / "a.avi", 12))
    assert numbers(video, every=5) == [0, 5, 10]
    assert numbers(video, every=2, skip=(0, 2, 3)) == [4, 6, 8, 10]


def test_a_stream_need_not_say_how_long_it_is(tmp_path: Path) -> None:
    pictures = [np.full((64, 96, 3), number * STEP, np.uint8) for number in range(5)]
    path = tmp_path / "a.avi"
    path.write_bytes(b"".join(cv2.imencode(".jpg", one)[1].tobytes() for one in pictures))
    video = open_video(path)
    assert (video.rate_hz, video.num_frames) == (25.0, None)
    assert numbers(video) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_refused_in_one_line(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mp4: not a readable video$"):
        open_video(path)
    assert capfd.readouterr() == ("", "")


def test_frames_of_a_video_cut_short_come_before_the_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 50)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = open_video(path).frames(every=1, is_skipped=lambda number: False)
    found = []
    with pytest.raises(
        DataError, match=r"a\.avi: ends after \d+ of its 50 frames: it is cut"
    ) as error:
        found.extend(number for number, _ in frames)
    assert 5 < len(found) < 45
    assert found == list(range(len(found)))
    assert f"ends after {len(found)} of" in str(error.value)
