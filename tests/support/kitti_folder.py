"""A tiny invented folder in KITTI's format, written by hand."""

from pathlib import Path

import cv2
import numpy as np

P2 = "721.5 0 609.5 44.86 0 721.5 172.9 0.2164 0 0 1 0.002746"
R0 = "1 0 0 0 1 0 0 0 1"
TR = "0 -1 0 -0.003 0 0 -1 -0.075 1 0 0 -0.272"
CALIBRATION = f"P0: {P2}\nP2: {P2}\nR0_rect: {R0}\nTr_velo_to_cam: {TR}\n"
CAR = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
PEDESTRIAN = "Pedestrian 0.00 2 0.21 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
VAN = "Van 0.10 1 -1.69 600.00 170.00 660.00 210.00 2.10 1.80 4.70 0.50 1.60 30.00 -1.67"
DONT_CARE = "DontCare -1 -1 -10 5.00 229.89 214.12 367.61 -1 -1 -1 -1000 -1000 -1000 -10"
IMAGE_SIZE = (375, 1242)
FRAMES = ("000000", "000001", "000002")


def write_kitti(root: Path) -> Path:
    """Three labelled frames (two objects, a van and a region, nothing) and one testing frame."""
    labels = ([CAR, PEDESTRIAN], [VAN, DONT_CARE], [])
    for name, lines in zip(FRAMES, labels, strict=True):
        _write_frame(root / "training", name)
        path = root / "training" / "label_2" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
    _write_frame(root / "testing", "000000")
    lists = root / "ImageSets"
    lists.mkdir()
    for split, names in {"train": FRAMES[:2], "val": FRAMES[2:], "test": ("000000",)}.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def _write_frame(folder: Path, name: str) -> None:
    for part in ("image_2", "calib", "velodyne"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(int(name))
    pixels = random.integers(0, 255, (*IMAGE_SIZE, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "image_2" / f"{name}.png"), pixels)
    (folder / "calib" / f"{name}.txt").write_text(CALIBRATION)
    points = random.uniform((2, -20, -2, 0), (60, 20, 1, 1), (200, 4)).astype(np.float32)
    points.tofile(folder / "velodyne" / f"{name}.bin")
