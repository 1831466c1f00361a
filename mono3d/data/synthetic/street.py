"""The street of a scene, drawn at random, and its light."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mono3d.data.synthetic.mesh import Rgb
from mono3d.data.synthetic.shading import Light, Triple
from mono3d.data.synthetic.terrain import Terrain


@dataclass(frozen=True, kw_only=True)
class Street:
    """The ground and what the sides of the street are for.

    Attributes:
        terrain: The ground.
        yards: Free depth between pavement and buildings on the left and the right, metres.
    """

    terrain: Terrain
    yards: tuple[float, float]

    def yard(self, side: int) -> float:
        """Free depth on the left (side = 1) or the right (side = -1)."""
        return self.yards[0] if side > 0 else self.yards[1]


def build_street(rng: np.random.Generator) -> Street:
    """A street with one or two lanes each way, perhaps a bend, a crossing, a crest or a dip."""
    lanes = int(rng.integers(1, 3))
    lane = rng.uniform(3.2, 3.7)
    has_crossing = rng.random() < 0.6
    terrain = Terrain(
        slope_x=rng.uniform(-0.02, 0.02),
        slope_y=rng.uniform(-0.012, 0.012),
        curve=rng.uniform(-1 / 1500, 1 / 900),
        bend=float(rng.choice([0.0, rng.uniform(-1 / 150, 1 / 150)])),
        half_road=lanes * lane + rng.uniform(2.3, 2.8),
        half_driven=lanes * lane,
        lane=lane,
        cross_x=rng.uniform(14, 38) * rng.choice([-1, 1]) if has_crossing else 1e4,
        half_cross=rng.uniform(3.4, 5.5),
        asphalt=rng.uniform(78, 112),
        paving=rng.uniform(142, 176),
        green=float(rng.random() < 0.5),
    )
    yards = rng.choice([5.0, 14.0, 22.0], 2)
    return Street(terrain=terrain, yards=(float(yards[0]), float(yards[1])))


@dataclass(frozen=True, kw_only=True)
class _Sky:
    """A kind of weather: strengths of sun and sky, and colours."""

    share: float
    direct: tuple[float, float]
    ambient: tuple[float, float]
    elevation_deg: tuple[float, float]
    warmth: float
    horizon: Rgb
    zenith: Rgb
    cloud: Rgb
    fog_m: tuple[float, float]
    grain: float


_SKIES = (
    _Sky(
        share=0.5,
        direct=(0.5, 0.75),
        ambient=(0.5, 0.65),
        elevation_deg=(28.0, 65.0),
        warmth=0.06,
        horizon=(206, 218, 230),
        zenith=(84, 138, 206),
        cloud=(248, 248, 250),
        fog_m=(220.0, 400.0),
        grain=7.0,
    ),
    _Sky(
        share=0.25,
        direct=(0.08, 0.2),
        ambient=(0.7, 0.9),
        elevation_deg=(35.0, 60.0),
        warmth=0.0,
        horizon=(196, 200, 204),
        zenith=(150, 158, 168),
        cloud=(220, 222, 226),
        fog_m=(120.0, 240.0),
        grain=8.0,
    ),
    _Sky(
        share=0.15,
        direct=(0.35, 0.5),
        ambient=(0.36, 0.48),
        elevation_deg=(10.0, 20.0),
        warmth=0.3,
        horizon=(236, 178, 132),
        zenith=(84, 98, 146),
        cloud=(228, 148, 128),
        fog_m=(160.0, 300.0),
        grain=9.0,
    ),
    _Sky(
        share=0.1,
        direct=(0.02, 0.06),
        ambient=(0.4, 0.5),
        elevation_deg=(50.0, 70.0),
        warmth=0.12,
        horizon=(52, 50, 58),
        zenith=(14, 18, 34),
        cloud=(44, 44, 54),
        fog_m=(140.0, 240.0),
        grain=10.0,
    ),
)


def build_light(rng: np.random.Generator) -> Light:
    """Sunny, overcast, dusk or night."""
    sky = _SKIES[int(rng.choice(len(_SKIES), p=[kind.share for kind in _SKIES]))]
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(*sky.elevation_deg))
    flat = np.cos(elevation)
    tint = np.array([1.0 + sky.warmth, 1.0, 1.0 - sky.warmth])
    direct, ambient = rng.uniform(*sky.direct), rng.uniform(*sky.ambient)
    return Light(
        sun=(flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)),
        direct=_triple(direct * tint),
        ambient=_triple(ambient * (0.7 + 0.3 * tint)),
        horizon=_triple(np.array(sky.horizon) * rng.uniform(0.92, 1.06)),
        zenith=_triple(np.array(sky.zenith) * rng.uniform(0.9, 1.1)),
        cloud=_triple(np.array(sky.cloud, dtype=np.float64)),
        fog_m=rng.uniform(*sky.fog_m),
        grain=sky.grain,
    )


def _triple(values: NDArray[np.float64]) -> Triple:
    red, green, blue = values.tolist()
    return (float(red), float(green), float(blue))
