import pytest
import torch

from mono3d.codec.class_dims import MEAN_DIMS_HWL, mean_dims_hwl
from mono3d.codec.nuscenes_names import DETECTION_CLASSES


def test_sizes_follow_the_class_list_and_own_sizes_win() -> None:
    sizes = mean_dims_hwl(["pedestrian", "tram", "car"], {"tram": (3.4, 2.4, 30.0)})
    torch.testing.assert_close(
        sizes, torch.tensor([[1.77, 0.67, 0.73], [3.4, 2.4, 30.0], [1.74, 1.95, 4.63]])
    )
    own = mean_dims_hwl(["car"], {"car": (1.0, 2.0, 3.0)})
    assert own.tolist() == [[1.0, 2.0, 3.0]]


def test_every_class_of_the_benchmark_has_a_plausible_size() -> None:
    assert set(DETECTION_CLASSES) <= set(MEAN_DIMS_HWL)
    sizes = mean_dims_hwl(DETECTION_CLASSES, {})
    assert sizes.shape == (10, 3)
    assert (sizes > 0.3).all()
    assert (sizes < 13).all()


def test_unknown_classes_are_named() -> None:
    with pytest.raises(ValueError, match=r"no mean size is known for the classes \['tram'\]"):
        mean_dims_hwl(["car", "tram"], {})
