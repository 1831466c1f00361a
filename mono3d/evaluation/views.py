"""Detections of a frame as its cameras see them."""

from jaxtyping import Float
from torch import Tensor

from mono3d.codec.box_frames import boxes_in_camera
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.structures import Detections


def in_camera(detections: Detections, bev_from_cam: Float[Tensor, "4 4"]) -> Detections:
    """Detections of the bev frame in the frame of a camera at a pose."""
    boxes = boxes_in_camera(detections.boxes, bev_from_cam)
    return Detections(boxes=boxes, scores=detections.scores)


def by_camera(
    detections: Detections,
    projection: Float[Tensor, "v 3 4"],
    bev_from_cam: Float[Tensor, "v 4 4"],
    image_size: tuple[int, int],
) -> list[Detections]:
    """Of each camera the detections in its image, in its frame.

    Args:
        detections: In the camera's frame of a frame of one camera, in the bev frame of others.
        projection: Of each camera.
        bev_from_cam: Pose of each camera.
        image_size: Height and width of all images.
    """
    if len(projection) == 1:
        return [detections]
    views = []
    for camera, pose in zip(projection, bev_from_cam, strict=True):
        found = in_camera(detections, pose)
        boxes = found.boxes
        corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
        views.append(found.select(hull_2d(corners, camera, image_size)[1]))
    return views
