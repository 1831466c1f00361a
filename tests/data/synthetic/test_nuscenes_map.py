from pathlib import Path

import numpy as np
from nuscenes.utils.map_mask import MapMask

from mono3d.data.synthetic.nuscenes_map import MAP_M, write_map_mask
from mono3d.data.synthetic.rig import rotation_ypr
from tests.data.synthetic.test_terrain import HILLS


def test_the_devkit_finds_streets_and_pavements_on_the_mask(tmp_path: Path) -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:2, 3] = rotation_ypr(0.7, 0.0, 0.0), MAP_M / 2
    write_map_mask(tmp_path / "map.png", HILLS, pose)
    mask = MapMask(str(tmp_path / "map.png"))

    def is_on(x: float, side: float) -> bool:
        point = pose @ np.array([*HILLS.on_road(x, side), 0.0, 1.0])
        return bool(mask.is_on_mask(point[0], point[1])[0])

    # The road is 9.5 m wide on each side, the pavement 4.5 m more; a street crosses at 30 m.
    assert is_on(-20.0, 0.0)
    assert is_on(-20.0, 13.8)
    assert not is_on(-20.0, 14.3)
    assert is_on(-60.0, -13.8)
    assert is_on(30.0, 40.0)
    assert not is_on(20.0, 40.0)
