"""How many camera images does the synthetic world write a second and core?

    .venv/bin/python benchmarks/synthetic_rendering.py [SCENES]

Counts CPU seconds, so that other users of the machine matter less. Everything that makes a data
set is in it: building worlds, six cameras, LiDAR, labels, JPEG, tables. The peer is decoding and
encoding the very files that were written, by the same library at the same quality: about the least
that any program can take to touch such a data set.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes

IMAGE_SIZE = (800, 448)
JPEG_QUALITY = 92
TARGET_IMAGES_PER_S = 25.0


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def write(root: Path, scenes: int) -> int:
    config = SyntheticConfig(
        image_size=IMAGE_SIZE, train_scenes=scenes - 1, val_scenes=1, samples_per_scene=4, seed=0
    )
    return write_nuscenes(root, config, num_processes=1).num_images


def decode_and_encode(files: list[Path]) -> None:
    for file in files:
        image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def main(scenes: int) -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "warm-up", 1)  # compiles the renderer
        root = Path(folder) / "measured"
        rendering_s = cpu_seconds(lambda: write(root, scenes))
        files = sorted(root.glob("samples/CAM_*/*.jpg"))
        jpeg_s = cpu_seconds(lambda: decode_and_encode(files))
    rate = len(files) / rendering_s
    print(f"{len(files)} images of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}")
    print(f"written          {rate:7.1f} images/s and core (target {TARGET_IMAGES_PER_S:.0f})")
    print(f"decode + encode  {len(files) / jpeg_s:7.1f} images/s and core")
    print(f"ratio            {rendering_s / jpeg_s:7.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
