"""What a detector would score if it knew one thing: predicted quantities replaced by the truth.

Detections are paired with labelled objects in the image, where depth plays no part; those that mark
no object stay as they are, and nothing is added: what was not found stays missed. The differences
between such scores say which quantity costs the most. Source: the experiment of MonoDLE (Ma et al.,
CVPR 2021, arXiv:2103.16237), section 3.2; pairing in the image is ours.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.evaluation.depth_quality import pairs_in_image
from mono3d.geometry.camera import project, unproject
from mono3d.structures import Boxes3D, Detections

Quantity = Literal["depth", "centre", "size", "yaw", "class"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


def with_truth(
    detections: Detections,
    truth: Boxes3D,
    projection: Float[Tensor, "3 4"],
    image_size: tuple[int, int],
    quantities: Collection[Quantity],
) -> Detections:
    """Detections of one image, some of their quantities replaced by those of the marked objects.

    `depth` moves a box along the ray of its own projected centre, `centre` to the ray of the true
    one at its own depth. Scores and their order stay.

    Args:
        detections: In the camera frame.
        truth: Labelled boxes in the same frame.
        projection: Of the camera.
        image_size: Height and width in pixels.
        quantities: What to replace; with `class`, detections may mark objects of other classes.
    """
    found, marked = pairs_in_image(
        detections, truth, projection, image_size, across_classes="class" in quantities
    )
    boxes, of, true = (
        detections.boxes,
        torch.from_numpy(found),
        truth.select(torch.from_numpy(marked)),
    )
    guessed = boxes.select(of)
    pixels = project((true if "centre" in quantities else guessed).centers, projection)
    depth_m = (true if "depth" in quantities else guessed).centers[:, 2]
    changes = {"centers": unproject(pixels, depth_m, projection)}
    if "size" in quantities:
        changes["dims_hwl"] = true.dims_hwl
    if "yaw" in quantities:
        changes["yaw"] = true.yaw
    if "class" in quantities:
        changes["labels"] = true.labels
    fields = {name: getattr(boxes, name).index_put((of,), new) for name, new in changes.items()}
    return replace(detections, boxes=replace(boxes, **fields))
