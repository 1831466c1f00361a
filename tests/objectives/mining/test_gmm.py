import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from mono3d.objectives.mining.depth_error import QualityMetric, depth_error
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.structures import DepthSamples
from tests.support.depth_samples import make_samples, random_samples

FULL = 2.0
NAN = float("nan")


def only(**settings: float) -> GmmMining:
    """Mining at once and with every part off but those given."""
    off = {
        "sharpness": 2.0,
        "floor": 1.0,
        "gradient_exponent": 0.0,
        "warmup_epochs": 0.0,
        "ramp_epochs": 0.0,
    }
    return GmmMining(**(off | settings))  # type: ignore[arg-type]


def weights_of(mining: GmmMining, samples: DepthSamples, progress: float = FULL) -> list[float]:
    weights: list[float] = mining.weigh(samples, mining.initial_state(), progress).weights.tolist()
    return weights


def test_errors_of_each_metric() -> None:
    # 10 m for 20 m, 30 m for 20 m, and below one metre: 0.9 m for 0.5 m.
    samples = make_samples([10.0, 30.0, 0.9], [20.0, 20.0, 0.5])
    expected: dict[QualityMetric, list[float]] = {
        "ratio": [math.log(2.0), math.log(1.5), 0.0],
        "exp_rel": [0.5, 0.5, 0.4],
        "linear": [0.5, 0.5, 0.4],
        "exp_abs": [10.0, 10.0, 0.4],
    }
    for metric, errors in expected.items():
        assert depth_error(samples, metric).tolist() == pytest.approx(errors, abs=1e-6), metric


def test_ratio_quality_is_the_overlap_of_the_two_depths() -> None:
    samples = make_samples([10.0, 30.0], [20.0, 24.0])
    quality = torch.exp(-depth_error(samples, "ratio"))
    assert quality.tolist() == pytest.approx([0.5, 0.8])


def test_quality_against_the_models_own_median() -> None:
    # Relative errors .1, .2, .4: median .2, sharpness 2, so quality is exp(-e / .4).
    samples = make_samples([11.0, 16.0, 14.0], [10.0, 20.0, 10.0])
    quality = [math.exp(-0.25), math.exp(-0.5), math.exp(-1.0)]
    expected = [3 * q / sum(quality) for q in quality]
    assert weights_of(only(floor=0.1), samples) == pytest.approx(expected, rel=1e-5)


def test_scaling_all_errors_changes_no_weight_because_the_median_follows() -> None:
    target = torch.full((5,), 20.0)
    error = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.15])
    answers = [
        weights_of(
            only(floor=0.1), make_samples((target * (1 + scale * error)).tolist(), [20.0] * 5)
        )
        for scale in (1.0, 4.0)
    ]
    assert answers[0] == pytest.approx(answers[1], rel=1e-4)


def test_fixed_typical_error_does_not_follow_the_model() -> None:
    mining = only(floor=0.1, typical_error=0.05)
    # exp(-.1 / (2 · .05)) = e⁻¹ and exp(-.05 / .1) = e^-.5.
    quality = [math.exp(-1.0), math.exp(-0.5)]
    expected = [2 * q / sum(quality) for q in quality]
    samples = make_samples([11.0, 10.5], [10.0, 10.0])
    assert weights_of(mining, samples) == pytest.approx(expected, rel=1e-4)


def test_linear_quality_falls_to_the_floor() -> None:
    # Relative errors 0, .1, .2, .3, .9, median .2, zero at .4: qualities 1, .75, .5, .25, floor .1.
    samples = make_samples([10.0, 11.0, 12.0, 13.0, 19.0], [10.0] * 5)
    quality = [1.0, 0.75, 0.5, 0.25, 0.1]
    expected = [5 * q / sum(quality) for q in quality]
    assert weights_of(replace(only(floor=0.1), metric="linear"), samples) == pytest.approx(
        expected, rel=1e-4
    )


def test_floor_bounds_the_ratio_of_weights() -> None:
    samples = make_samples([10.0, 11.0, 90.0], [10.0, 10.0, 10.0])
    weights = weights_of(only(floor=0.2), samples)
    assert weights[2] / weights[0] == pytest.approx(0.2)


def test_gradient_balance_gives_equal_pull_at_exponent_one() -> None:
    gradient = [1.0, 2.0, 4.0]
    samples = make_samples([10.0] * 3, [10.0] * 3, gradient=gradient)
    weights = weights_of(only(gradient_exponent=1.0), samples)
    pull = [w * g for w, g in zip(weights, gradient, strict=True)]
    assert pull == pytest.approx([pull[0]] * 3)


def test_gradient_balance_by_hand_at_one_half() -> None:
    # Mean gradient 2.5: factors sqrt(2.5 / 1), sqrt(2.5 / 4), whose ratio is 2.
    samples = make_samples([10.0] * 2, [10.0] * 2, gradient=[1.0, 4.0])
    assert weights_of(only(gradient_exponent=0.5), samples) == pytest.approx([4 / 3, 2 / 3])


def test_gradient_factor_is_clipped_also_at_zero_gradient() -> None:
    # Eight samples of mean gradient 2: factors 4 at gradient 0 and 0.2, 1/4 at 15.8.
    gradient = [0.0, 0.2, *[0.0] * 5, 15.8]
    samples = make_samples([10.0] * 8, [10.0] * 8, gradient=gradient)
    weights = weights_of(only(gradient_exponent=1.0), samples)
    assert weights == pytest.approx([w * 8 / 28.25 for w in (*[4.0] * 7, 0.25)])


def test_only_the_best_samples_of_an_object_keep_weight() -> None:
    samples = make_samples([11.0, 12.0, 13.0, 10.1, 30.0], [10.0] * 5, object_ids=[0, 0, 0, 1, 1])
    assert weights_of(only(keep_per_object=0.5), samples) == pytest.approx(
        [5 / 3, 5 / 3, 0.0, 5 / 3, 0.0]
    )


PARTS_ON = {"sharpness": 2.0, "floor": 0.3, "gradient_exponent": 0.5, "keep_per_object": 0.5}
PARTS_OFF = {
    "quality": {"floor": 1.0},
    "gradient": {"gradient_exponent": 0.0},
    "best of object": {"keep_per_object": 1.0},
}


def factors_by_hand(samples: DepthSamples, metric: QualityMetric) -> dict[str, Tensor]:
    """Each part of the rule alone, for samples that are all valid, with a typical error of 0.1."""
    scaled = depth_error(samples, metric) / (2.0 * 0.1)
    quality = 1 - scaled if metric == "linear" else torch.exp(-scaled)
    balance = (samples.gradient.mean() / samples.gradient).sqrt().clamp(0.25, 4.0)
    errors, ids = depth_error(samples, metric), samples.object_ids
    kept = [
        sum(bool(other < error) for other in errors[ids == number]) < (ids == number).sum() / 2
        for error, number in zip(errors, ids, strict=True)
    ]
    return {
        "quality": quality.clamp(min=0.3),
        "gradient": balance,
        "best of object": torch.tensor(kept).float(),
    }


@pytest.mark.parametrize("metric", get_args(QualityMetric))
@pytest.mark.parametrize("off", [*PARTS_OFF, "none of them"])
def test_a_part_that_is_off_takes_exactly_its_factor_out(metric: QualityMetric, off: str) -> None:
    samples = random_samples(40, capacity=40)
    parts = factors_by_hand(samples, metric)
    product = torch.stack([factor for name, factor in parts.items() if name != off]).prod(0)
    mining = GmmMining(
        metric=metric,
        typical_error=0.1,
        warmup_epochs=0.0,
        ramp_epochs=0.0,
        **(PARTS_ON | PARTS_OFF.get(off, {})),
    )
    expected = (40 * product / product.sum()).tolist()
    assert weights_of(mining, samples) == pytest.approx(expected, rel=1e-4)


def test_model_perceive_off_takes_exactly_the_running_median_out() -> None:
    """A fixed typical error equal to the median changes nothing, until the median moves."""
    first, second = random_samples(40), random_samples(40, seed=1)
    following = only(floor=0.1, median_momentum=0.5)
    state = following.weigh(first, following.initial_state(), FULL).state
    fixed = only(floor=0.1, typical_error=float(state["median_error"]))
    assert weights_of(following, first) == pytest.approx(weights_of(fixed, first), rel=1e-5)
    after = following.weigh(second, state, FULL)
    moved = only(floor=0.1, typical_error=float(after.state["median_error"]))
    assert after.weights.tolist() == pytest.approx(weights_of(moved, second), rel=1e-5)
    assert after.weights.tolist() != pytest.approx(weights_of(fixed, second), rel=1e-3)


def test_all_parts_off_is_exactly_no_mining() -> None:
    samples = random_samples(40)
    assert weights_of(only(), samples) == samples.valid.float().tolist()


def test_blend_waits_then_ramps() -> None:
    mining = GmmMining(warmup_epochs=1.0, ramp_epochs=2.0)
    assert [mining.blend(p) for p in (0.0, 0.99, 1.0, 2.0, 3.0, 50.0)] == [0, 0, 0, 0.5, 1, 1]
    at_once = GmmMining(warmup_epochs=0.0, ramp_epochs=0.0)
    assert at_once.blend(0.0) == 1.0


def test_half_way_up_the_ramp_weights_are_half_way() -> None:
    samples = random_samples(40)
    mining = GmmMining(warmup_epochs=0.0, ramp_epochs=2.0)
    full, half = weights_of(mining, samples, 2.0), weights_of(mining, samples, 1.0)
    expected = [(w + v) / 2 for w, v in zip(full, samples.valid.tolist(), strict=True)]
    assert half == pytest.approx(expected, abs=1e-6)


def test_median_state_starts_at_the_first_median_and_moves_by_its_momentum() -> None:
    mining = GmmMining(median_momentum=0.9)
    first = mining.weigh(make_samples([11.0], [10.0]), GmmMining().initial_state(), 0.0).state
    assert float(first["median_error"]) == pytest.approx(0.1, rel=1e-5)
    assert float(first["steps"]) == 1.0
    second = mining.weigh(make_samples([13.0, 13.0], [10.0, 10.0]), first, 0.0).state
    assert float(second["median_error"]) == pytest.approx(0.9 * 0.1 + 0.1 * 0.3, rel=1e-5)
    assert float(second["steps"]) == 2.0


def test_a_step_without_samples_is_not_the_first_batch() -> None:
    mining = GmmMining()
    skipped = mining.weigh(random_samples(0), GmmMining().initial_state(), 0.0).state
    first = mining.weigh(make_samples([11.0], [10.0]), skipped, 0.0).state
    assert float(skipped["steps"]) == 0.0
    assert float(first["median_error"]) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("name", ["predicted_m", "target_m", "gradient"])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_sample_that_is_not_finite_gets_no_weight_and_is_counted(name: str, value: float) -> None:
    samples = random_samples(40)
    broken = getattr(samples, name).clone()
    broken[3] = value
    answer = GmmMining().weigh(
        replace(samples, **{name: broken}), GmmMining().initial_state(), FULL
    )
    assert float(answer.weights[3]) == 0.0
    assert bool(answer.weights.isfinite().all())
    assert bool(answer.state["median_error"].isfinite())
    assert float(answer.statistics["non_finite"]) == 1.0
    assert float(answer.weights[samples.valid].mean()) == pytest.approx(1.0, abs=1e-5)


def test_nothing_finite_leaves_the_state_and_gives_zeros() -> None:
    samples = make_samples([NAN, NAN], [10.0, 10.0])
    answer = GmmMining().weigh(samples, GmmMining().initial_state(), FULL)
    assert answer.weights.tolist() == [0.0, 0.0]
    assert float(answer.state["steps"]) == 0.0


def test_statistics_name_median_state_and_blend() -> None:
    statistics = (
        GmmMining()
        .weigh(make_samples([11.0, 12.0, 18.0], [10.0] * 3), GmmMining().initial_state(), 1.25)
        .statistics
    )
    values = {name: float(value) for name, value in statistics.items()}
    assert values == pytest.approx(
        {"median_error": 0.2, "running_median_error": 0.2, "blend": 0.25, "non_finite": 0.0},
        rel=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sharpness", 0.0),
        ("sharpness", math.inf),
        ("typical_error", 0.0),
        ("floor", 1.1),
        ("keep_per_object", 0.0),
        ("gradient_exponent", -1.0),
        ("gradient_clip", 0.5),
        ("median_momentum", 1.0),
        ("warmup_epochs", -1.0),
        ("ramp_epochs", NAN),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value!r} is out of range"):
        GmmMining(**{name: value})  # type: ignore[arg-type]
