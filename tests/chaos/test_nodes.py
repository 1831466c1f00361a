"""A training on several nodes that are killed, cut off and come back; each a machine to Ray."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from tests.support.ray_nodes import Node, Nodes, await_that, machines, why_not

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]

RECIPE = """
data:
  kind: nuscenes
  root: {root}
  version: v1.0-synth
  train_split: synth_train
  val_split: synth_val
input: {{image_height_px: 64, image_width_px: 128}}
model: {{kind: dense, backbone: {{kind: resnet, depth: 18, width: 16}}, channels: 8}}
train: {{epochs: 12, epoch_frames: 64, batch_size: 4, log_every_steps: 1}}
checkpoint: {{every_steps: 2}}
evaluation: {{every_epochs: 12}}
tracking: {{max_figures: 0}}
cluster: {{workers: 2, storage: {storage}, max_failures: 3}}
"""
STEPS = 96
# A machine that is silent is missed after about ten seconds, not after half a minute.
IMPATIENT = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass
class Training:
    """`mono3d train` on a node, two workers of a CPU each."""

    node: Node
    folder: Path

    def start(self) -> "Training":
        self.process = self.node.run(
            sys.executable, "-m", "mono3d.cli.main", "train", str(self.folder / "own.yaml")
        )
        return self

    @property
    def checkpoints(self) -> int:
        """Whole ones."""
        return len(list((self.folder / "runs/own/checkpoints").glob("*/manifest.json")))

    def has_begun(self) -> bool:
        """Some steps are kept, and Ray knows: what it has not heard of is trained again."""
        assert self.process.poll() is None, self.process.communicate()[0]
        known = self.folder / "runs/own/checkpoint_manager_snapshot.json"
        return known.is_file() and "step_" in known.read_text()

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, output

    def assert_went_on_to_its_end(self) -> None:
        code, output = self.end()
        assert code == 0, output
        assert "resumed at step" in output, output
        result = json.loads((self.folder / "runs/own/result.json").read_text())
        assert result["steps"] == STEPS


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    """A head and another node, of a CPU each."""
    with machines() as cluster:
        for _ in range(2):
            cluster.add().start(cpus=1, **IMPATIENT)
        await_that(lambda: len(cluster.alive()) == 2)
        yield cluster


@pytest.fixture
def begin(tmp_path: Path) -> Callable[[Node], Training]:
    """Has a training keep its first steps, its command given on a node."""

    def begin_on(node: Node) -> Training:
        config = SyntheticConfig(
            image_size=(128, 72), train_scenes=4, val_scenes=1, samples_per_scene=1, seed=3
        )
        write_nuscenes(tmp_path / "data", config, num_processes=1)
        recipe = RECIPE.format(root=tmp_path / "data", storage=tmp_path / "runs")
        (tmp_path / "own.yaml").write_text(recipe)
        training = Training(node, tmp_path).start()
        await_that(training.has_begun)
        return training

    return begin_on


@pytest.fixture
def training(cluster: Nodes, begin: Callable[[Node], Training]) -> Training:
    """Begun on the head."""
    return begin(cluster.nodes[1])


def another(cluster: Nodes) -> Node:
    node = cluster.add()
    node.start(cpus=1, **IMPATIENT)
    return node


@pytest.mark.slow
def test_a_node_is_killed_and_another_takes_its_place(cluster: Nodes, training: Training) -> None:
    cluster.nodes[2].kill()
    await_that(lambda: cluster.alive() == {cluster.nodes[1].address})
    another(cluster)
    training.assert_went_on_to_its_end()


@pytest.mark.chaos
def test_a_node_is_killed_and_comes_back(cluster: Nodes, training: Training) -> None:
    cluster.nodes[2].kill()
    await_that(lambda: len(cluster.alive()) == 1)
    cluster.nodes[2].start(cpus=1, **IMPATIENT)
    training.assert_went_on_to_its_end()


@pytest.mark.chaos
def test_a_node_is_cut_off_and_another_takes_its_place(cluster: Nodes, training: Training) -> None:
    cluster.nodes[2].cut()
    await_that(lambda: cluster.alive() == {cluster.nodes[1].address})
    another(cluster)
    training.assert_went_on_to_its_end()


@pytest.mark.chaos
def test_the_head_is_killed_and_the_same_command_goes_on(
    cluster: Nodes, training: Training
) -> None:
    """Without fault tolerance of its own all that Ray knew is lost; checkpoints are not."""
    before = training.checkpoints
    cluster.nodes[1].kill()
    code, _ = training.end()
    assert code != 0
    cluster.nodes[2].kill()
    for node in cluster.nodes.values():
        node.start(cpus=1, **IMPATIENT)
    await_that(lambda: len(cluster.alive()) == 2)
    assert training.checkpoints >= before
    training.start().assert_went_on_to_its_end()
