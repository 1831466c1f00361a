"""Which labels are made false, and by how much: in hand-made rows, and in a written folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import view_points

from mono3d.data.synthetic.folder import RECORD_NAME
from mono3d.data.synthetic.label_faults import (
    FACTORS,
    MAX_PROBABILITY,
    draw_factors,
    moved_away,
)
from mono3d.data.synthetic.nuscenes_folder import BIASED_NAME, SyntheticConfig, write_nuscenes
from mono3d.data.synthetic.nuscenes_tables import Row, Tables, common_tables

NUM_SCENES, NUM_OBJECTS = 12, 40
SHARE = 0.2


def _label(scene: int, number: int, sample: int) -> Row:
    """Visibility level and distance go through all pairs; objects stand straight ahead."""
    return {
        "token": f"label-{scene}-{number}-{sample}",
        "sample_token": f"sample-{scene}-{sample}",
        "instance_token": f"object-{scene}-{number}",
        "visibility_token": str(1 + number % 4),
        "translation": [5.0 + 5.0 * (number // 4), 0.0, 1.0],
        "num_lidar_pts": 7,
    }


def _scene(scene: int = 0) -> Tables:
    """Two samples with a camera two metres up at the origin, looking along x, and a LiDAR."""
    tables = common_tables()
    # Turns the camera's z to the global x, its x to minus y.
    forward = [0.5, -0.5, 0.5, -0.5]
    intrinsic = [[300.0, 0.0, 199.5], [0.0, 300.0, 111.5], [0.0, 0.0, 1.0]]
    tables["calibrated_sensor"] = [
        {
            "token": "camera",
            "translation": [0, 0, 2],
            "rotation": forward,
            "camera_intrinsic": intrinsic,
        },
        {
            "token": "lidar",
            "translation": [0, 0, 2],
            "rotation": [1, 0, 0, 0],
            "camera_intrinsic": [],
        },
    ]
    tables["ego_pose"] = [{"token": "pose", "translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}]
    for sample in range(2):
        for sensor, width in (("camera", 400), ("lidar", 0)):
            row = {"sample_token": f"sample-{scene}-{sample}", "ego_pose_token": "pose"}
            tables["sample_data"].append(row | {"calibrated_sensor_token": sensor, "width": width})
        tables["sample_annotation"] += [_label(scene, k, sample) for k in range(NUM_OBJECTS)]
    return tables


@pytest.fixture(scope="module")
def scenes() -> list[Tables]:
    return [_scene(number) for number in range(NUM_SCENES)]


def _draw(scenes: list[Tables], share: float) -> dict[str, float]:
    return draw_factors(scenes, [np.random.default_rng(k) for k in range(len(scenes))], share)


def _rate(factors: dict[str, float], scenes: list[Tables], **wanted: Any) -> float:
    """Share of false labels among those that have certain values."""
    rows = [row for tables in scenes for row in tables["sample_annotation"]]
    chosen = [r["token"] in factors for r in rows if all(r[k] == v for k, v in wanted.items())]
    return float(np.mean(chosen))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
def test_the_asked_share_of_labels_is_reached(scenes: list[Tables], share: float) -> None:
    # 480 objects: 0.023 is one standard deviation at the largest share.
    assert _rate(_draw(scenes, share), scenes) == pytest.approx(share, abs=0.05)


def test_hidden_and_far_objects_are_chosen_more_often_but_never_all(scenes: list[Tables]) -> None:
    factors = _draw(scenes, SHARE)
    hidden = _rate(factors, scenes, visibility_token="1")
    assert 0.35 < hidden < MAX_PROBABILITY + 0.1
    assert hidden > 4 * _rate(factors, scenes, visibility_token="4") > 0
    far = _rate(factors, scenes, translation=[50.0, 0.0, 1.0])
    assert far > 1.5 * _rate(factors, scenes, translation=[5.0, 0.0, 1.0])


def test_factors_are_one_sided_and_the_same_at_all_samples(scenes: list[Tables]) -> None:
    factors = _draw(scenes, SHARE)
    low, high = FACTORS
    assert all(low <= factor <= high for factor in factors.values())
    assert np.log(list(factors.values())).mean() == pytest.approx(
        np.log([low, high]).mean(), abs=0.03
    )
    for token, factor in factors.items():
        other = token[:-1] + str(1 - int(token[-1]))
        assert factors[other] == factor


def test_a_larger_share_keeps_the_false_labels_of_a_smaller_one(scenes: list[Tables]) -> None:
    fewer, more = _draw(scenes, 0.1), _draw(scenes, 0.3)
    assert fewer
    assert len(fewer) < len(more)
    assert fewer.items() <= more.items()


def test_a_scene_without_labels_and_no_scene_have_no_false_ones() -> None:
    empty = _scene() | {"sample_annotation": []}
    assert _draw([empty], SHARE) == {}
    assert _draw([], SHARE) == {}


@pytest.mark.parametrize("share", [-0.1, 0.51, float("nan")])
def test_a_share_out_of_range_is_an_error(scenes: list[Tables], share: float) -> None:
    with pytest.raises(ValueError, match=r"must be 0 to 0\.5"):
        _draw(scenes, share)


def test_a_box_moves_along_the_ray_from_its_camera() -> None:
    before = _scene()
    after = moved_away(before, {"label-0-8-1": 1.4})
    old, new = before["sample_annotation"], after["sample_annotation"]
    changed = [k for k in range(len(old)) if old[k] != new[k]]
    assert [old[k]["token"] for k in changed] == ["label-0-8-1"]
    # 15 m ahead of the camera and a metre below it: 1.4 times both.
    assert old[changed[0]]["translation"] == [15.0, 0.0, 1.0]
    assert new[changed[0]] == old[changed[0]] | {"translation": [21.0, 0.0, 0.6]}


@pytest.fixture(scope="module")
def config(tiny_config: SyntheticConfig) -> SyntheticConfig:
    return replace(tiny_config, train_scenes=2, val_scenes=1, biased_labels=0.4)


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory: pytest.TempPathFactory, config: SyntheticConfig) -> Path:
    root = tmp_path_factory.mktemp("clean") / "data"
    write_nuscenes(root, replace(config, biased_labels=0.0), num_processes=1)
    return root


@pytest.fixture(scope="module")
def biased_root(tmp_path_factory: pytest.TempPathFactory, config: SyntheticConfig) -> Path:
    root = tmp_path_factory.mktemp("biased") / "data"
    write_nuscenes(root, config, num_processes=1)
    return root


@pytest.fixture(scope="module")
def clean(clean_root: Path, config: SyntheticConfig) -> NuScenes:
    return NuScenes(config.version, str(clean_root), verbose=False)


@pytest.fixture(scope="module")
def biased(biased_root: Path, config: SyntheticConfig) -> NuScenes:
    return NuScenes(config.version, str(biased_root), verbose=False)


def _factors(root: Path, config: SyntheticConfig) -> dict[str, float]:
    factors: dict[str, float] = json.loads((root / config.version / BIASED_NAME).read_text())
    return factors


def _files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_only_the_table_of_labels_and_the_records_differ(
    clean_root: Path, biased_root: Path, config: SyntheticConfig
) -> None:
    clean, biased = _files(clean_root), _files(biased_root)
    added = f"{config.version}/{BIASED_NAME}"
    assert biased.keys() - clean.keys() == {added}
    differing = {name for name in clean if clean[name] != biased[name]}
    assert differing == {f"{config.version}/sample_annotation.json", RECORD_NAME}


def test_only_centres_of_listed_labels_of_training_scenes_differ(
    clean: NuScenes, biased: NuScenes, biased_root: Path, config: SyntheticConfig
) -> None:
    factors = _factors(biased_root, config)
    for old, new in zip(clean.sample_annotation, biased.sample_annotation, strict=True):
        assert (new["translation"] != old["translation"]) == (new["token"] in factors)
        assert new | {"translation": old["translation"]} == old
    for token in factors:
        sample = biased.get("sample", biased.get("sample_annotation", token)["sample_token"])
        assert "train" in biased.get("scene", sample["scene_token"])["name"]
    assert len(factors) >= 5


def test_labels_keep_their_pixel_in_a_camera_that_sees_them_and_are_deeper(
    clean: NuScenes, biased: NuScenes, biased_root: Path, config: SyntheticConfig
) -> None:
    factors = _factors(biased_root, config)
    shifts: dict[str, list[float]] = {}
    for blob in clean.sample_data:
        if blob["fileformat"] != "jpg":
            continue
        _, _, intrinsic = clean.get_sample_data(blob["token"])
        boxes = [
            {box.token: box for box in nusc.get_sample_data(blob["token"])[1]}
            for nusc in (clean, biased)
        ]
        for token in factors.keys() & boxes[0].keys() & boxes[1].keys():
            old, new = (box[token].center for box in boxes)
            pixels = [view_points(c[:, None], intrinsic, True)[:2, 0] for c in (old, new)]
            if 0 <= pixels[0][0] < blob["width"]:
                shift = float(np.linalg.norm(pixels[1] - pixels[0]))
                shifts.setdefault(token, []).append(shift)
            # Depth from this camera, or from a neighbour a metre beside it.
            assert new[2] / old[2] == pytest.approx(factors[token], abs=0.15)
    assert len(shifts) >= 5
    assert max(min(values) for values in shifts.values()) < 0.05
    assert max(max(values) for values in shifts.values()) < 5


def test_the_record_says_how_many_and_finds_the_folder_again(
    biased_root: Path, clean_root: Path, config: SyntheticConfig
) -> None:
    record = json.loads((biased_root / RECORD_NAME).read_text())
    assert record["settings"]["biased_labels"] == 0.4
    found = write_nuscenes(biased_root, config, num_processes=1)
    assert not found.is_new
    assert found.num_biased_labels == len(_factors(biased_root, config))
    assert record["summary"]["num_biased_labels"] == found.num_biased_labels
    plain = json.loads((clean_root / RECORD_NAME).read_text())
    assert "biased_labels" not in plain["settings"]
    assert "num_biased_labels" not in plain["summary"]


@pytest.mark.slow
def test_number_of_processes_changes_no_false_label(
    tmp_path: Path, biased_root: Path, config: SyntheticConfig
) -> None:
    write_nuscenes(tmp_path / "data", config, num_processes=2)
    assert _files(tmp_path / "data") == _files(biased_root)


def test_a_share_that_is_too_large_writes_nothing(tmp_path: Path, config: SyntheticConfig) -> None:
    with pytest.raises(ValueError, match="biased labels must be 0 to"):
        write_nuscenes(tmp_path / "data", replace(config, biased_labels=0.7), num_processes=1)
    assert list(tmp_path.iterdir()) == []
