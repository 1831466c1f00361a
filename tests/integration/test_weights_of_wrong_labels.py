"""What the study's analysis of planted labels prints, on a small world."""

import importlib.util
from pathlib import Path

import pytest

from mono3d.config.load import load_recipe
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.training.local import train_locally

SCRIPT = Path(__file__).parents[2] / "docs/studies/weights_of_wrong_labels.py"


@pytest.mark.slow
def test_every_policy_weighs_wrong_and_true_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, share in (("biased", 0.3), ("clean", 0.0)):
        config = SyntheticConfig(
            image_size=(128, 72), train_scenes=4, val_scenes=1, samples_per_scene=1, seed=3,
            biased_labels=share,
        )  # fmt: skip
        write_nuscenes(tmp_path / name, config, num_processes=1)
    run = train_locally(
        load_recipe(
            "mining_study",
            [
                f"data.root={tmp_path / 'biased'}",
                f"cluster.storage={tmp_path}",
                "input.image_height_px=64",
                "input.image_width_px=128",
                "model.backbone.width=16",
                "model.channels=8",
                "train.epochs=1",
                "train.epoch_frames=24",
            ],
        ),
        name="run",
    )
    spec = importlib.util.spec_from_file_location("weights", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(run.last_checkpoint, str(tmp_path / "biased"), str(tmp_path / "clean"), warm_up=0)
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[1].strip(): cells[2:-1] for cells in (line.split("|") for line in lines)}
    assert [cell.strip() for cell in rows["none"][:4]] == ["1.00"] * 4
    assert {"gmm", "ohem", "easy_topk", "focal", "ghm", "pisa", "range_cut"} <= rows.keys()
    assert not {"lss", "uncertainty_only", "metres"} & rows.keys()
    # By a network that has learnt little: hard mining goes for wrong labels more than easy mining.
    assert _percent(rows["easy_topk"]) < _percent(rows["ohem"])
    assert _percent(rows["samples"]) == pytest.approx(30, abs=20)


def _percent(cells: list[str]) -> float:
    return float(cells[-1].strip().removesuffix(" %"))
