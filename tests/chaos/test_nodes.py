"""A training on several nodes that are killed, cut off and come back; each a machine to Ray."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
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
train: {{epochs: {epochs}, epoch_frames: 64, batch_size: 4, log_every_steps: 1}}
checkpoint: {{every_steps: 2}}
evaluation: {{every_epochs: {epochs}}}
tracking: {{max_figures: 0}}
cluster: {{workers: 2, storage: {storage}, max_failures: 3}}
"""
STEPS_PER_EPOCH = 8
EPOCHS = 12
# A machine that is silent is missed after about ten seconds, not after half a minute.
IMPATIENT = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass(frozen=True)
class Run:
    """Of two workers, a CPU each; in a folder that all nodes see."""

    folder: Path
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        config = SyntheticConfig(
            image_size=(128, 72), train_scenes=4, val_scenes=1, samples_per_scene=1, seed=3
        )
        write_nuscenes(self.folder / "data", config, num_processes=1)
        recipe = RECIPE.format(
            root=self.folder / "data", storage=self.folder / "runs", epochs=self.epochs
        )
        self.recipe.write_text(recipe)

    @property
    def recipe(self) -> Path:
        return self.folder / "own.yaml"

    @property
    def last_step(self) -> int:
        """Of the whole checkpoints; 0 if there is none."""
        whole = (self.folder / "runs/own/checkpoints").glob("step_*/manifest.json")
        return max((int(path.parent.name.removeprefix("step_")) for path in whole), default=0)

    def has_begun(self) -> bool:
        """Some steps are kept, and Ray knows: what it has not heard of is trained again."""
        known = self.folder / "runs/own/checkpoint_manager_snapshot.json"
        return known.is_file() and "step_" in known.read_text()

    def assert_is_whole(self) -> None:
        result = json.loads((self.folder / "runs/own/result.json").read_text())
        assert result["steps"] == self.epochs * STEPS_PER_EPOCH


@dataclass
class Training:
    """`mono3d train` on a node."""

    node: Node
    run: Run

    def start(self) -> "Training":
        self.process = self.node.run(
            sys.executable, "-m", "mono3d.cli.main", "train", str(self.run.recipe)
        )
        return self

    def has_begun(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[0]
        return self.run.has_begun()

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, output

    def assert_went_on_to_its_end(self) -> None:
        code, output = self.end()
        assert code == 0, output
        assert "resumed at step" in output, output
        self.run.assert_is_whole()


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    """A head and another node, of a CPU each."""
    with machines() as cluster:
        for _ in range(2):
            cluster.add().start(cpus=1, **IMPATIENT)
        await_that(lambda: len(cluster.alive()) == 2)
        yield cluster


@pytest.fixture
def training(cluster: Nodes, tmp_path: Path) -> Training:
    """Begun on the head; its first steps are kept."""
    training = Training(cluster.nodes[1], Run(tmp_path)).start()
    await_that(training.has_begun)
    return training


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
    before = training.run.last_step
    cluster.nodes[1].kill()
    code, _ = training.end()
    assert code != 0
    cluster.nodes[2].kill()
    for node in cluster.nodes.values():
        node.start(cpus=1, **IMPATIENT)
    await_that(lambda: len(cluster.alive()) == 2)
    assert training.run.last_step >= before
    training.start().assert_went_on_to_its_end()


@pytest.mark.chaos
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs Debian's redis-server")
def test_the_head_with_redis_is_killed_and_a_job_goes_on_without_it(tmp_path: Path) -> None:
    """Nothing is lost: the job's command, its workers and its log are on other nodes."""
    with machines() as cluster:
        head, store, *others = (cluster.add() for _ in range(4))
        store.run(
            "redis-server", "--bind", store.address, "--port", "6379", "--protected-mode", "no",
            "--save", "",
        )  # fmt: skip
        start_head = partial(
            head.start, cpus=0, RAY_REDIS_ADDRESS=f"{store.address}:6379", **IMPATIENT
        )
        start_head()
        for node, cpus in zip(others, (1, 2), strict=True):
            node.start(cpus=cpus, **IMPATIENT)
        await_that(lambda: len(cluster.alive()) == 3)

        run = Run(tmp_path, epochs=2 * EPOCHS)
        (empty := tmp_path / "empty").mkdir()
        on(head, "mono3d", "submit", "--no-wait", "--entrypoint-num-cpus=1", "--id=survivor",
           f"--working-dir={empty}", "--", "train", str(run.recipe))  # fmt: skip
        await_that(run.has_begun)
        head.kill()
        kept = run.last_step
        await_that(lambda: run.last_step > kept)
        assert not (tmp_path / "runs/own/result.json").exists()
        start_head()
        await_that(lambda: len(cluster.alive()) == 3)
        await_that(lambda: "' succeeded" in on(head, "ray", "job", "status", "survivor"))
        log = on(head, "ray", "job", "logs", "survivor")
    assert "epoch 1/24" in log
    assert "resumed" not in log
    assert "run        own, 192 steps" in log
    run.assert_is_whole()


def on(head: Node, *command: str) -> str:
    """What a command prints there, where alone Ray's job server answers."""
    asked = head.run(*command, RAY_API_SERVER_ADDRESS="http://127.0.0.1:8265")
    output, _ = asked.communicate(timeout=60)
    assert asked.returncode == 0, output
    return output
