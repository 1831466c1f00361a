import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mono3d.cli.main import app, main
from tests.support.kitti_folder import write_kitti
from tests.support.nuscenes_tables import VERSION, write_tables

RUNNER = CliRunner()


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mono3d", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nope"], "recipe 'nope': neither a file nor a shipped recipe"),
        (["train", "demo", "optim.lrr=3"], "unknown key optim.lrr; did you mean optim.lr?"),
        (["train", "demo", "optim.lr"], "override 'optim.lr': must be PATH=VALUE"),
        (["train", "demo", "optim.lr=fast"], "optim.lr='fast'"),
        (["train", "demo", "data.root=/no/such", "--local", "--name", "x"], "/no/such"),
        (["data", "info", "/no/such"], "/no/such: no such folder"),
        (["evaluate", "0123456789abcdef"], "an MLflow run id needs MLFLOW_TRACKING_URI"),
    ],
)
def test_user_error_is_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run_main(monkeypatch, *arguments) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "mono3d: " in text]
    assert said in line


def test_dry_run_prints_a_recipe_that_resolves_to_itself(tmp_path: Path) -> None:
    printed = RUNNER.invoke(app, ["train", "demo", "mining.kind=none", "--dry-run"]).stdout
    assert yaml.safe_load(printed)["mining"] == {"kind": "none"}
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert RUNNER.invoke(app, ["train", str(again), "--dry-run"]).stdout == printed


def test_data_verify_reads_a_kitti_folder(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    result = RUNNER.invoke(app, ["data", "verify", str(root), "--points"])
    assert result.exit_code == 0
    assert "3 frames read: 0 broken, 0 odd" in result.stdout
    image = root / "training" / "image_2" / "000001.png"
    image.write_bytes(image.read_bytes()[:5000])
    label = root / "training" / "label_2" / "000000.txt"
    label.write_text(label.read_text().replace("810.73", "1310.73"))
    result = RUNNER.invoke(app, ["data", "verify", str(root)])
    assert result.exit_code == 2
    assert "odd    000000: 1 of 2 labelled rectangles leave the 1242x375 image, by up to 69 px" in (
        result.stdout
    )
    assert "broken 000001: " in result.stdout
    assert "image is cut short" in result.stdout
    assert "3 frames read: 1 broken, 1 odd" in result.stdout


def test_data_info_counts_kittis_types(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    said = RUNNER.invoke(app, ["data", "info", str(root), "--split", "train"]).stdout
    assert "Pedestrian" in said
    assert "images 2, other labels {'Van': 1}" in said
    said = RUNNER.invoke(app, ["data", "info", str(root), "--class", "Van"]).stdout
    assert "other labels {'Car': 1, 'Pedestrian': 1}" in said


def test_a_synthetic_kitti_folder_is_made_counted_and_verified(tmp_path: Path) -> None:
    root = str(tmp_path / "world")
    small = "--format kitti --width 155 --height 47 --train-scenes 1 --val-scenes 1 --samples 1"
    synth = ["data", "synth", root, *small.split(), "--test-scenes", "1", "--processes", "1"]
    said = RUNNER.invoke(app, synth)
    assert said.exit_code == 0, said.output
    assert f"wrote {root}, KITTI's format\n  train: 1 samples, 1 images\n" in said.stdout
    assert RUNNER.invoke(app, synth).stdout.startswith("kept")
    assert "images 1" in RUNNER.invoke(app, ["data", "info", root, "--split", "train"]).stdout
    for split, count in (("all", 2), ("test", 1)):
        verified = RUNNER.invoke(app, ["data", "verify", root, "--split", split, "--points"])
        assert verified.exit_code == 0, verified.output
        assert f"{count} frames read: 0 broken, 0 odd" in verified.stdout


def test_options_of_the_other_format_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synth = ("data", "synth", str(tmp_path / "world"))
    assert run_main(monkeypatch, *synth, "--format", "kitti", "--version", "v1.0") == 2
    assert "--version v1.0: a KITTI folder has no version" in capsys.readouterr().err
    assert run_main(monkeypatch, *synth, "--test-scenes", "2") == 2
    assert "--test-scenes 2: only a KITTI folder has testing/" in capsys.readouterr().err
    assert run_main(monkeypatch, *synth, "--format", "kitti", "--biased-labels", "0.2") == 2
    assert "--biased-labels 0.2: only a nuScenes folder has them" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", ["0.6", "-0.1", "nan"])
def test_a_share_of_biased_labels_out_of_range_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    share: str,
) -> None:
    synth = ("data", "synth", str(tmp_path / "world"), "--biased-labels", share)
    assert run_main(monkeypatch, *synth) == 2
    assert capsys.readouterr().err == f"mono3d: --biased-labels {share}: must be 0 to 0.5\n"
    assert list(tmp_path.iterdir()) == []


def test_data_info_counts_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_tables(tmp_path / "data")
    result = RUNNER.invoke(app, ["data", "info", str(root), "--version", VERSION])
    assert result.exit_code == 0, result.output
    assert "scenes 2, samples 4, images 24" in result.output


@pytest.mark.slow
def test_synth_train_locally_and_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    synth = "data synth world --width 160 --height 96 --train-scenes 1 --val-scenes 1 --samples 1"
    assert RUNNER.invoke(app, [*synth.split(), "--processes", "1"]).exit_code == 0
    kept = RUNNER.invoke(app, [*synth.split(), "--processes", "1"])
    assert kept.stdout.startswith("kept world")
    small = [
        "data.root=world", "input.image_height_px=96", "input.image_width_px=160",
        "model.backbone.width=16", "model.channels=8", "train.epochs=1", "train.batch_size=2",
        "train.epoch_frames=16",
    ]  # fmt: skip
    trained = RUNNER.invoke(app, ["train", "demo", "--local", "--name", "small", *small])
    assert trained.exit_code == 0, trained.output
    Path("report").mkdir()
    Path("report/mine.png").write_bytes(b"somebody's own")
    measured = RUNNER.invoke(
        app,
        ["evaluate", "runs/small", "-o", "report", "--figures", "report", "--oracle", "depth,size"],
    )
    assert measured.exit_code == 0, measured.output
    assert "10_20m" in measured.stdout
    assert "true depth" in measured.stdout
    metrics = json.loads(Path("report/metrics.json").read_text())
    assert 0 <= metrics["nuscenes_map"] <= 1
    assert metrics["centers_depth_abs_rel"] > 0
    assert metrics["true_depth/nuscenes_mate"] <= metrics["nuscenes_mate"]
    assert "true_all/nuscenes_map" in metrics
    image = next(Path("world/samples/CAM_FRONT").iterdir())
    predict = ["predict", "runs/small", str(image), "--camera", "126,126,79.5,47.5", "-o", "found"]
    assert "was trained with model.ground" in str(RUNNER.invoke(app, predict).exception)
    assert RUNNER.invoke(app, [*predict, "--camera-height", "1.5"]).exit_code == 0
    assert list(json.loads(Path("found/predictions.json").read_text())) == [str(image)]
    best = Path(json.loads(Path("runs/small/result.json").read_text())["best_checkpoint"])
    assert Path("report/mine.png").exists()
    for folder in (Path("report"), best):
        assert (folder / "predictions_0.png").read_bytes().startswith(b"\x89PNG")


def test_command_starts_without_torch() -> None:
    code = "import sys, mono3d.cli.main; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_oracle_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "evaluate", "nowhere", "--oracle", "depth,colour") == 2
    assert (
        "--oracle: 'colour' is none of depth, centre, size, yaw, class" in capsys.readouterr().err
    )


def test_data_show_draws_frames_of_a_recipe(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    shrunk = ["input.image_height_px=64", "input.image_width_px=192", "model.backbone.width=16"]
    command = ["data", "show", "kitti_overfit", f"data.root={root}", *shrunk]
    result = RUNNER.invoke(app, [*command, "--frames", "0,2", "-o", str(tmp_path / "shown")])
    assert result.exit_code == 0
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {"000000.png", "000002.png"}
