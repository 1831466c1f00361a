import pytest
import torch

from mono3d.codec.bev_grid import BevGrid

# CMKD's grid of KITTI.
KITTI = BevGrid(
    x_range_m=(2.0, 46.8), y_range_m=(-30.08, 30.08), z_range_m=(-3.0, 1.0), cell_m=0.32,
    num_heights=10,
)  # fmt: skip


def test_cmkds_grid_has_the_cells_that_its_authors_name() -> None:
    assert KITTI.size == (188, 140)
    assert len(KITTI) == 188 * 140
    voxels = KITTI.voxel_centers()
    assert voxels.shape == (10, 188, 140, 3)
    torch.testing.assert_close(voxels[0, 0, 0], torch.tensor([2.16, -29.92, -2.8]))
    torch.testing.assert_close(voxels[-1, -1, -1], torch.tensor([46.64, 29.92, 0.8]))


def test_columns_run_forward_and_rows_to_the_left() -> None:
    columns_and_rows = KITTI.to_cells(torch.tensor([[2.16, -29.92], [2.48, -29.92], [2.16, -29.6]]))
    wanted = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    torch.testing.assert_close(columns_and_rows, wanted, atol=1e-4, rtol=0)


def test_middles_of_cells_are_in_their_own_cell() -> None:
    cells, inside = KITTI.nearest_cells(KITTI.cell_centers())
    assert inside.all()
    rows, columns = KITTI.size
    assert torch.equal(cells[:, 1] * columns + cells[:, 0], torch.arange(rows * columns))


@pytest.mark.parametrize(
    ("place", "cell", "is_inside"),
    [
        ((2.0, -30.08), (0, 0), True),
        ((1.99, 0.0), (0, 94), False),
        ((46.81, 30.09), (139, 187), False),
        ((46.79, 30.07), (139, 187), True),
    ],
)
def test_what_lies_outside_has_the_nearest_cell(
    place: tuple[float, float], cell: tuple[int, int], is_inside: bool
) -> None:
    found, inside = KITTI.nearest_cells(torch.tensor(place))
    assert tuple(found.tolist()) == cell
    assert bool(inside) is is_inside


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_m": 0.5}, "x_range_m=2, 46.8: is 89.6 cells of 0.5 m"),
        ({"y_range_m": (3.0, 3.0)}, "y_range_m=3, 3: is 0 cells"),
        ({"z_range_m": (1.0, -3.0)}, "z_range_m=1, -3: must rise"),
    ],
)
def test_an_impossible_grid_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BevGrid(**{**vars(KITTI), **change})
