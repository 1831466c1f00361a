"""What does the loader do to an image beyond decoding it?

    .venv/bin/python -m benchmarks.loader

The whole path of the recipe nuscenes_gmm, from file to a batch of uint8 images, boxes and
positives, every image flipped; the peer is decoding the same files, by the same decoder, in the
same process. Files have the size of the network's input, so nothing is resized. The targets are for
images of nuScenes' own size. Of small ones decoding takes less, and what labels, cameras and
positives take is the same: rows of a quarter of the pixels tell how much that is.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.support.data import recipe_on, synthetic_folder
from benchmarks.support.measure import compare
from benchmarks.support.rows import Row, publish
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import PreparedDataset
from mono3d.training.allocator import keep_freed_memory
from mono3d.training.assembly import build_preparation
from mono3d.training.datasets import build_dataset
from mono3d.training.model_assembly import build_codec

JITTER = 0.2
NUSCENES_SIZE = (1600, 900)
TARGETS = (1.5, 2.5)
"""Without and with changes of colour."""


def measure(root: Path, image_size: tuple[int, int], *, rounds: int) -> list[Row]:
    """Both ratios at one size, width and height, which is that of the folder's images."""
    width, height = image_size
    plain, colour = TARGETS if image_size == NUSCENES_SIZE else (None, None)
    name = f"decode, flip, encode, collate at {width}x{height}"
    return [
        _compare(root, image_size, name, plain, 0.0, rounds),
        _compare(root, image_size, f"{name}, with colour", colour, JITTER, rounds),
    ]


def _compare(
    root: Path,
    image_size: tuple[int, int],
    name: str,
    target: float | None,
    jitter: float,
    rounds: int,
) -> Row:
    config = recipe_on(
        root,
        "nuscenes_gmm",
        "data.train_split=all",
        f"input.image_width_px={image_size[0]}",
        f"input.image_height_px={image_size[1]}",
        "input.flip_probability=1",
        f"input.brightness_jitter={jitter}",
        f"input.contrast_jitter={jitter}",
    )
    prepared = _prepared(config)
    files = sorted(root.glob("samples/CAM_*/*.jpg"))
    count = config.train.batch_size
    batches = [range(start, start + count) for start in range(0, len(files), count)]
    found = compare(
        lambda batch: prepared[[(0, index) for index in batch]],
        lambda batch: [_decode(files[i]) for i in batch],
        batches,
        rounds=rounds,
    )
    work_ms, peer_ms = (1e3 * s / len(files) for s in (found.work_s, found.peer_s))
    return Row(
        name=name,
        ratio=found.ratio,
        target=target,
        interval=found.interval,
        detail=f"{work_ms:.2f} ms an image, decoding alone {peer_ms:.2f} ms",
    )


def _prepared(config: RunConfig) -> PreparedDataset:
    dataset = build_dataset(config, "train")
    preparation = build_preparation(config, build_codec(config), training=True)
    return PreparedDataset(dataset, preparation, seed=0)


def _decode(file: Path) -> np.ndarray:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image: np.ndarray = cv2.imdecode(np.fromfile(file, np.uint8), flags)
    return image


def main() -> int:
    """As a training worker does it: one thread, and freed memory is kept."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()
    rows = []
    for image_size, rounds in ((NUSCENES_SIZE, 12), ((800, 448), 24)):
        rows += measure(synthetic_folder(image_size, scenes=3), image_size, rounds=rounds)
    return publish("loader", rows)


if __name__ == "__main__":
    sys.exit(main())
