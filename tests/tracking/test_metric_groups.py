from mono3d.tracking.metric_groups import CORE_METRICS, grouped


def test_core_metrics_of_both_benchmarks_get_short_names() -> None:
    metrics = {
        "val/nuscenes_map": 0.25,
        "val/nuscenes_nds": 0.5,
        "val/kitti_Car_3d_moderate": 12.5,
        "val/centers_depth_abs_rel": 0.125,
        "val/matched_depth_abs_rel": 0.0625,
        "val/matched_depth_recall": 0.75,
    }
    assert grouped(metrics) == {
        "core/mAP": 0.25,
        "core/NDS": 0.5,
        "core/kitti_Car_3d_moderate": 12.5,
        "core/depth_error": 0.125,
        "core/matched_error": 0.0625,
        "core/recall": 0.75,
    }
    assert set(grouped(metrics)) <= set(CORE_METRICS)


def test_bands_are_in_the_alphabet_from_near_to_far() -> None:
    bands = ["0_10m", "10_20m", "20_30m", "50m_up", "100_120m"]
    metrics = {f"val/centers_depth_abs_rel_{band}": float(i) for i, band in enumerate(bands)}
    names = grouped(metrics)
    assert list(names)[:4] == sorted(list(names)[:4])
    assert names["depth_by_range/00_10m"] == 0.0
    assert names["depth_by_range/50m_up"] == 3.0
    assert names["depth_by_range/100_120m"] == 4.0


def test_other_cells_are_classes() -> None:
    metrics = {
        "val/centers_depth_abs_rel_car": 0.1,
        "val/centers_depth_abs_rel_traffic_cone": 0.2,
        "val/centers_depth_abs_rel_visible_0_40": 0.3,
    }
    assert grouped(metrics) == {"depth_by_class/car": 0.1, "depth_by_class/traffic_cone": 0.2}


def test_nothing_else_is_named_twice() -> None:
    others = (
        "loss/depth", "train/lr", "system/cpu_utilization_percentage", "val/centers_depth_rmse",
        "val/centers_depth_rmse_0_10m", "val/matched_depth_abs_rel_0_10m", "val/nuscenes_car_ap",
        "val/front/centers_depth_abs_rel", "val/front/nuscenes_map",
    )  # fmt: skip
    assert grouped(dict.fromkeys(others, 1.0)) == {}
    assert grouped({}) == {}
