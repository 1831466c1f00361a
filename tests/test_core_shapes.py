"""The core carries what later detectors and methods need: two steps each, on the same batch.

A bird's-eye-view network (six cameras, LiDAR, an unlabelled frame) and a distillation (a teacher
that sees depth, a student, an adapter), as stubs, through the real module, loop and optimiser.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.errors import ConfigError
from mono3d.geometry.camera import transform_points, unproject
from mono3d.model.dense_detector import DenseDetector
from mono3d.objectives.distillation.protocol import Distiller, FrozenTeacher, require_features
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.protocol import Objective, ObjectiveOutput, StepContext
from mono3d.structures import Batch, Inputs, LossTerms, Predictions
from mono3d.training.loop import train_step
from mono3d.training.schedule import build_adamw
from mono3d.training.state import TrainState, WeightAverage
from mono3d.training.train_module import TrainModule
from tests.support.detectors import make_detector, make_objective
from tests.support.frames import make_batch, make_codec, surround_frame
from tests.support.host_sync import NoHostSync

CODEC = make_codec()
CELLS, CELL_M = 16, 4.0
"""Side of the stub's bird's-eye-view grid, and of a cell; the vehicle stands in its middle."""


@pytest.fixture
def batch() -> Batch:
    """Three moments of six cameras with LiDAR and depth; the last one has no labels."""
    frames = [surround_frame(0), surround_frame(1), surround_frame(2, is_labelled=False)]
    return make_batch(frames, CODEC, depth_input="lidar")


def train_two_steps(module: TrainModule, batch: Batch) -> list[ObjectiveOutput]:
    state = TrainState(
        module=module.train(),
        optimizer=build_adamw(module, lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999)),
        schedule=lambda step: 1.0,
        peak_lr=1e-3,
        ema=WeightAverage(module.student, 0.9),
    )
    outputs = [_step(state, batch)]
    with NoHostSync():
        outputs.append(_step(state, batch))
    assert state.step == 2
    assert state.skipped == 0
    return outputs


def _step(state: TrainState, batch: Batch) -> ObjectiveOutput:
    return train_step(state, [batch], max_grad_norm=35.0, progress=3.0, with_statistics=True)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def changed(module: nn.Module, before: Mapping[str, Tensor]) -> dict[str, bool]:
    return {name: not torch.equal(p, before[name]) for name, p in module.named_parameters()}


def bev_cells(points_bev: Tensor) -> Tensor:
    """Cell of each point of the bev frame, rows along x; what lies outside counts at the border."""
    row, column = (points_bev[..., :2] / CELL_M + CELLS / 2).long().clamp(0, CELLS - 1).unbind(-1)
    return row * CELLS + column


class StubBevNetwork(nn.Module):
    """Image features lifted to bird's-eye view at three depths, and a count of LiDAR points."""

    depths_m: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = {"bev": (4, 1), "assistant_bev": (4, 1)}
        self.register_buffer("depths_m", torch.tensor([6.0, 14.0, 24.0]), persistent=False)
        self.image_conv = nn.Conv2d(3, 4, 8, stride=8)
        self.depth_conv = nn.Conv2d(1, 4, 8, stride=8)
        self.point_weight = nn.Parameter(torch.tensor(0.1))
        self.occupancy = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, inputs: Inputs) -> Predictions:
        bev = self._lift(self.image_conv(inputs.images.flatten(0, 1).float() / 255), inputs)
        bev = bev + self.point_weight * self._count_points(inputs)[:, None]
        features = {"bev": bev}
        if inputs.depth_input is not None:
            depth = self.depth_conv(inputs.depth_input.flatten(0, 1) / 10)
            features["assistant_bev"] = self._lift(depth, inputs)
        return Predictions(responses={"occupancy": self.occupancy(bev)[:, 0]}, features=features)

    def _lift(self, maps: Tensor, inputs: Inputs) -> Tensor:
        frames, cameras = inputs.images.shape[:2]
        height, width = maps.shape[-2:]
        v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = (torch.stack([u, v], -1).flatten(0, 1) * 8 + 4).float()
        shape = (frames, cameras, len(self.depths_m), len(pixels))
        rays = unproject(
            pixels.expand(*shape, 2),
            self.depths_m[:, None].expand(shape),
            inputs.projection[:, :, None, None].expand(*shape, 3, 4),
        )
        cells = bev_cells(transform_points(rays, inputs.bev_from_cam[:, :, None, None]))
        values = maps.unflatten(0, (frames, cameras)).flatten(3)[:, :, None]
        values = values.expand(-1, -1, len(self.depths_m), -1, -1).transpose(-1, -2)
        grid = maps.new_zeros(frames, CELLS * CELLS, maps.shape[1])
        index = cells.flatten(1)[..., None].expand(-1, -1, maps.shape[1])
        lifted: Tensor = grid.scatter_add(1, index, values.flatten(1, 3)).transpose(1, 2)
        return lifted.reshape(*lifted.shape[:2], CELLS, CELLS)

    def _count_points(self, inputs: Inputs) -> Tensor:
        assert inputs.points is not None
        assert inputs.point_offsets is not None
        number = torch.arange(len(inputs.points))
        frame = torch.bucketize(number, inputs.point_offsets[1:], right=True)
        cells = frame * CELLS * CELLS + bev_cells(inputs.points)
        counts = inputs.points.new_zeros(len(inputs.images) * CELLS * CELLS)
        counts = counts.scatter_add(0, cells, torch.ones(len(cells)))
        return counts.view(-1, CELLS, CELLS)


class StubBevObjective(nn.Module):
    """Occupancy of the cells of the labelled boxes' centres, on labelled frames."""

    def count_samples(self, batch: Batch) -> Tensor:
        return batch.boxes_bev.valid.sum().float()

    def forward(
        self, predictions: Predictions, batch: Batch, context: StepContext
    ) -> ObjectiveOutput:
        said = predictions.responses["occupancy"].flatten(1)
        boxes = batch.boxes_bev
        occupied = torch.zeros_like(said).scatter_reduce(
            1, bev_cells(boxes.centers), boxes.valid.float(), "amax"
        )
        losses = F.binary_cross_entropy_with_logits(said, occupied, reduction="none").sum(1)
        total = (losses * batch.has_labels).sum() * context.world_size / context.num_samples
        assistant = predictions.features["assistant_bev"].square().mean()
        return ObjectiveOutput(terms={"occupancy": total, "assistant": 0.1 * assistant})


def test_two_steps_of_a_birds_eye_view_network(batch: Batch) -> None:
    module = TrainModule(StubBevNetwork(), StubBevObjective())
    assert isinstance(module.objective, Objective)
    before = weights_of(module)
    first, second = train_two_steps(module, batch)
    assert all(changed(module, before).values())
    assert second.terms["occupancy"] < first.terms["occupancy"]


def test_the_network_emits_what_it_declares_and_the_assistant_only_with_depth(
    batch: Batch,
) -> None:
    network = StubBevNetwork()
    assert set(network(batch).features) == set(network.features)
    assert set(network(replace(batch, depth_input=None)).features) == {"bev"}


def test_labels_of_the_bev_frame_and_of_the_cameras_are_of_the_same_objects(batch: Batch) -> None:
    seen = batch.boxes_cam.valid.flatten(1)
    ids, centers = batch.boxes_cam.object_ids.flatten(1), batch.boxes_cam.centers
    in_bev = transform_points(centers, batch.bev_from_cam[:, :, None].expand(-1, -1, 16, -1, -1))
    wanted = batch.boxes_bev.centers.gather(1, ids[..., None].expand(-1, -1, 3))
    assert seen.sum() > 10
    torch.testing.assert_close(in_bev.flatten(1, 2)[seen], wanted[seen], rtol=1e-4, atol=1e-3)


def test_the_unlabelled_frame_teaches_no_occupancy(batch: Batch) -> None:
    network, objective = StubBevNetwork(), StubBevObjective()
    context = StepContext(
        num_samples=objective.count_samples(batch),
        world_size=1,
        num_images=18,
        progress=0.0,
        with_statistics=False,
    )
    occupancy = objective(network(batch), batch, context).terms["occupancy"]
    for frame, is_same in ((1, False), (2, True)):
        images = batch.images.clone()
        images[frame] = 0
        other = replace(batch, images=images)
        changed_to = objective(network(other), other, context).terms["occupancy"]
        assert torch.isclose(changed_to, occupancy, rtol=1e-6) == is_same


class StubDepthTeacher(nn.Module):
    """Reads true depth; no student can, at inference."""

    def __init__(self) -> None:
        super().__init__()
        self.features = {"neck_8": (4, 8)}
        self.conv = nn.Conv2d(1, 4, 8, stride=8)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, inputs: Inputs) -> Predictions:
        assert inputs.depth_input is not None
        said = self.norm(self.conv(inputs.depth_input.flatten(0, 1) / 10))
        return Predictions(responses={}, features={"neck_8": said})


class StubDistiller:
    """The student's adapted feature map should equal the teacher's."""

    def __init__(self, teacher: StubDepthTeacher, student: DenseDetector, tap: str) -> None:
        require_features(student.features, [tap])
        require_features(teacher.features, [tap])
        self.teacher = FrozenTeacher(teacher)
        self.adapters = nn.Conv2d(student.features[tap][0], teacher.features[tap][0], 1)
        self._tap = tap

    def to(self, device: torch.device | str) -> "StubDistiller":
        self.teacher.to(device)
        return self

    def losses(self, batch: Batch, student: Predictions, context: StepContext) -> LossTerms:
        wanted = self.teacher(batch).features[self._tap]
        return {"feature": F.mse_loss(self.adapters(student.features[self._tap]), wanted)}


def test_two_steps_of_distillation(batch: Batch) -> None:
    teacher, student = StubDepthTeacher(), make_detector()
    distiller = StubDistiller(teacher, student, "neck_8")
    assert isinstance(distiller, Distiller)
    objective = make_objective(CODEC, mining=GmmMining(warmup_epochs=0.0))
    module = TrainModule(student, objective, distiller)
    before = {name: weights_of(part) for name, part in _parts(teacher, student, distiller).items()}
    statistics = {name: value.clone() for name, value in teacher.named_buffers()}

    first, second = train_two_steps(module, batch)

    assert second.terms["distill/feature"] < first.terms["distill/feature"]
    assert {"distill/feature", "depth", "classification"} <= set(first.terms)
    parts = _parts(teacher, student, distiller)
    assert not any(changed(parts["teacher"], before["teacher"]).values())
    assert all(torch.equal(v, statistics[name]) for name, v in teacher.named_buffers())
    assert all(changed(parts["adapters"], before["adapters"]).values())
    moved = changed(parts["student"], before["student"])
    assert all(moved.values()), [name for name, has_moved in moved.items() if not has_moved]
    learning = {id(parameter) for parameter in module.parameters()}
    assert learning.isdisjoint({id(parameter) for parameter in teacher.parameters()})
    assert {name.split(".")[0] for name in module.state_dict()} == {
        "student", "objective", "adapters",
    }  # fmt: skip


def _parts(
    teacher: nn.Module, student: nn.Module, distiller: StubDistiller
) -> dict[str, nn.Module]:
    return {"teacher": teacher, "student": student, "adapters": distiller.adapters}


def test_building_on_a_feature_map_that_does_not_exist_fails() -> None:
    with pytest.raises(ConfigError, match=r"'bev': the network has only backbone_4, .*neck_32$"):
        StubDistiller(StubDepthTeacher(), make_detector(), "bev")


def test_a_network_cannot_read_labels(batch: Batch) -> None:
    """It is typed to read inputs, inputs hold no label, and they are all that it needs."""
    assert {field.name for field in fields(Inputs)} == {
        "images", "projection", "bev_from_cam", "points", "point_offsets", "depth_input",
    }  # fmt: skip
    inputs = Inputs(**{field.name: getattr(batch, field.name) for field in fields(Inputs)})
    detector = make_detector().eval()
    for network in (detector, StubBevNetwork(), StubDepthTeacher().eval()):
        assert get_type_hints(type(network).forward)["inputs"] is Inputs
        alone, with_labels = network(inputs), network(batch)
        for name, value in with_labels.features.items():
            assert torch.equal(alone.features[name], value)
        for name, value in with_labels.responses.items():
            assert torch.equal(alone.responses[name], value)
