"""What holds for every distiller. A new method adds its rows to `tests.support.distillation`."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from mono3d.objectives.distillation.protocol import Distiller
from mono3d.structures import Batch, Boxes3D, LossTerms
from tests.support.detectors import context_of
from tests.support.distillation import PAIRS, Pair
from tests.support.host_sync import NoHostSync


@pytest.fixture(params=list(PAIRS))
def pair(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]()


def losses(pair: Pair, batch: Batch) -> LossTerms:
    return pair.distiller.losses(batch, pair.student(batch), context_of(batch))


def first_convolution(network: nn.Module) -> nn.Conv2d:
    return next(m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)


def shuffled(batch: Batch) -> Batch:
    """The same objects in other slots, and the positives that point to them."""
    slots = batch.boxes_cam.valid.shape[-1]
    order = torch.randperm(slots, generator=torch.Generator().manual_seed(0))
    in_cameras = {f.name: getattr(batch.boxes_cam, f.name)[:, :, order] for f in fields(Boxes3D)}
    on_ground = {f.name: getattr(batch.boxes_bev, f.name)[:, order] for f in fields(Boxes3D)}
    positives = replace(batch.positives, slot=order.argsort()[batch.positives.slot])
    return replace(
        batch,
        boxes_cam=Boxes3D(**in_cameras),
        boxes_bev=Boxes3D(**on_ground),
        positives=positives,
    )


def test_is_a_distiller(pair: Pair) -> None:
    assert isinstance(pair.distiller, Distiller)


def test_every_term_alone_reaches_the_students_first_convolution(pair: Pair) -> None:
    terms = losses(pair, pair.batch())
    assert terms
    weight = first_convolution(pair.student).weight
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, weight, retain_graph=True)
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


def test_every_weight_of_the_adapters_learns(pair: Pair) -> None:
    total = torch.stack(list(losses(pair, pair.batch()).values())).sum()
    total.backward()
    for name, weight in pair.distiller.adapters.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_the_teacher_is_left_as_it_is(pair: Pair) -> None:
    before = copy.deepcopy(pair.teacher.state_dict())
    total = torch.stack(list(losses(pair, pair.batch()).values())).sum()
    total.backward()
    assert not pair.teacher.training
    assert all(p.grad is None for p in pair.teacher.parameters())
    for name, value in pair.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    learnt = {id(p) for p in pair.distiller.adapters.parameters()}
    assert learnt.isdisjoint({id(p) for p in pair.teacher.parameters()})


def test_the_order_of_labels_does_not_matter(pair: Pair) -> None:
    batch = pair.batch()
    pair.student.eval()
    terms, others = losses(pair, batch), losses(pair, shuffled(batch))
    for name, term in terms.items():
        torch.testing.assert_close(others[name], term, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("is_labelled", [True, False])
def test_images_without_objects_give_finite_terms(pair: Pair, is_labelled: bool) -> None:
    batch = pair.batch(is_labelled=is_labelled)
    boxes = replace(batch.boxes_cam, valid=torch.zeros_like(batch.boxes_cam.valid))
    positives = replace(batch.positives, valid=torch.zeros_like(batch.positives.valid))
    terms = losses(pair, replace(batch, boxes_cam=boxes, positives=positives))
    total = torch.stack(list(terms.values())).sum()
    assert total.isfinite()
    assert total.requires_grad
    assert "object" not in terms or terms["object"].detach() == 0
    total.backward()
    assert all(p.grad.isfinite().all() for p in pair.student.parameters() if p.grad is not None)


def test_the_host_never_waits(pair: Pair) -> None:
    batch = pair.batch()
    losses(pair, batch)
    with NoHostSync():
        torch.stack(list(losses(pair, batch).values())).sum().backward()


def test_terms_do_not_depend_on_how_a_step_is_split(pair: Pair) -> None:
    """A moment with objects and one without, together and as two micro-batches."""
    pair.student.eval()
    parts = [pair.moment(0), pair.moment(1, is_labelled=False)]
    whole = pair.moments()
    together = losses(pair, whole)
    context = context_of(*parts)
    apart = [pair.distiller.losses(b, pair.student(b), context) for b in parts]
    for name, term in together.items():
        added = torch.stack([terms[name] for terms in apart]).sum()
        torch.testing.assert_close(added, term, rtol=1e-4, atol=1e-6, msg=name)


def test_the_student_is_what_it_is_without(pair: Pair) -> None:
    """Neither its weights' names nor what it says change by being taught."""
    batch = pair.batch()
    names = list(pair.student.state_dict())
    pair.student.eval()
    said = pair.student(batch)
    losses(pair, batch)
    assert list(pair.student.state_dict()) == names
    again = pair.student(replace(batch, depth_input=None))
    for name, value in said.responses.items():
        assert torch.equal(again.responses[name], value), name


def test_terms_fall_when_they_are_learnt(pair: Pair) -> None:
    """Student and adapters together come nearer to the teacher."""
    batch = pair.batch()
    learnt: list[Tensor] = [*pair.student.parameters(), *pair.distiller.adapters.parameters()]
    optimizer = torch.optim.AdamW(learnt, lr=3e-3)
    first: LossTerms = {}
    for number in range(30):
        terms = losses(pair, batch)
        if number == 0:
            first = {name: term.detach() for name, term in terms.items()}
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    for name, term in terms.items():
        assert term < 0.8 * first[name], name
