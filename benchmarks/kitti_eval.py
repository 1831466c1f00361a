"""How long does `mono3d metrics kitti` take, and on what?

    .venv/bin/python -m benchmarks.kitti_eval

The whole process, files read, official and looser overlaps together, against what it may take: the
least CPU time of five runs, caches warm; then what the first run of all takes more, which is
compiling. And the overlaps alone, against shapely's of the same pairs, in the same process.

Frames are half of KITTI's validation frames with results of a LiDAR detector (Point-GNN) and of a
made-up camera, from kitti_eval_golden under MONO3D_REAL_DATA, repeated until there are enough;
without them, invented ones with as many objects.
"""

import os
import resource
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from benchmarks.support.measure import compare, cpu_seconds
from benchmarks.support.rows import Row, publish
from mono3d.evaluation.kitti_ap import CLASSES, curves_of_overlaps
from mono3d.evaluation.kitti_overlaps import find_overlaps
from mono3d.evaluation.kitti_tables import (
    LABEL_COLUMNS,
    RESULT_COLUMNS,
    KittiTable,
    frame_names,
    read_table,
)

GOLDEN = Path(os.environ.get("MONO3D_REAL_DATA", "/nonexistent")) / "kitti_eval_golden"
RUNS = 5
MOST_COMPILING_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much to evaluate."""

    frames: int
    results: tuple[str, ...]
    """Golden sets of which each frame has the results."""
    invented_per_frame: int
    most_s: float


SIZES = (
    Size(frames=3769, results=("synth_mono",), invented_per_frame=6, most_s=3.0),
    Size(frames=8008, results=("synth_mono", "pointgnn_car"), invented_per_frame=10, most_s=9.0),
)


def write_frames(root: Path, size: Size) -> None:
    """Folders gt/ and det/ of the wanted size."""
    truth, found = _golden(root, size) if GOLDEN.is_dir() else _invented(size)
    for folder, files in (("gt", truth), ("det", found)):
        (root / folder).mkdir()
        for number in range(size.frames):
            (root / folder / f"{number:06d}.txt").write_text(files[number % len(files)])


def _golden(root: Path, size: Size) -> tuple[list[str], list[str]]:
    sets = [
        _unpacked(root, f"{name}_valeven") for name in ("gt", *(f"det_{n}" for n in size.results))
    ]
    names = sorted(sets[0])
    found = ["".join(files.get(name, "") for files in sets[1:]) for name in names]
    return [sets[0][name] for name in names], found


def _unpacked(root: Path, name: str) -> dict[str, str]:
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        archive.extractall(root / name, filter="data")
    return {path.name: path.read_text() for path in (root / name).rglob("*.txt")}


def _invented(size: Size) -> tuple[list[str], list[str]]:
    """Objects at random, and the same with noise and a score."""
    random = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(500):
        labels, results = [], []
        for _ in range(size.invented_per_frame):
            kind = CLASSES[random.choice(3, p=(0.8, 0.1, 0.1))]
            left, top = random.uniform(0, 1000), random.uniform(100, 200)
            width, height = random.uniform(20, 200), random.uniform(20, 120)
            row = [random.uniform(-3, 3), left, top, left + width, top + height]
            row += [1.5, 1.6, 3.9, random.uniform(-20, 20), 1.6, random.uniform(5, 60)]
            row += [random.uniform(-3, 3)]
            noisy = np.array(row) + random.normal(size=12) * np.array([0.1] + [3] * 4 + [0.1] * 7)
            labels.append(_line(kind, "0 0", row))
            results.append(f"{_line(kind, '-1 -1', noisy.tolist())} {random.uniform():.3f}")
        truth.append("\n".join(labels) + "\n")
        found.append("\n".join(results) + "\n")
    return truth, found


def _line(kind: str, seen: str, values: list[float]) -> str:
    return f"{kind} {seen} {' '.join(f'{value:.2f}' for value in values)}"


def process_seconds(root: Path, cache: Path) -> float:
    """CPU time of the command, by itself."""
    command = [sys.executable, "-m", "mono3d.cli.main", "metrics", "kitti"]
    command += ["--ground-truth", str(root / "gt"), "--detections", str(root / "det")]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(root: Path, size: Size, cache: Path) -> list[Row]:
    """The process, and its parts in this one."""
    write_frames(root, size)
    first = process_seconds(root, cache)
    least = min(process_seconds(root, cache) for _ in range(RUNS))
    names = frame_names(root / "gt", None)

    def read() -> tuple[KittiTable, KittiTable]:
        return (
            read_table(root / "gt", names, LABEL_COLUMNS),
            read_table(root / "det", names, RESULT_COLUMNS),
        )

    labels, results = read()
    overlaps = find_overlaps(labels, results, above=0.25)
    curves_of_overlaps(labels, results, overlaps, CLASSES)
    parts = {
        "parsing": cpu_seconds(read),
        "overlaps": cpu_seconds(lambda: find_overlaps(labels, results, above=0.25)),
        "matching": cpu_seconds(lambda: curves_of_overlaps(labels, results, overlaps, CLASSES)),
    }
    split = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items())
    what = f"{size.frames} frames, {len(results)} results"
    rows = [
        Row(
            name=f"whole process of {size.most_s:g} s of CPU, {what}",
            ratio=least / size.most_s,
            target=1.0,
            detail=f"{least:.2f} s: {split}, the rest is starting and printing",
        )
    ]
    if not any(cache.parent.glob("done")):
        (cache.parent / "done").touch()
        rows.append(
            Row(
                name=f"compiling in the first run of all, of {MOST_COMPILING_S:g} s",
                ratio=(first - least) / MOST_COMPILING_S,
                target=1.0,
                detail=f"{first:.2f} s in all",
            )
        )
    return [*rows, _against_shapely(labels, results, what)]


def _against_shapely(labels: KittiTable, results: KittiTable, what: str) -> Row:
    """Overlaps of all kinds, of the pairs whose rectangles on the ground meet by shapely."""
    mine = _polygons(labels), _polygons(results)
    frame_of = [
        np.repeat(np.arange(len(t.starts) - 1), np.diff(t.starts)) for t in (labels, results)
    ]

    def by_shapely(_: int) -> None:
        tree = shapely.STRtree(mine[1])
        left, right = tree.query(mine[0])
        same = frame_of[0][left] == frame_of[1][right]
        shapely.area(shapely.intersection(mine[0][left[same]], mine[1][right[same]]))

    found = compare(lambda _: find_overlaps(labels, results, above=0.25), by_shapely, [0], rounds=5)
    return Row(
        name=f"overlaps against shapely's areas on the ground alone, {what}",
        ratio=found.ratio,
        interval=found.interval,
        detail=f"{found.work_s:.2f} s, shapely {found.peer_s:.2f} s",
    )


def _polygons(table: KittiTable) -> np.ndarray:
    """Footprints, each frame's a kilometre beside the last one's."""
    frame = np.repeat(np.arange(len(table.starts) - 1), np.diff(table.starts))
    _, width, length = np.abs(table.dims_hwl).T
    cos, sin = np.cos(table.yaw), np.sin(table.yaw)
    corners = [
        (
            table.bottoms[:, 0] + 1000.0 * frame + a * length * cos + b * width * sin,
            table.bottoms[:, 2] - a * length * sin + b * width * cos,
        )
        for a, b in ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5), (-0.5, 0.5))
    ]
    polygons: np.ndarray = shapely.polygons(np.moveaxis(np.array(corners), 2, 0))
    return polygons


def main() -> int:
    """Both sizes; exit code 1 if a row misses its target."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            root = Path(folder) / str(size.frames)
            root.mkdir()
            rows += measure(root, size, Path(folder) / "cache")
    return publish("kitti_eval", rows)


if __name__ == "__main__":
    sys.exit(main())
