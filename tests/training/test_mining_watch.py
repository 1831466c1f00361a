"""Warnings about mining: of an epoch's means, once an epoch."""

from mono3d.training.mining_watch import MiningWatch


def record(epoch: int, *, share_of_weight: float, effective: float = 0.9) -> dict[str, float]:
    return {
        "train/epoch": float(epoch),
        "mining/effective_share": effective,
        "mining/weight_share/class_bus": share_of_weight,
        "mining/sample_share/class_bus": 0.5,
    }


def test_an_epoch_is_judged_by_its_mean_when_the_next_begins() -> None:
    watch = MiningWatch()
    assert watch.add(record(0, share_of_weight=0.0)) == []
    assert watch.add(record(0, share_of_weight=0.3)) == []
    said = watch.add(record(1, share_of_weight=0.5))
    assert said == ["mining: class bus has 15.0% of the weight but 50.0% of the samples"]
    assert watch.close() == []
    assert watch.close() == []


def test_the_last_epoch_is_judged_at_its_end() -> None:
    watch = MiningWatch()
    watch.add(record(2, share_of_weight=0.5, effective=0.1))
    assert watch.close() == ["mining: effective sample share 0.10 is below 0.3"]


def test_records_of_evaluations_are_none_of_its_business() -> None:
    watch = MiningWatch()
    assert watch.add({"val/nuscenes_map": 0.1}) == []
    assert watch.close() == []
