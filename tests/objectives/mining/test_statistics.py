import pytest
import torch
from scipy.stats import spearmanr

from mono3d.objectives.mining.statistics import mining_statistics, mining_warnings, rank_correlation
from tests.support.depth_samples import make_samples, random_samples
from tests.support.host_sync import NoHostSync

CLASSES = ("car", "pedestrian")


def by_hand() -> dict[str, float]:
    """Weights 2, 1, 1, 0 at 5, 10, 49.9 and 70 m; one padded slot that must not count."""
    samples = make_samples(
        [0.0] * 5,
        [5.0, 10.0, 49.9, 70.0, 5.0],
        labels=[0, 0, 1, 1, 0],
        valid=[True, True, True, True, False],
    )
    weights = torch.tensor([2.0, 1.0, 1.0, 0.0, 9.0])
    statistics = mining_statistics(samples, weights, CLASSES)
    return {name: float(value) for name, value in statistics.items()}


def test_values_by_hand() -> None:
    values = by_hand()
    assert values["weight_mean"] == 1.0
    # Order statistics 0, 1, 1, 2 at positions .15 and 2.85.
    assert values["weight_p05"] == pytest.approx(0.15)
    assert values["weight_p95"] == pytest.approx(1.85)
    assert values["effective_share"] == pytest.approx(16 / (4 * 6))


def test_shares_by_hand() -> None:
    values = by_hand()
    bands = ("0_10", "10_20", "20_30", "30_40", "40_50", "50_plus")
    assert [values[f"weight_share/range_{b}"] for b in bands] == [0.5, 0.25, 0.0, 0.0, 0.25, 0.0]
    assert [values[f"sample_share/range_{b}"] for b in bands] == [0.25, 0.25, 0, 0, 0.25, 0.25]
    assert values["weight_share/class_car"] == 0.75
    assert values["sample_share/class_pedestrian"] == 0.5


def test_equal_weights_have_an_effective_share_of_one_and_equal_shares() -> None:
    samples = random_samples(40)
    statistics = mining_statistics(samples, samples.valid.float(), ("a", "b", "c"))
    assert float(statistics["effective_share"]) == pytest.approx(1.0)
    for name in (name for name in statistics if name.startswith("weight_share/")):
        other = statistics[name.replace("weight_share", "sample_share")]
        assert float(statistics[name]) == pytest.approx(float(other))


@pytest.mark.parametrize("capacity", [0, 4])
def test_no_samples_give_zeros_and_no_warning(capacity: int) -> None:
    samples = random_samples(0, capacity=capacity)
    statistics = mining_statistics(samples, torch.zeros(capacity), CLASSES)
    values = {name: float(value) for name, value in statistics.items()}
    assert set(values.values()) == {0.0}
    assert mining_warnings(values, CLASSES) == []


def test_no_host_synchronisation() -> None:
    samples = random_samples(40)
    with NoHostSync():
        statistics = mining_statistics(samples, samples.valid.float(), CLASSES)
    assert all(value.shape == () for value in statistics.values())


def test_warnings_name_the_class_and_the_numbers() -> None:
    statistics = {
        "effective_share": 0.29,
        "weight_share/class_car": 0.85,
        "sample_share/class_car": 0.6,
        "weight_share/class_pedestrian": 0.15,
        "sample_share/class_pedestrian": 0.4,
    }
    assert mining_warnings(statistics, CLASSES) == [
        "mining: effective sample share 0.29 is below 0.3",
        "mining: class pedestrian has 15.0% of the weight but 40.0% of the samples",
    ]
    at_the_limits = statistics | {"effective_share": 0.3, "weight_share/class_pedestrian": 0.2}
    assert mining_warnings(at_the_limits, CLASSES) == []


def test_rank_correlation_is_spearman_s_of_the_valid_samples() -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(200, generator=random)
    b = (a + torch.randn(200, generator=random)).exp()
    valid = torch.rand(200, generator=random) < 0.7
    found = rank_correlation(torch.where(valid, a, torch.nan), b, valid)
    assert float(found) == pytest.approx(spearmanr(a[valid], b[valid]).statistic, abs=1e-6)
    assert float(rank_correlation(a, a.exp(), valid)) == pytest.approx(1.0)
    assert float(rank_correlation(a, -a, valid)) == pytest.approx(-1.0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_correlate_with_nothing(count: int) -> None:
    valid = torch.arange(4) < count
    assert float(rank_correlation(torch.arange(4.0), torch.arange(4.0), valid)) == 0


def test_rank_correlation_leaves_the_host_alone() -> None:
    with NoHostSync():
        rank_correlation(torch.arange(4.0), torch.arange(4.0), torch.ones(4, dtype=torch.bool))
