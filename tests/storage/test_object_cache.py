"""The cache on disk: bounded, whole files only, shared by processes, and never in the way."""

import hashlib
import os
import random
import resource
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from mono3d.storage.local_cache import locked
from mono3d.storage.object_cache import ObjectCache

KIB = 1024


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def content(name: str) -> bytes:
    """10 KiB that say whose they are."""
    return name.encode().ljust(10, b".") * KIB


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def age(cache: ObjectCache, name: str, seconds: float) -> None:
    path = cache.folder / key(name)[:2] / key(name)
    os.utime(path, (time.time() - seconds,) * 2)


def names_in(cache: ObjectCache, names: list[str]) -> list[str]:
    return [name for name in names if cache.read(key(name), 10 * KIB) is not None]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", limit_bytes=KIB)
    assert cache.read(key("a"), 3) is None
    cache.write(key("a"), b"abc")
    cache.write(key("empty"), b"")
    assert cache.read(key("a"), 3) == b"abc"
    assert cache.read(key("empty"), 0) == b""


def test_the_longest_unused_go_and_the_limit_is_kept(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit_bytes=100 * KIB)
    names = [str(number) for number in range(10)]
    for number, name in enumerate(names):
        cache.write(key(name), content(name))
        age(cache, name, seconds=1000 - number)
    assert names_in(cache, ["0"]) == ["0"]  # reading is using
    cache.write(key("new"), content("new"))
    # Ten files fit, nine tenths of the limit are kept.
    assert names_in(cache, [*names, "new"]) == ["0", *names[3:], "new"]
    assert kept_bytes(tmp_path) <= 100 * KIB


def test_what_does_not_fit_is_not_kept_and_drives_nothing_out(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit_bytes=15 * KIB)
    cache.write(key("a"), content("a"))
    cache.write(key("big"), bytes(20 * KIB))
    assert cache.read(key("big"), 20 * KIB) is None
    assert names_in(cache, ["a"]) == ["a"]
    nothing = ObjectCache(tmp_path / "none", limit_bytes=0)
    nothing.write(key("a"), content("a"))
    assert names_in(nothing, ["a"]) == []


def test_a_damaged_file_is_none_and_is_replaced(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit_bytes=100 * KIB)
    cache.write(key("a"), content("a"))
    path = tmp_path / key("a")[:2] / key("a")
    path.write_bytes(content("a")[:5])
    assert cache.read(key("a"), 10 * KIB) is None
    cache.write(key("a"), content("a"))
    assert cache.read(key("a"), 10 * KIB) == content("a")


@pytest.mark.parametrize("count", ["", "many", None])
def test_a_lost_count_is_made_again(tmp_path: Path, count: str | None) -> None:
    cache = ObjectCache(tmp_path, limit_bytes=30 * KIB)
    for name in "abc":
        cache.write(key(name), content(name))
    (tmp_path / "used").unlink()
    if count is not None:
        (tmp_path / "used").write_text(count)
    # Parts that killed writers left behind count, and go, like other files.
    (tmp_path / key("a")[:2] / "0123.part").write_bytes(bytes(5 * KIB))
    age(cache, "b", seconds=-5)
    cache.write(key("d"), content("d"))
    assert kept_bytes(tmp_path) <= 30 * KIB
    assert names_in(cache, ["b", "d"]) == ["b", "d"]


def test_a_folder_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = ObjectCache(tmp_path / "file", limit_bytes=100 * KIB)
    for name in "ab":
        cache.write(key(name), content(name))
    assert names_in(cache, ["a", "b"]) == []
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'file'}: cannot be written (")
    assert line.endswith("); objects are fetched every time")


def test_a_disk_that_takes_no_more_leaves_no_part(tmp_path: Path) -> None:
    """In a process whose files may not exceed 4 KiB: the kernel refuses the rest."""
    program = (
        "import sys; from pathlib import Path\n"
        "from mono3d.storage.object_cache import ObjectCache\n"
        "cache = ObjectCache(Path(sys.argv[1]), limit_bytes=10**6)\n"
        "cache.write('ab01', bytes(10_000)); cache.write('ab02', b'small')\n"
        "print(cache.read('ab01', 10_000), cache.read('ab02', 5))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout == "None b'small'\n"
    assert "cannot be written (File too large)" in done.stderr
    assert [path.name for path in tmp_path.glob("*/*")] == ["ab02"]


def _use(folder: Path, seed: int) -> tuple[int, int]:
    """Read at random, writing what is not there; how often it was, and how much was kept then."""
    cache = ObjectCache(folder, limit_bytes=100 * KIB)
    chosen, hits, largest = random.Random(seed), 0, 0
    for _ in range(400):
        name = str(chosen.randrange(30))
        found = cache.read(key(name), 10 * KIB)
        if found is None:
            cache.write(key(name), content(name))
        else:
            assert found == content(name)
            hits += 1
        with locked(folder / "lock"):  # nothing comes and goes while it is measured
            largest = max(largest, kept_bytes(folder))
    return hits, largest


@pytest.mark.slow
def test_processes_share_a_cache_and_keep_its_limit_together(tmp_path: Path) -> None:
    with get_context("spawn").Pool(4) as pool:
        outcomes = pool.starmap(_use, [(tmp_path, seed) for seed in range(4)])
    assert all(hits > 20 for hits, _ in outcomes)
    assert max(largest for _, largest in outcomes) <= 100 * KIB
    assert not list(tmp_path.glob("*/*.part"))


def test_a_writer_killed_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    program = (
        "import hashlib, sys; from pathlib import Path\n"
        "from mono3d.storage.object_cache import ObjectCache\n"
        "cache = ObjectCache(Path(sys.argv[1]), limit_bytes=10**8)\n"
        "print('ready', flush=True)\n"
        "for number in range(10**6):\n"
        "    name = str(number % 40)\n"
        "    cache.write(hashlib.sha256(name.encode()).hexdigest(), name.encode() * 10**6)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.3)
        writer.kill()
    cache, whole = ObjectCache(tmp_path, limit_bytes=10**8), 0
    for name in map(str, range(40)):
        found = cache.read(key(name), len(name) * 10**6)
        assert found in (None, name.encode() * 10**6)
        whole += found is not None
    assert whole > 0
    cache.write(key("a"), content("a"))  # its lock is free again
    assert names_in(cache, ["a"]) == ["a"]
