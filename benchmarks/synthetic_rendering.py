"""How many camera images does the synthetic world write a second and core?

    .venv/bin/python -m benchmarks.synthetic_rendering

Counts CPU seconds, so that other users of the machine matter less. Everything that makes a data
set is in it: building worlds, six cameras, LiDAR, labels, JPEG, tables. The peer is decoding and
encoding the very files that were written, by the same library at the same quality: about the least
that any program can take to touch such a data set.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.support.measure import cpu_seconds
from benchmarks.support.rows import Row, publish
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes

JPEG_QUALITY = 92
TARGET_IMAGES_PER_S = 25.0


def measure(image_size: tuple[int, int], *, scenes: int, samples: int) -> list[Row]:
    """Rows for images of one size, width and height."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "warm-up", image_size, 1, 1)  # compiles the renderer
        root = Path(folder) / "measured"
        rendering_s = cpu_seconds(_write, root, image_size, scenes, samples)
        files = sorted(root.glob("samples/CAM_*/*.jpg"))
        jpeg_s = cpu_seconds(_decode_and_encode, files)
    rate, size = len(files) / rendering_s, f"{image_size[0]}x{image_size[1]}"
    return [
        Row(
            name=f"writing an image of {size}, of a second's {TARGET_IMAGES_PER_S:g}th part",
            ratio=TARGET_IMAGES_PER_S / rate,
            target=1.0,
            detail=f"{rate:.1f} images a second and core",
        ),
        Row(
            name="writing it against decoding and encoding it",
            ratio=rendering_s / jpeg_s,
            detail=f"that is {len(files) / jpeg_s:.1f} images a second and core",
        ),
    ]


def _write(root: Path, image_size: tuple[int, int], scenes: int, samples: int) -> None:
    config = SyntheticConfig(
        image_size=image_size,
        train_scenes=scenes - 1,
        val_scenes=1,
        samples_per_scene=samples,
        seed=0,
    )
    write_nuscenes(root, config, num_processes=1)


def _decode_and_encode(files: list[Path]) -> None:
    for file in files:
        image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def main() -> int:
    """As the data set's own default size."""
    return publish("synthetic_rendering", measure((800, 448), scenes=6, samples=4))


if __name__ == "__main__":
    sys.exit(main())
