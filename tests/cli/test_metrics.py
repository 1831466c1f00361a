"""`mono3d metrics`: result files in, tables and JSON out; no model, and no torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mono3d.cli.main import app
from mono3d.errors import DataError
from tests.support.kitti_lines import label, result
from tests.support.nuscenes_tables import VERSION, write_tables

RUNNER = CliRunner()
SAMPLES = ("scene-a-sample-0", "scene-a-sample-1", "scene-b-sample-0", "scene-b-sample-1")


def kitti_folders(root: Path) -> list[str]:
    """Eighty frames with a car each, found in the first half; and a result of no frame."""
    for folder in ("gt", "det"):
        (root / folder).mkdir()
    for number in range(80):
        (root / "gt" / f"{number:06d}.txt").write_text(f"{label()}\n")
        (root / "det" / f"{number:06d}.txt").write_text(result() if number < 40 else "")
    (root / "det" / "999999.txt").write_text(result())
    return ["metrics", "kitti", f"--ground-truth={root / 'gt'}", f"--detections={root / 'det'}"]


def numbers(command: list[str], output: Path) -> Any:
    found = RUNNER.invoke(app, [*command, "--json", str(output)])
    assert found.exit_code == 0, found.output
    assert str(output.name) in found.stdout.replace("\n", "")
    return json.loads(output.read_text())


def test_kitti_frames_are_those_with_ground_truth_or_those_of_a_list(tmp_path: Path) -> None:
    command = kitti_folders(tmp_path)
    scores = numbers(command, tmp_path / "all.json")
    assert scores["std"]["Car"]["3d"] == {
        "R40": [50.0] * 3,
        "R11": pytest.approx([100 * 6 / 11] * 3),
    }
    assert scores["loose"]["Cyclist"] == dict.fromkeys(("2d", "aos", "bev", "3d"))
    listed = tmp_path / "val.txt"
    listed.write_text("\n".join(f"{number:06d}" for number in range(40)))
    scores = numbers([*command, f"--frames={listed}"], tmp_path / "listed.json")
    assert scores["std"]["Car"]["2d"]["R40"] == [pytest.approx(100 * 39 / 40)] * 3


def test_kitti_classes_beyond_the_benchmark(tmp_path: Path) -> None:
    command = kitti_folders(tmp_path)
    for number in range(40):
        (tmp_path / "gt" / f"{number:06d}.txt").write_text(label("Van"))
        (tmp_path / "det" / f"{number:06d}.txt").write_text(result(kind="Van"))
    scores = numbers([*command, "--classes=Van"], tmp_path / "van.json")
    assert scores["std"]["Van"]["3d"]["R40"] == [pytest.approx(100 * 39 / 40)] * 3
    with pytest.raises(DataError, match=r"--classes Bus: .* has no such label; it has car, van"):
        RUNNER.invoke(app, [*command, "--classes=Car,Bus"], catch_exceptions=False)


def test_a_frame_without_a_result_file_is_an_error(tmp_path: Path) -> None:
    command = kitti_folders(tmp_path)
    (tmp_path / "det" / "000007.txt").unlink()
    with pytest.raises(DataError, match=r"000007\.txt: no such file; a frame without objects"):
        RUNNER.invoke(app, command, catch_exceptions=False)


def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    command = [*kitti_folders(tmp_path), "--json", str(tmp_path / "no" / "where.json")]
    with pytest.raises(DataError, match=r"--json .*where\.json: cannot be written"):
        RUNNER.invoke(app, command, catch_exceptions=False)


@pytest.mark.parametrize("benchmark", ["kitti", "waymo", "nuscenes"])
def test_metrics_need_no_torch(benchmark: str) -> None:
    modules = {
        "kitti": "mono3d.evaluation.kitti_ap",
        "waymo": "mono3d.evaluation.waymo_metrics",
        "nuscenes": "mono3d.evaluation.nuscenes_devkit",
    }
    code = f"import sys, mono3d.cli.main, {modules[benchmark]}; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert "'mono3d.cli.metrics'" in loaded
    assert not {"'torch'", "'transformers'", "'ray'", "'mlflow'"} & set(loaded.split(", "))


def submission(path: Path, samples: tuple[str, ...] = SAMPLES, **changes: Any) -> Path:
    """No detections."""
    content = {"meta": {"use_camera": True}, "results": {s: [] for s in samples}, **changes}
    path.write_text(json.dumps(content))
    return path


def nuscenes_command(root: Path, detections: Path, split: str = "all") -> list[str]:
    place = [f"--root={root}", f"--version={VERSION}", f"--split={split}"]
    return ["metrics", "nuscenes", *place, f"--detections={detections}"]


def test_nuscenes_writes_the_devkit_s_summary(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    command = nuscenes_command(root, submission(tmp_path / "results.json"))
    summary = numbers([*command, "--per-camera"], tmp_path / "scores.json")
    assert summary["mean_ap"] == 0
    assert summary["meta"] == {"use_camera": True}
    assert set(summary["cameras"]) == {
        f"CAM_{side}"
        for side in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK", "BACK_LEFT", "BACK_RIGHT")
    }


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({}, "mini_val", "holds no scene of split 'mini_val'"),
        ({}, "nosplit", "split 'nosplit': neither 'all' nor one of"),
        (
            {"samples": SAMPLES[1:]},
            "all",
            "lacks 1 of the 4 samples of all, such as scene-a-sample",
        ),
        ({"results": []}, "all", "a submission is an object with 'results', itself an object"),
        ({"meta": None}, "all", "a submission is an object with 'meta'"),
        ({"results": {s: [{}] for s in SAMPLES}}, "all", "a box breaks the format"),
        ({"results": dict.fromkeys(SAMPLES)}, "all", "None must be a list of boxes"),
    ],
)
def test_nuscenes_submissions_that_do_not_fit(
    changes: dict[str, Any], split: str, message: str, tmp_path: Path
) -> None:
    root = write_tables(tmp_path / "data")
    detections = submission(tmp_path / "results.json", **changes)
    with pytest.raises(DataError) as caught:
        RUNNER.invoke(app, nuscenes_command(root, detections, split), catch_exceptions=False)
    assert message in str(caught.value)


def test_nuscenes_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    broken = tmp_path / "broken.json"
    broken.write_text('{"meta": ')
    for detections in (tmp_path / "missing.json", broken):
        with pytest.raises(DataError, match="submission cannot be read"):
            RUNNER.invoke(app, nuscenes_command(root, detections), catch_exceptions=False)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["centerpoint_ab3dmot", "trelpy_pointpillars"])
def test_nuscenes_equals_the_devkit_on_real_annotations(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    root = real_data / "nuscenes" / "mini_val_eval"
    command = [
        "metrics", "nuscenes", f"--root={root}", "--version=v1.0-mini", "--split=mini_val",
        f"--detections={root / 'detections' / f'{name}_results_nusc.json'}",
    ]  # fmt: skip
    summary = numbers(command, tmp_path / "scores.json")
    golden_path = root / "golden" / f"{name}_devkit_metrics_summary.json"
    golden = json.loads(golden_path.read_text())
    assert summary.keys() == golden.keys()
    for key in golden.keys() - {"eval_time"}:
        assert flat(summary[key]) == pytest.approx(flat(golden[key]), abs=1e-9, nan_ok=True)


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Numbers (and words) of nested objects and lists, by path."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)  # type: ignore[assignment]
    else:
        return {path: tree}
    return {k: v for name, part in items for k, v in flat(part, f"{path}/{name}").items()}
