"""IoU losses of boxes: values by hand, gradients, and that nothing makes them infinite."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mono3d.objectives.losses.gciou import GciouLoss
from mono3d.objectives.losses.iou import (
    LEAST_IOU,
    BoxPairs,
    IouLoss,
    UprightBoxes,
    center_distance,
    diou_loss,
    giou_loss,
    iou_loss,
    log_iou_loss,
    rdiou_loss,
)
from tests.support.host_sync import NoHostSync

Box = tuple[Sequence[float], Sequence[float]]
"""Centre, and height, width and length."""
CAR: Box = ((2.0, 1.0, 20.0), (1.5, 1.6, 3.9))
LOSSES: dict[str, IouLoss] = {
    "iou": iou_loss,
    "log_iou": log_iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
    "rdiou": rdiou_loss,
    "gciou": GciouLoss(),
    "gciou_tan_raw": GciouLoss(yaw_penalty="tan", rescale="raw"),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def make_pairs(
    said: Sequence[Box], true: Sequence[Box], *, turned: Tensor | float = 0.0
) -> BoxPairs:
    """Pairs in float64; true boxes have yaw 0, so that their length is along x."""
    yaw = torch.as_tensor(turned, dtype=torch.float64).expand(len(said))

    def boxes(rows: Sequence[Box], yaws: Tensor) -> UprightBoxes:
        return UprightBoxes(
            centers=torch.tensor([list(row[0]) for row in rows], dtype=torch.float64),
            dims_hwl=torch.tensor([list(row[1]) for row in rows], dtype=torch.float64),
            yaw=yaws,
        )

    volumes = [math.prod(row[1]) for row in true]
    return BoxPairs(
        said=boxes(said, yaw),
        true=boxes(true, torch.zeros_like(yaw)),
        typical_volume=torch.tensor(volumes, dtype=torch.float64),
    )


def random_pairs(count: int, *, reach: float, seed: int = 0) -> BoxPairs:
    """Cars and pedestrians off by up to `reach` of their least side, and in size and yaw."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=random, dtype=torch.float64) - 1

    classes = torch.tensor([[1.5, 1.6, 3.9], [1.7, 0.6, 0.8]], dtype=torch.float64)
    dims = classes.repeat(count, 1)[:count]
    centers, yaw = 10 * draw(count, 3), 3 * draw(count)
    offset = draw(count, 3) * reach * dims.amin(-1, keepdim=True)
    sizes = dims * (0.4 * draw(count, 3)).exp()
    return BoxPairs(
        said=UprightBoxes(centers=centers + offset, dims_hwl=sizes, yaw=yaw + 2 * draw(count)),
        true=UprightBoxes(centers=centers, dims_hwl=dims, yaw=yaw),
        typical_volume=dims[:, 0] * dims[:, 1] * dims[:, 2],
    )


def gradients(loss: IouLoss, pairs: BoxPairs) -> dict[str, Tensor]:
    """Of the summed loss on centres, sizes and yaws of the predicted boxes."""
    leaves = {name: value.clone().requires_grad_() for name, value in vars(pairs.said).items()}
    loss(replace(pairs, said=UprightBoxes(**leaves))).sum().backward()
    found = {}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        found[name] = leaf.grad
    return found


# One is 2 m long, 1 m wide and high, and half as far along x as it is long, or 6 m away.
HALF_OFF = make_pairs([((1.0, 0.0, 8.0), (1.0, 1.0, 2.0))], [((0.0, 0.0, 8.0), (1.0, 1.0, 2.0))])
AWAY = make_pairs([((6.0, 0.0, 8.0), (1.0, 1.0, 2.0))], [((0.0, 0.0, 8.0), (1.0, 1.0, 2.0))])
ACROSS = make_pairs(
    [((0.0, 0.0, 8.0), (1.0, 1.0, 2.0))], [((0.0, 0.0, 8.0), (1.0, 1.0, 2.0))], turned=math.pi / 2
)
HIGHER = make_pairs([((0.0, -0.5, 8.0), (1.0, 1.0, 2.0))], [((0.0, 0.0, 8.0), (1.0, 1.0, 2.0))])


@pytest.mark.parametrize(
    ("loss", "pairs", "value"),
    [
        # Shared 1 of 3 m³.
        (iou_loss, HALF_OFF, 2 / 3),
        (iou_loss, AWAY, 1.0),
        (iou_loss, HIGHER, 2 / 3),
        (log_iou_loss, HALF_OFF, math.log(3)),
        (log_iou_loss, AWAY, -math.log(LEAST_IOU)),
        # The box around both is 3 m long: full. Around those 6 m apart it has 8 m³, of which 4 are
        # empty. Across each other the overlap is 1 of 3 m³, and around them 4 m³, 1 of them empty.
        (giou_loss, HALF_OFF, 2 / 3),
        (giou_loss, AWAY, 1 + 4 / 8),
        (giou_loss, ACROSS, 2 / 3 + 1 / 4),
        # Squared diagonals: 1 + 1 + 9 and 1 + 1 + 64; of 1.5 m high boxes 1.5² + 1 + 4.
        (diou_loss, HALF_OFF, 2 / 3 + 1 / 11),
        (diou_loss, AWAY, 1 + 36 / 66),
        (diou_loss, HIGHER, 2 / 3 + 0.25 / 7.25),
        (diou_loss, ACROSS, 2 / 3),
        # The fourth axis adds 1² to the diagonal. Across, both are 1 apart there and share nothing;
        # the diagonal is 1 + 1 + 4 + 2².
        (rdiou_loss, HALF_OFF, 2 / 3 + 1 / 12),
        (rdiou_loss, AWAY, 1 + 36 / 67),
        (rdiou_loss, ACROSS, 1 + 1 / 10),
    ],
)
def test_values_by_hand(loss: IouLoss, pairs: BoxPairs, value: float) -> None:
    assert loss(pairs).item() == pytest.approx(value)


@every_loss
def test_a_box_in_its_place_costs_nothing_and_half_a_turn_neither(loss: IouLoss) -> None:
    there = make_pairs([CAR, CAR], [CAR, CAR], turned=torch.tensor([0.0, math.pi]))
    torch.testing.assert_close(loss(there), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-6)


@every_loss
def test_the_whole_scene_may_turn_move_and_be_mirrored(loss: IouLoss) -> None:
    pairs, cos, sin = random_pairs(30, reach=1.5), math.cos(0.7), math.sin(0.7)

    def elsewhere(boxes: UprightBoxes) -> UprightBoxes:
        x, y, z = boxes.centers.unbind(-1)
        turned = torch.stack([x * cos + z * sin + 4, y - 1, z * cos - x * sin + 9], dim=-1)
        return replace(boxes, centers=turned, yaw=boxes.yaw + 0.7)

    def mirrored(boxes: UprightBoxes) -> UprightBoxes:
        return replace(boxes, centers=boxes.centers * torch.tensor([-1, 1, 1]), yaw=-boxes.yaw)

    for moved in (elsewhere, mirrored):
        changed = replace(pairs, said=moved(pairs.said), true=moved(pairs.true))
        torch.testing.assert_close(loss(changed), loss(pairs))


@every_loss
@pytest.mark.parametrize("reach", [0.3, 3.0], ids=["overlapping", "apart"])
def test_gradients_are_those_of_the_values(loss: IouLoss, reach: float) -> None:
    if isinstance(loss, GciouLoss):  # rescaled gradients are not of the value, on purpose
        loss = replace(loss, rescale="off")
    pairs = random_pairs(6, reach=reach, seed=3)
    leaves = [value.clone().requires_grad_() for value in vars(pairs.said).values()]

    def losses(centers: Tensor, dims_hwl: Tensor, yaw: Tensor) -> Tensor:
        said = UprightBoxes(centers=centers, dims_hwl=dims_hwl, yaw=yaw)
        return loss(replace(pairs, said=said))

    assert torch.autograd.gradcheck(losses, leaves)


@pytest.mark.parametrize("kind", ["giou", "diou", "rdiou", "gciou"])
def test_a_box_that_shares_nothing_is_led_back(kind: str) -> None:
    found = gradients(LOSSES[kind], AWAY)["centers"][0]
    assert found[0] > 0
    assert found[1:].tolist() == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("kind", ["iou", "log_iou"])
def test_overlap_alone_leads_nothing_back(kind: str) -> None:
    assert all(gradient.eq(0).all() for gradient in gradients(LOSSES[kind], AWAY).values())


def degenerate() -> BoxPairs:
    """The same box, none at all, beside each other, inside, tiny, huge, and across."""
    unit, far = ((0.0, 0.0, 9.0), (1.0, 1.0, 2.0)), ((1e5, 0.0, -1e5), (1.0, 1.0, 2.0))
    empty, flat = ((0.0, 0.0, 9.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 9.0), (1.0, 0.0, 2.0))
    tiny, huge = ((0.0, 0.0, 9.0), (1e-6, 1e-6, 1e-6)), ((0.0, 0.0, 9.0), (1e4, 1e4, 1e4))
    beside = ((2.0, 0.0, 9.0), (1.0, 1.0, 2.0))
    said = [unit, empty, empty, flat, tiny, huge, beside, far, unit, unit, unit, empty]
    true = [unit, unit, empty, flat, unit, unit, unit, unit, huge, tiny, empty, tiny]
    pairs = make_pairs(said * 3, true * 3)
    yaw = torch.tensor([0.0, math.pi / 2, 0.3], dtype=torch.float64).repeat_interleave(len(said))
    return replace(pairs, said=replace(pairs.said, yaw=yaw))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_always_finite(loss: IouLoss, dtype: torch.dtype) -> None:
    pairs = degenerate()
    said, true = (
        UprightBoxes(**{name: value.to(dtype) for name, value in vars(boxes).items()})
        for boxes in (pairs.said, pairs.true)
    )
    pairs = BoxPairs(said=said, true=true, typical_volume=pairs.typical_volume.to(dtype))
    assert loss(pairs).isfinite().all()
    assert loss(pairs).dtype == dtype
    for name, gradient in gradients(loss, pairs).items():
        assert gradient.isfinite().all(), name


@every_loss
def test_no_pairs_and_any_leading_shape(loss: IouLoss) -> None:
    assert loss(random_pairs(0, reach=1.0)).shape == (0,)
    pairs = random_pairs(6, reach=1.0)

    def folded(boxes: UprightBoxes) -> UprightBoxes:
        return UprightBoxes(
            **{name: value.unflatten(0, (2, 3)) for name, value in vars(boxes).items()}
        )

    shaped = BoxPairs(
        said=folded(pairs.said),
        true=folded(pairs.true),
        typical_volume=pairs.typical_volume.view(2, 3),
    )
    assert torch.equal(loss(shaped).flatten(), loss(pairs))


@every_loss
def test_the_host_waits_for_nothing(loss: IouLoss) -> None:
    pairs = random_pairs(4, reach=1.0)
    with NoHostSync():
        gradients(loss, pairs)


def test_the_distance_of_centres_is_below_one() -> None:
    distances = center_distance(random_pairs(200, reach=50.0))
    assert distances.min() >= 0
    assert distances.max() < 1
