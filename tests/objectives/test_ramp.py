import pytest

from mono3d.objectives.ramp import ramp


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.0, 0.0), (1.99, 0.0), (2.0, 0.0), (3.0, 0.25), (5.0, 0.75), (6.0, 1.0), (99.0, 1.0)],
)
def test_a_part_comes_in_after_its_warm_up(progress: float, share: float) -> None:
    assert ramp(progress, warmup_epochs=2.0, ramp_epochs=4.0) == share


def test_without_epochs_a_part_is_there_at_once() -> None:
    assert ramp(0.0, warmup_epochs=0.0, ramp_epochs=0.0) == 1.0
    assert ramp(1.0, warmup_epochs=1.0, ramp_epochs=0.0) == 1.0
