"""Objectives in bird's-eye view, both heads, on surround frames with LiDAR."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mono3d.codec.anchors import AnchorCodec
from mono3d.objectives.bev_anchor import box_residual_losses
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.protocol import Objective, StepContext
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch, Predictions
from tests.codec.test_bev_codecs import perfect_responses
from tests.support.bev import (
    BINS,
    HEADS,
    Head,
    make_bev_batch,
    make_bev_codec,
    make_bev_detector,
    make_bev_objective,
)
from tests.support.detectors import context_of
from tests.support.frames import surround_frame
from tests.support.host_sync import NoHostSync

TERMS = {
    "anchors": {"classification", "box", "direction", "depth"},
    "centers": {
        "classification", "offset", "height", "dims", "velocity", "attribute", "axis",
        "direction", "depth",
    },
}  # fmt: skip


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> Head:
    head: Head = request.param
    return head


def batch_for(head: Head, *seeds: int, unlabelled: tuple[int, ...] = ()) -> Batch:
    frames = [surround_frame(s, is_labelled=s not in unlabelled) for s in seeds or (0, 1)]
    return make_bev_batch(frames, make_bev_codec(head))


def exact(head: Head, batch: Batch) -> dict[str, Tensor]:
    """What a network says that knows the labels, of boxes and of depth."""
    codec = make_bev_codec(head)
    assert batch.depth_targets is not None
    target_m = batch.depth_targets.flatten(0, 1).flatten(1)
    index = BINS.index(target_m)
    logits = torch.full((len(index), BINS.count + 1, index.shape[1]), -30.0)
    logits = logits.scatter(1, index[:, None], 30.0).unflatten(2, (8, 12))
    return {**perfect_responses(codec, batch), "depth_logits": logits, "depth_m": target_m}


def test_each_term_alone_reaches_the_first_convolution_where_it_should(head: Head) -> None:
    detector, batch = make_bev_detector(head), batch_for(head)
    objective = make_bev_objective(make_bev_codec(head))
    assert isinstance(objective, Objective)
    output = objective(detector(batch), batch, context_of(batch))
    assert set(output.terms) == TERMS[head]
    first = next(w for name, w in detector.named_parameters() if name.endswith("weight"))
    for name, term in output.terms.items():
        (gradient,) = torch.autograd.grad(term, first, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_who_knows_the_labels_pays_nothing_but_for_certainty(head: Head) -> None:
    batch = batch_for(head)
    objective = make_bev_objective(make_bev_codec(head))
    output = objective(Predictions(responses=exact(head, batch)), batch, context_of(batch))
    for name, term in output.terms.items():
        if name in {"direction", "attribute"}:  # logits of 0 and 1
            continue
        assert float(term) == pytest.approx(0, abs=2e-3), name
    assert float(output.statistics["depth_error"]) == 0


def test_unlabelled_frames_teach_depth_alone(head: Head) -> None:
    detector = make_bev_detector(head).eval()
    objective = make_bev_objective(make_bev_codec(head))
    batch = batch_for(head, 0, 1, unlabelled=(1,))
    context = context_of(batch)
    before = objective(detector(batch), batch, context).terms
    images = batch.images.clone()
    images[1] = 255 - images[1]
    changed = replace(batch, images=images)
    after = objective(detector(changed), changed, context).terms
    for name in before:
        assert torch.isclose(before[name], after[name], rtol=1e-5) == (name != "depth"), name


def test_nothing_labelled_and_no_points_is_zero_with_a_graph(head: Head) -> None:
    batch = batch_for(head, 3, unlabelled=(3,))
    assert batch.depth_targets is not None
    batch = replace(batch, depth_targets=torch.zeros_like(batch.depth_targets))
    detector = make_bev_detector(head)
    output = make_bev_objective(make_bev_codec(head))(detector(batch), batch, context_of(batch))
    total = torch.stack(list(output.terms.values())).sum()
    assert float(total.detach()) == 0
    total.backward()


def test_without_maps_of_depth_there_is_no_depth_term(head: Head) -> None:
    batch = replace(batch_for(head), depth_targets=None)
    output = make_bev_objective(make_bev_codec(head))(
        make_bev_detector(head)(batch), batch, context_of(batch)
    )
    assert set(output.terms) == TERMS[head] - {"depth"}


def test_a_split_over_micro_batches_changes_nothing(head: Head) -> None:
    detector, codec = make_bev_detector(head).eval(), make_bev_codec(head)
    objective = make_bev_objective(codec)
    whole = batch_for(head, 0, 1, 2)
    parts = [batch_for(head, seed) for seed in (0, 1, 2)]
    context = context_of(*parts)
    one = objective(detector(whole), whole, context).terms
    for name, value in one.items():
        summed = sum(objective(detector(part), part, context).terms[name] for part in parts)
        torch.testing.assert_close(summed, value, rtol=1e-4, atol=1e-5)


def test_mining_weighs_the_cells_of_images_and_remembers(head: Head) -> None:
    codec, batch = make_bev_codec(head), batch_for(head)
    plain = make_bev_objective(codec)
    mined = make_bev_objective(codec, mining=GmmMining(warmup_epochs=0.0)).train()
    detector = make_bev_detector(head)
    context = context_of(batch, progress=3.0, with_statistics=True)
    said = detector(batch)
    with NoHostSync():
        first, second = plain(said, batch, context), mined(said, batch, context)
    assert not torch.equal(first.terms["depth"], second.terms["depth"])
    assert torch.equal(first.terms["classification"], second.terms["classification"])
    assert {name for name, _ in mined.named_buffers()} == {
        f"mining_{name}" for name in GmmMining().initial_state()
    }
    assert float(second.statistics["mining/weight_mean"]) == pytest.approx(1, rel=1e-4)
    shares = [k for k in second.statistics if k.startswith("mining/sample_share/class_")]
    assert sum(float(second.statistics[k]) for k in shares) < 1  # most cells show no object


def test_cells_of_objects_count_more(head: Head) -> None:
    codec, batch = make_bev_codec(head), batch_for(head)
    responses = exact(head, batch)
    context = context_of(batch)
    wrong = {**responses, "depth_logits": responses["depth_logits"].flip(1)}
    costs = [
        make_bev_objective(codec, depth_foreground=factor)(
            Predictions(responses=wrong), batch, context
        ).terms["depth"]
        for factor in (1.0, 100.0)
    ]
    assert float(costs[0]) > 0
    assert float(costs[0]) != pytest.approx(float(costs[1]), rel=1e-3)


def test_weights_are_factors_of_terms(head: Head) -> None:
    codec, batch = make_bev_codec(head), batch_for(head)
    said = make_bev_detector(head)(batch)
    names = TERMS[head]
    one = make_bev_objective(codec, weights=LossWeights(**dict.fromkeys(names, 1.0)))
    two = make_bev_objective(codec, weights=LossWeights(**dict.fromkeys(names, 2.0)))
    first, second = (o(said, batch, context_of(batch)).terms for o in (one, two))
    for name in names:
        torch.testing.assert_close(second[name], 2 * first[name])


def test_a_half_turn_costs_nothing_in_the_residual() -> None:
    wanted = torch.randn(5, 7)
    turned = wanted + torch.tensor([0, 0, 0, 0, 0, 0, torch.pi])
    torch.testing.assert_close(
        box_residual_losses(turned, wanted), torch.zeros(5), atol=1e-6, rtol=0
    )
    quarter = wanted + torch.tensor([0, 0, 0, 0, 0, 0, torch.pi / 2])
    torch.testing.assert_close(
        box_residual_losses(quarter, wanted), torch.full((5,), 1 - 1 / 18), atol=1e-5, rtol=0
    )


def test_ignored_anchors_are_not_background() -> None:
    codec, batch = make_bev_codec("anchors"), batch_for("anchors")
    assert isinstance(codec, AnchorCodec)
    responses = exact("anchors", batch)
    is_ignored = codec.is_ignored(batch)
    learning = torch.zeros_like(is_ignored).scatter(1, batch.positives.index, batch.positives.valid)
    between = is_ignored & ~learning
    assert between.any()
    responses["class_logits"][between] = 9.0
    objective = make_bev_objective(codec)
    said = Predictions(responses=responses)
    loss = objective(said, batch, context_of(batch)).terms["classification"]
    assert float(loss) == pytest.approx(0, abs=1e-3)
    responses["class_logits"][:] = 9.0
    assert float(objective(said, batch, context_of(batch)).terms["classification"]) > 10


def test_the_step_does_not_wait_for_the_device(head: Head) -> None:
    detector, batch = make_bev_detector(head), batch_for(head)
    objective = make_bev_objective(make_bev_codec(head))
    count = objective.count_samples(batch).clamp(min=1)
    context = StepContext(
        num_samples=count, num_images=12, world_size=1, progress=0.0, with_statistics=False
    )
    objective(detector(batch), batch, context)  # constants go to the device once
    with NoHostSync():
        output = objective(detector(batch), batch, context)
        torch.stack(list(output.terms.values())).sum().backward()


def test_quality_is_the_overlap_of_the_box_that_is_said() -> None:
    """Who says exact boxes learns a class score of one, who is half a length off much less."""
    codec, batch = make_bev_codec("anchors"), batch_for("anchors")
    assert isinstance(codec, AnchorCodec)
    objective = make_bev_objective(codec, has_quality=True)
    responses = exact("anchors", batch)

    def loss(answers: dict[str, Tensor]) -> float:
        found = objective(Predictions(responses=answers), batch, context_of(batch))
        return float(found.terms["classification"])

    assert loss(responses) == pytest.approx(0, abs=1e-3)
    moved = responses["box_residuals"].clone()
    moved[..., 0] += 0.5
    assert loss({**responses, "box_residuals": moved}) > 0.5
    unsure = responses["class_logits"].clamp(max=-9.0)
    assert loss({**responses, "box_residuals": moved, "class_logits": unsure}) < loss(
        {**responses, "box_residuals": moved}
    )


def test_quality_sends_no_gradient_into_boxes() -> None:
    detector, batch = make_bev_detector("anchors"), batch_for("anchors")
    objective = make_bev_objective(make_bev_codec("anchors"), has_quality=True)
    said = detector(batch)
    residuals = said.responses["box_residuals"].detach().requires_grad_()
    replaced = Predictions(responses={**said.responses, "box_residuals": residuals})
    term = objective(replaced, batch, context_of(batch)).terms["classification"]
    assert torch.autograd.grad(term, residuals, allow_unused=True) == (None,)
