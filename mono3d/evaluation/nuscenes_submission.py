"""The submission format of the nuScenes detection benchmark."""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from mono3d.codec.nuscenes_names import ATTRIBUTES, CLASS_ATTRIBUTES, DEFAULT_ATTRIBUTE
from mono3d.structures import Detections

_META = {
    "use_camera": True,
    "use_lidar": False,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}
_WLH_OF_HWL = [1, 2, 0]
RESULTS = "results_nusc.json"
"""The file in the zip that the benchmark takes."""

Submission = Mapping[str, Any]
"""What the benchmark's JSON file holds: `meta`, and `results` by sample token."""


def submission(by_sample: Mapping[str, Detections], class_names: Sequence[str]) -> Submission:
    """Detections in the global frame as a submission.

    An attribute that was not predicted, or that the class cannot have, becomes the class's most
    frequent one; an unknown velocity becomes zero.

    Args:
        by_sample: Sample token → what `merge_cameras` returns.
        class_names: The run's classes, in the order of labels.
    """
    results = {
        token: _sample_boxes(token, detections, class_names)
        for token, detections in by_sample.items()
    }
    return {"meta": dict(_META), "results": results}


def write_submission(
    samples: Iterable[tuple[str, Detections]], class_names: Sequence[str], path: Path
) -> None:
    """Write the zip file that the benchmark takes, at once or not at all; see `submission`.

    Samples are written as they come: those of the whole test split would not fit into memory.
    """
    part = path.with_name(f".{path.name}.part")
    with (
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(RESULTS, "w", force_zip64=True) as stream,
    ):
        stream.write(f'{{"meta": {json.dumps(_META)}, "results": {{'.encode())
        for number, (token, detections) in enumerate(samples):
            boxes = json.dumps(_sample_boxes(token, detections, class_names), allow_nan=False)
            stream.write(f"{',' if number else ''}\n{json.dumps(token)}: {boxes}".encode())
        stream.write(b"}}\n")
    part.replace(path)


def _sample_boxes(
    token: str, detections: Detections, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    boxes = detections.boxes
    names = [class_names[label] for label in boxes.labels.tolist()]
    half_yaw = boxes.yaw / 2
    zero = torch.zeros_like(half_yaw)
    columns = {
        "translation": boxes.centers.tolist(),
        "size": boxes.dims_hwl[:, _WLH_OF_HWL].tolist(),
        "rotation": torch.stack([half_yaw.cos(), zero, zero, half_yaw.sin()], dim=-1).tolist(),
        "velocity": boxes.velocity.nan_to_num().tolist(),
        "detection_name": names,
        "detection_score": detections.scores.tolist(),
        "attribute_name": _attribute_names(names, boxes.attributes),
    }
    rows = zip(*columns.values(), strict=True)
    return [{"sample_token": token, **dict(zip(columns, row, strict=True))} for row in rows]


def _attribute_names(class_names: Sequence[str], attributes: Int64[Tensor, " n"]) -> list[str]:
    predicted = [ATTRIBUTES[number] if number >= 0 else "" for number in attributes.tolist()]
    return [
        attribute if attribute in CLASS_ATTRIBUTES[name] else DEFAULT_ATTRIBUTE[name]
        for name, attribute in zip(class_names, predicted, strict=True)
    ]
