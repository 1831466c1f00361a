"""GCIoU: the analysis of gradients that it rests on, each of its parts, and boxes that miss."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mono3d.objectives.losses.gciou import MAX_TAN_RAD, GciouLoss, size_error, yaw_error
from mono3d.objectives.losses.iou import BoxPairs, log_iou_loss
from tests.objectives.losses.test_iou import CAR, gradients, make_pairs, random_pairs

LENGTH, WIDTH = 3.9, 1.6
BOUNDARY = 2 * math.atan2(WIDTH, LENGTH)
"""Yaw error from which on the overlap of two such cars is a parallelogram."""

PRINTED = {  # degrees: IoU, d(1 - IoU), d(-ln), d(-ln e^(d^2)), GC with tan, GC with e^d - 1
    1: (0.976, 1.356, 1.390, 1.391, 2.392, 2.409),
    10: (0.800, 0.926, 1.158, 1.274, 2.305, 2.464),
    20: (0.663, 0.679, 1.024, 1.482, 2.614, 2.900),
    30: (0.555, 0.567, 1.021, 2.153, 3.486, 3.841),
    44: (0.419, 0.585, 1.396, 4.929, 6.862, 7.084),
    50: (0.366, 0.419, 1.146, 6.214, 8.634, 8.607),
    60: (0.310, 0.235, 0.757, 9.602, 13.6, 12.45),
    70: (0.279, 0.130, 0.466, 15.94, 24.49, 19.33),
    80: (0.263, 0.059, 0.223, 27.76, 60.92, 31.80),
    85: (0.259, 0.029, 0.110, 37.17, 168.8, 41.58),
}
"""Of a car's footprint, per radian: section 4 of the paper, worked out exactly."""


def turned_cars(degrees: list[float]) -> BoxPairs:
    """Equal cars around one centre."""
    yaw = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return make_pairs([CAR] * len(degrees), [CAR] * len(degrees), turned=yaw)


def yaw_gradient(loss: Any, degrees: list[float]) -> list[float]:
    slopes: list[float] = gradients(loss, turned_cars(degrees))["yaw"].tolist()
    return slopes


def closed_form_iou(degrees: float) -> float:
    """Two equal rectangles around one centre."""
    d = math.radians(degrees)
    if d <= BOUNDARY:
        corner = LENGTH**2 + WIDTH**2 - 2 * LENGTH * WIDTH * math.sin(d)
        area = LENGTH * WIDTH - math.tan(d / 2) * corner / (2 * math.cos(d))
    else:
        area = WIDTH**2 / math.sin(d)
    return area / (2 * LENGTH * WIDTH - area)


def test_the_closed_form_of_concentric_cars() -> None:
    degrees = [0.0, 0.5, 5.0, 20.0, 44.0, 44.7, 60.0, 89.0, 90.0]
    found = turned_cars(degrees).iou_and_union()[0]
    expected = torch.tensor([closed_form_iou(d) for d in degrees], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("column", "loss"),
    [
        (1, lambda pairs: 1 - pairs.iou_and_union()[0]),
        (2, log_iou_loss),
        (3, GciouLoss(yaw_penalty="none")),
        (4, GciouLoss(yaw_penalty="tan")),
        (5, GciouLoss(yaw_penalty="exp")),
    ],
    ids=["iou", "log_iou", "f", "tan", "exp"],
)
def test_the_gradient_table(column: int, loss: Any) -> None:
    printed = [row[column] for row in PRINTED.values()]
    assert yaw_gradient(loss, list(map(float, PRINTED))) == pytest.approx(
        printed, rel=1e-3, abs=6e-4
    )


def test_the_overlaps_of_the_gradient_table() -> None:
    found = turned_cars(list(map(float, PRINTED))).iou_and_union()[0].tolist()
    assert found == pytest.approx([row[0] for row in PRINTED.values()], abs=5.1e-4)


def test_the_paper_s_gradients_hold_where_the_overlap_is_a_parallelogram() -> None:
    # Equations 8 and 9; below the boundary they do not: they would grow without bound.
    for degrees in (46.0, 60.0, 80.0):
        iou, cot = closed_form_iou(degrees), 1 / math.tan(math.radians(degrees))
        assert yaw_gradient(log_iou_loss, [degrees]) == pytest.approx([(1 + iou) * cot])
        ours = yaw_gradient(lambda pairs: 1 - pairs.iou_and_union()[0], [degrees])
        assert ours == pytest.approx([iou * (1 + iou) * cot])
    assert yaw_gradient(log_iou_loss, [10.0])[0] < 0.2 * (1 + 0.8) / math.tan(math.radians(10.0))


def test_small_yaw_errors_keep_a_finite_slope() -> None:
    slope = (LENGTH**2 + WIDTH**2) / (2 * LENGTH * WIDTH)
    assert yaw_gradient(log_iou_loss, [1e-4]) == pytest.approx([slope], rel=1e-4)


def test_the_corrected_gradient_grows_with_the_error_and_the_plain_one_fades() -> None:
    large = [45.0, 55.0, 65.0, 75.0, 85.0]
    for penalty in ("exp", "tan"):
        slopes = yaw_gradient(GciouLoss(yaw_penalty=penalty), large)
        assert slopes == sorted(slopes)
    plain = yaw_gradient(log_iou_loss, large)
    assert plain == sorted(plain, reverse=True)


def test_the_size_gradients_of_the_paper() -> None:
    # Case (a), a parallelogram; case (b), the true box inside. The printed signs of the rows of l
    # are the other way round.
    small, large = (1.4, 1.5, 3.7), (1.6, 1.7, 4.2)
    for said, true in ((small, large), (large, small)):
        pairs = make_pairs(
            [((0.0, 0.0, 0.0), said)], [((0.0, 0.0, 0.0), true)],
            turned=torch.tensor([1.2], dtype=torch.float64),
        )  # fmt: skip
        iou, union = (value.item() for value in pairs.iou_and_union())
        said_volume, true_volume = math.prod(said), math.prod(true)
        found = gradients(lambda pairs: 1 - pairs.iou_and_union()[0], pairs)["dims_hwl"][0]
        height = (
            -iou * true_volume / (union * said[0])
            if said[0] < true[0]
            else iou * said_volume / (union * said[0])
        )
        width = -iou * true_volume / (union * said[1])
        length = iou * said_volume / (union * said[2])
        assert found.tolist() == pytest.approx([height, width, length])
    inside = make_pairs([((0.0, 0.0, 0.0), large)], [((0.0, 0.0, 0.0), small)])
    iou, union = (value.item() for value in inside.iou_and_union())
    assert union == pytest.approx(math.prod(large))
    found = gradients(lambda pairs: 1 - pairs.iou_and_union()[0], inside)["dims_hwl"][0]
    expected = [iou * math.prod(large) / (size * union) for size in large]
    assert found.tolist() == pytest.approx(expected)


def test_the_loss_by_hand() -> None:
    # Sides along each other, half a length apart: IoU 1/3. Yaw off by an eighth turn: squares.
    apart = make_pairs([((1.0, 0.0, 8.0), (1.0, 1.0, 2.0))], [((0.0, 0.0, 8.0), (1.0, 1.0, 2.0))])
    assert GciouLoss()(apart).item() == pytest.approx(math.log(3.0))
    square = ((0.0, 0.0, 8.0), (1.0, 1.0, 1.0))
    turned = make_pairs([square], [square], turned=torch.tensor([math.pi / 4], dtype=torch.float64))
    octagon = 2 * (math.sqrt(2) - 1)
    log_iou, d = math.log(octagon / (2 - octagon)), math.pi / 4
    for alpha in (1.0, 2.0, 3.0):
        expected = -log_iou * math.exp(d**alpha) + math.exp(d) - 1
        assert GciouLoss(alpha=alpha)(turned).item() == pytest.approx(expected)
    assert GciouLoss(yaw_penalty="tan")(turned).item() == pytest.approx(
        -log_iou * math.exp(d**2) + 1
    )
    assert GciouLoss(alpha=None, yaw_penalty="none")(turned).item() == pytest.approx(-log_iou)


def test_without_its_parts_it_is_the_logarithm() -> None:
    pairs = random_pairs(50, reach=1.0)
    bare = GciouLoss(alpha=None, yaw_penalty="none", rescale="off", min_iou=1e-6)
    torch.testing.assert_close(bare(pairs), log_iou_loss(pairs))


def test_half_a_turn_costs_nothing_and_all_errors_are_folded() -> None:
    degrees = [0.0, 180.0, -180.0, 360.0, 30.0, 150.0, -30.0, 210.0, 90.0, 270.0]
    folded = torch.tensor([0, 0, 0, 0, 30, 30, 30, 30, 90, 90], dtype=torch.float64).deg2rad()
    torch.testing.assert_close(yaw_error(turned_cars(degrees)), folded)
    assert GciouLoss()(turned_cars([0.0, 180.0])).abs().max() < 1e-9
    beyond = yaw_gradient(GciouLoss(), [60.0, 120.0])
    assert beyond[0] == pytest.approx(-beyond[1])


def test_tan_is_bounded_where_the_boxes_stand_across() -> None:
    assert GciouLoss(yaw_penalty="tan")(turned_cars([90.0])).item() < 100
    across = math.degrees(MAX_TAN_RAD) + 1
    assert yaw_gradient(GciouLoss(yaw_penalty="tan"), [across])[0] > 20  # that of f is still there


@pytest.mark.parametrize("reach", [0.2, 4.0], ids=["overlapping", "apart"])
def test_rescaling_changes_the_gradients_of_sizes_alone_and_by_the_union(reach: float) -> None:
    pairs = random_pairs(40, reach=reach)
    union = pairs.iou_and_union()[1]
    off = gradients(GciouLoss(rescale="off"), pairs)
    raw = gradients(GciouLoss(rescale="raw"), pairs)
    share = ((union / pairs.typical_volume) ** (2 / 3)).clamp(0.25, 4.0)
    normalised = gradients(GciouLoss(rescale="normalised"), pairs)
    for name in ("centers", "yaw"):
        torch.testing.assert_close(raw[name], off[name])
        torch.testing.assert_close(normalised[name], off[name])
    torch.testing.assert_close(raw["dims_hwl"], off["dims_hwl"] * union[:, None] ** (2 / 3))
    torch.testing.assert_close(normalised["dims_hwl"], off["dims_hwl"] * share[:, None])
    values = [GciouLoss(rescale=how)(pairs) for how in ("off", "raw", "normalised")]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_rescaling_makes_a_gradient_proportional_to_the_size() -> None:
    # Section 4.2: all sizes scaled alike, a gradient goes with 1 / s; times U^(2/3), with s.
    scaled = [
        make_pairs(
            [((0.0, 0.0, 9.0), (1.4 * k, 1.5 * k, 3.6 * k))],
            [((0.0, 0.0, 9.0), (1.5 * k, 1.6 * k, 3.9 * k))],
        )
        for k in (1, 2)
    ]
    for rescale, ratio in (("off", 0.5), ("raw", 2.0), ("normalised", 2.0)):
        loss = GciouLoss(rescale=rescale)
        typical = torch.tensor([1.5 * 1.6 * 3.9 * 4], dtype=torch.float64)
        one, two = (
            gradients(loss, replace(pairs, typical_volume=typical))["dims_hwl"] for pairs in scaled
        )
        torch.testing.assert_close(two, ratio * one)


def test_a_typical_box_that_fits_is_not_rescaled() -> None:
    pairs = make_pairs([CAR], [CAR])
    union = pairs.iou_and_union()[1]
    assert GciouLoss().size_factor(union, pairs.typical_volume).item() == pytest.approx(1.0)
    factors = GciouLoss().size_factor(torch.tensor([0.0, 1e6, 8.0]), torch.tensor([1.0, 1.0, 1.0]))
    assert factors.tolist() == pytest.approx([0.25, 4.0, 4.0])


def test_boxes_that_miss_learn_towards_the_truth_in_centre_size_and_yaw() -> None:
    # The predicted box stands too far right, is too large in all and turned by 0.4.
    pairs = make_pairs(
        [((7.0, 0.0, 20.0), (2.0, 2.0, 5.0)), ((0.0, 0.5, 29.0), (1.0, 1.0, 3.0))],
        [((0.0, 0.0, 20.0), (1.5, 1.6, 3.9))] * 2,
        turned=torch.tensor([0.4, -0.4], dtype=torch.float64),
    )
    assert pairs.iou_and_union()[0].max() < 1e-12
    found = gradients(GciouLoss(), pairs)
    assert found["centers"][0, 0] > 0
    assert found["centers"][1, 2] > 0
    assert (found["dims_hwl"][0] > 0).all()
    assert (found["dims_hwl"][1] < 0).all()
    assert found["yaw"][0] > 0 > found["yaw"][1]
    plain = gradients(log_iou_loss, pairs)
    assert all(gradient.eq(0).all() for gradient in plain.values())


def test_a_miss_by_hand() -> None:
    # 6 m apart along x: the enclosing box is 1 x 1 x 8, so 36 / 66; one length is e times too long.
    pairs = make_pairs(
        [((6.0, 0.0, 9.0), (1.0, 1.0, 2.0))], [((0.0, 0.0, 9.0), (1.0, 1.0, 2.0 / math.e))]
    )
    enclosing = 1 + 1 + (6 + 1 + 1 / math.e) ** 2
    expected = 1 + 36 / enclosing + 1 - math.log(0.01) - 1
    assert GciouLoss()(pairs).item() == pytest.approx(expected)
    assert size_error(pairs).item() == pytest.approx(1.0)


def test_losing_touch_never_lowers_the_loss_of_boxes_that_agree_in_yaw() -> None:
    offsets = torch.linspace(0, 8, 400, dtype=torch.float64).tolist()
    boxes = [((offset, 0.0, 9.0), (1.5, 1.6, 3.9)) for offset in offsets]
    losses = GciouLoss()(make_pairs(boxes, [((0.0, 0.0, 9.0), (1.5, 1.6, 3.9))] * 400))
    assert (losses.diff() > 0).all()


@pytest.mark.parametrize(
    "settings", [{"alpha": 0.5}, {"alpha": math.inf}, {"min_iou": 0.0}, {"min_iou": 1.0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"GciouLoss: {name}="):
        GciouLoss(**settings)
