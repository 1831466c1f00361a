"""Data sets as one: whose frame is which, how often it is drawn, and where its ground is."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mono3d.codec.depth import LogDepthCodec
from mono3d.data.kitti import KittiDataset
from mono3d.data.lidar import depth_map
from mono3d.data.merged import Member, MergedDataset, raised
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.data.sampling import FrameDataset, Sampling, class_balanced_shares
from mono3d.errors import DataError
from mono3d.geometry.camera import transform_points
from mono3d.model.camera_channels import GroundChannels
from mono3d.structures import Boxes3D
from tests.support.frames import FramesInMemory
from tests.support.kitti_folder import FRAMES, IMAGE_SIZE, write_kitti
from tests.support.nuscenes_tables import open_tiny, write_tables

CLASSES = ("vehicle", "person")
KITTI_MAP = {"Car": "vehicle", "Van": "vehicle", "Pedestrian": "person"}
NUSCENES_MAP = {"car": "vehicle", "truck": "vehicle", "pedestrian": "person"}
KITTI_GROUND_M = -1.73


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> KittiDataset:
    root = write_kitti(tmp_path_factory.mktemp("kitti") / "data")
    return KittiDataset(
        root, split="all", class_names=CLASSES, label_map=KITTI_MAP, with_points=True
    )


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    folder = tmp_path_factory.mktemp("nuscenes")
    root = write_tables(folder / "data")
    return open_tiny(root, folder, class_names=CLASSES, label_map=NUSCENES_MAP, with_points=True)


@pytest.fixture
def merged(kitti: KittiDataset, nuscenes: NuScenesDataset) -> MergedDataset:
    return MergedDataset(
        {
            "kitti": Member(dataset=kitti, ground_height_m=KITTI_GROUND_M),
            "nus": Member(dataset=nuscenes, ground_height_m=0.0),
        }
    )


def test_frames_follow_each_other_under_the_names_of_their_sets(
    merged: MergedDataset, nuscenes: NuScenesDataset
) -> None:
    assert isinstance(merged, FrameDataset)
    assert len(merged) == 3 + 24
    assert merged.frame_ids[:4] == [
        *(f"kitti/{name}" for name in FRAMES), "nus/scene-a-sample-0-CAM_FRONT",
    ]  # fmt: skip
    assert len(set(merged.frame_ids)) == len(merged)
    assert [merged[i].frame_id for i in (0, 2, 3, 26)] == [
        merged.frame_ids[i] for i in (0, 2, 3, 26)
    ]
    assert merged[0].images.shape[-2:] == IMAGE_SIZE
    assert torch.equal(merged[4].images, nuscenes[1].images)
    assert merged.moment_of(9) == "nus/scene-a-sample-1"
    assert [merged.locate(i) for i in (2, 3, 26)] == [("kitti", 2), ("nus", 0), ("nus", 23)]
    for index in (-1, 27):
        with pytest.raises(IndexError):
            merged[index]


def test_labels_are_those_of_the_member(merged: MergedDataset, nuscenes: NuScenesDataset) -> None:
    for index in (0, 5):
        frame = merged[index]
        assert frame.boxes_cam is not None
        labels = merged.frame_labels(index)
        assert labels is not None
        assert labels.tolist() == frame.boxes_cam[0].labels.tolist()
        ((boxes, projection),) = merged.camera_labels(index)
        assert torch.equal(boxes.centers, frame.boxes_cam[0].centers)
        assert torch.equal(projection, frame.projection[0])
    assert merged.camera_labels(5)[0][0].labels.tolist() == nuscenes.frame_labels(2).tolist()


def test_the_ground_is_at_zero_in_the_bev_frames_of_all_sets(merged: MergedDataset) -> None:
    """Boxes stand on it: the invented KITTI scene is hilly far away, nuScenes' ego rolls a bit."""
    kitti, nuscenes = merged[1].boxes_bev, merged[3].boxes_bev
    assert kitti is not None
    assert nuscenes is not None
    assert bottoms(kitti).tolist() == pytest.approx([1.73 - 1.60 - 0.075], abs=1e-3)
    assert bottoms(nuscenes).abs().max() < 0.25


def bottoms(boxes: Boxes3D) -> torch.Tensor:
    return boxes.centers[:, 2] - boxes.dims_hwl[:, 0] / 2


def test_a_network_sees_the_same_ground_as_in_the_set_alone(
    merged: MergedDataset, kitti: KittiDataset
) -> None:
    depth = LogDepthCodec(reference_focal_px=720.0, mean_log_m=3.0, std_log=0.6)
    ours, alone = merged[0], kitti[0]
    channels = [
        GroundChannels(depth=depth, height_m=height_m)(
            frame.projection, frame.bev_from_cam, IMAGE_SIZE, 16
        )
        for frame, height_m in ((ours, 0.0), (alone, KITTI_GROUND_M))
    ]
    torch.testing.assert_close(channels[0], channels[1], rtol=0, atol=1e-5)


def test_boxes_points_and_cameras_move_together(merged: MergedDataset, kitti: KittiDataset) -> None:
    ours, alone = merged[0], kitti[0]
    assert ours.boxes_cam is not None
    assert ours.boxes_bev is not None
    assert torch.equal(ours.boxes_cam[0].centers, alone.boxes_cam[0].centers)
    torch.testing.assert_close(
        transform_points(ours.boxes_cam[0].centers, ours.bev_from_cam[0]), ours.boxes_bev.centers
    )
    maps = [
        depth_map(frame.points, frame.bev_from_cam[0], frame.projection[0], IMAGE_SIZE)
        for frame in (ours, alone)
    ]
    assert (maps[0] > 0).sum() > 50
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=1e-4)
    assert torch.equal(ours.points[:, 3], alone.points[:, 3])


def test_an_unlabelled_frame_without_points_can_be_raised(kitti: KittiDataset) -> None:
    frame = replace(kitti[0], boxes_cam=None, boxes_bev=None, points=None)
    higher = raised(frame, 1.5)
    assert higher.boxes_bev is None
    assert higher.points is None
    lift = higher.bev_from_cam - frame.bev_from_cam
    assert lift[0, :3, 3].tolist() == pytest.approx([0, 0, 1.5])
    assert lift.count_nonzero() == 1
    assert raised(frame, 0.0) is frame


def test_the_fingerprint_sees_members_names_order_and_ground(
    kitti: KittiDataset, nuscenes: NuScenesDataset
) -> None:
    a = Member(dataset=kitti, ground_height_m=KITTI_GROUND_M)
    b = Member(dataset=nuscenes, ground_height_m=0.0)
    variants = [
        {"a": a, "b": b}, {"a": a}, {"c": a, "b": b}, {"b": b, "a": a},
        {"a": replace(a, ground_height_m=-1.65), "b": b},
    ]  # fmt: skip
    fingerprints = [MergedDataset(variant).fingerprint for variant in variants]
    assert len(set(fingerprints)) == len(variants)
    shared = {"a": replace(a, share=1.0), "b": replace(b, share=2.0)}
    assert MergedDataset(shared).fingerprint == fingerprints[0], "how often is not what"


def test_it_travels_to_workers(merged: MergedDataset) -> None:
    copy = pickle.loads(pickle.dumps(merged))
    assert copy.fingerprint == merged.fingerprint
    assert torch.equal(copy[4].images, merged[4].images)


@pytest.mark.parametrize(
    ("count", "expected"), [(4, [0, 1, 3, 4]), (8, [0, 1, 2, 3, 4, 5, 6]), (1, [0, 3])]
)
def test_first_frames_are_of_all_sets(
    merged: MergedDataset, count: int, expected: list[int]
) -> None:
    assert merged.first(count) == expected


def in_memory(**shares: float | None) -> MergedDataset:
    """A set of 6 frames beside one of 60."""
    return MergedDataset(
        {
            name: Member(
                dataset=FramesInMemory(6 if name == "small" else 60),
                ground_height_m=0.0,
                share=share,
            )
            for name, share in shares.items()
        }
    )


def test_a_small_set_is_not_drowned() -> None:
    dataset = in_memory(small=1.0, large=2.0)
    sampling = Sampling(
        num_frames=len(dataset), batch_size=3, epoch_frames=66, seed=0,
        shares=dataset.shared_out(None),
    )  # fmt: skip
    drawn = [index for batch in sampling.batches(0, 0) for _, index in batch]
    counts = np.bincount(drawn, minlength=len(dataset))
    assert abs(counts[:6].sum() - 22) <= 1
    assert set(counts[:6].tolist()) <= {3, 4}, "each of the small set's about as often"
    assert set(counts[6:].tolist()) <= {0, 1}
    assert sampling.batches(0, 5) == sampling.batches(0, 0)[5:]


def test_shares_of_sets_keep_the_balance_within() -> None:
    dataset = in_memory(small=3.0, large=1.0)
    within = np.linspace(1.0, 2.0, len(dataset))
    shares = dataset.shared_out(within)
    assert shares is not None
    assert shares[:6].sum() == pytest.approx(3 * shares[6:].sum())
    np.testing.assert_allclose(shares[6:] / shares[6], within[6:] / within[6])


def test_without_shares_nothing_changes() -> None:
    dataset = in_memory(small=None, large=None)
    assert dataset.shared_out(None) is None
    within = np.ones(66)
    assert dataset.shared_out(within) is within


def test_a_set_of_which_nothing_would_be_drawn_is_named(kitti: KittiDataset) -> None:
    class Empty(FramesInMemory):
        def frame_labels(self, index: int) -> np.ndarray:
            return np.zeros(0, np.int64)

    dataset = MergedDataset(
        {
            "full": Member(dataset=FramesInMemory(3), ground_height_m=0.0, share=1.0),
            "empty": Member(dataset=Empty(3), ground_height_m=0.0, share=1.0),
        }
    )
    shares = class_balanced_shares(dataset, 2, threshold=0.0, count_exponent=0.0, empty_share=0.0)
    with pytest.raises(DataError, match="data set empty: no frame holds an object"):
        dataset.shared_out(shares)


@pytest.mark.real_data
def test_real_cars_of_both_sets_stand_on_the_same_ground(real_data: Path, tmp_path: Path) -> None:
    kitti = KittiDataset(
        real_data / "kitti", split="all", class_names=CLASSES, label_map={"Car": "vehicle"}
    )
    nuscenes = NuScenesDataset(
        real_data / "nuscenes" / "tiny_images",
        version="v1.0-mini",
        split="all",
        class_names=CLASSES,
        label_map={"car": "vehicle"},
        cache_dir=tmp_path,
    )
    merged = MergedDataset(
        {
            "kitti": Member(dataset=kitti, ground_height_m=KITTI_GROUND_M),
            "nus": Member(dataset=nuscenes, ground_height_m=0.0),
        }
    )
    heights: dict[str, list[float]] = {"kitti": [], "nus": []}
    for index in range(len(merged)):
        boxes = merged[index].boxes_bev
        assert boxes is not None
        near = boxes.select((boxes.centers[:, :2].norm(dim=1) < 25) & (boxes.labels == 0))
        heights[merged.locate(index)[0]] += bottoms(near).tolist()
    for of_set in heights.values():
        assert len(of_set) > 20
        assert abs(np.median(of_set)) < 0.2
