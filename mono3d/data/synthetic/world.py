"""A synthetic world: one scene with its street, light, sensors and everything that moves in it.

World frame: x along the road where the scene's middle is, y left, z up, metres. A world knows
nothing of files: writers for any data-set format take snapshots of it.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from mono3d.data.synthetic.catalogue import ClassName
from mono3d.data.synthetic.layout import WorldObject, fill_street, poses_at
from mono3d.data.synthetic.mesh import Mesh, merge, placed
from mono3d.data.synthetic.rig import Rig, RigBuilder, rotation_ypr
from mono3d.data.synthetic.scenery import build_scenery
from mono3d.data.synthetic.shading import Light
from mono3d.data.synthetic.sites import Place
from mono3d.data.synthetic.street import Street, build_light, build_street

KEYFRAME_S = 0.5
_MAX_EGO_TRAVEL_M = 36.0
_EGO_MIDDLE_M = 1.0
"""The ego car's middle lies this far ahead of its rear axle."""
_VELOCITY_STEP_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The world at one moment.

    Attributes:
        time_s: Seconds around the middle of the scene.
        world_from_ego: Pose of the ego car.
        centers: World centres of the objects' boxes, metres.
        yaws: Their headings, radians from x to y.
        velocities: Metres per second in the world.
        light: The light of this moment.
        mesh: All quads, in the world frame.
        owners: Number of the object that each quad belongs to, 0 for scenery.
    """

    time_s: float
    world_from_ego: Float[NDArray[np.float64], "4 4"]
    centers: Float[NDArray[np.float64], "n 3"]
    yaws: Float[NDArray[np.float64], " n"]
    velocities: Float[NDArray[np.float64], "n 3"]
    light: Light
    mesh: Mesh
    owners: Int[NDArray[np.int16], " f"]


@dataclass(frozen=True, kw_only=True)
class World:
    """One scene.

    Attributes:
        street: The ground and its layout.
        light: The light at rest; clouds change it, see `snapshot`.
        rig: The sensors of the ego car.
        objects: What has labels; object i has number i + 1 in pictures, 0 is the rest.
        scenery: What has none, in the world frame.
        ego: The middle of the ego car.
        sway: Amplitudes of yaw, pitch and roll of the ego car, radians.
        times_s: Moments of the keyframes, seconds around 0.
    """

    street: Street
    light: Light
    rig: Rig
    objects: tuple[WorldObject, ...]
    scenery: Mesh
    ego: Place
    sway: Float[NDArray[np.float64], "3"]
    times_s: Float[NDArray[np.float64], " t"]

    def snapshot(self, time_s: float) -> Snapshot:
        """Everything that changes with time, at one moment."""
        centers, yaws, velocities = self._motion(time_s)
        parts = [
            placed(thing.mesh, center, yaw)
            for thing, center, yaw in zip(self.objects, centers, yaws, strict=True)
        ]
        sizes = [len(part.glow) for part in (self.scenery, *parts)]
        return Snapshot(
            time_s=time_s,
            world_from_ego=self._world_from_ego(time_s),
            centers=centers,
            yaws=yaws,
            velocities=velocities,
            light=self._light_at(time_s),
            mesh=merge([self.scenery, *parts]),
            owners=np.repeat(np.arange(len(sizes), dtype=np.int16), sizes),
        )

    def _motion(
        self, time_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Centres (n, 3), yaws (n,) and velocities (n, 3) of the objects."""
        times_s = time_s + _VELOCITY_STEP_S * np.array([-1.0, 0.0, 1.0])
        centers, yaws = np.zeros((len(self.objects), 3, 3)), np.zeros((len(self.objects), 3))
        for i, thing in enumerate(self.objects):
            centers[i], yaws[i] = poses_at(self.street, thing.place, thing.size_lwh[2], times_s)
        velocities = (centers[:, 2] - centers[:, 0]) / (2 * _VELOCITY_STEP_S)
        return centers[:, 1], yaws[:, 1], velocities

    def _world_from_ego(self, time_s: float) -> NDArray[np.float64]:
        """The ego car lies on the ground and sways on its springs."""
        terrain = self.street.terrain
        (middle,), (yaw,) = poses_at(self.street, self.ego, 0.0, np.array([time_s]))
        ahead, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        place = middle[:2] - _EGO_MIDDLE_M * ahead
        gradient = np.array([terrain.slope_x + terrain.curve * place[0], terrain.slope_y])
        swing = self.sway * np.sin(np.array([1.1, 2.3, 1.7]) * time_s + np.arange(3))
        pose = np.eye(4)
        pose[:3, :3] = rotation_ypr(
            yaw + swing[0],
            -np.arctan(gradient @ ahead) + swing[1],
            np.arctan(gradient @ left) + swing[2],
        )
        pose[:3, 3] = [*place, terrain.height(*place)]
        return pose

    def _light_at(self, time_s: float) -> Light:
        """Clouds pass before the sun, in about ten seconds."""
        sun_share = 0.85 + 0.15 * np.sin(0.6 * time_s + self.light.sun[0] * 9.0)
        red, green, blue = self.light.direct
        return self.light._replace(direct=(red * sun_share, green * sun_share, blue * sun_share))


def build_world(
    seed: np.random.SeedSequence,
    *,
    build_rig: RigBuilder,
    image_size: tuple[int, int],
    num_keyframes: int,
    promised: tuple[ClassName, ...],
    is_training: bool,
) -> World:
    """A new scene.

    Args:
        seed: Decides everything.
        build_rig: Draws the sensors.
        image_size: Width and height of the pictures, pixels.
        num_keyframes: Moments, KEYFRAME_S apart.
        promised: Classes of which at least one should be near the ego car.
        is_training: Training scenes hold more of the rare classes.
    """
    rng = np.random.default_rng(seed)
    street = build_street(rng)
    times_s = KEYFRAME_S * (np.arange(num_keyframes) - (num_keyframes - 1) / 2)
    ego = _draw_ego(street, float(np.ptp(times_s)), rng)
    light, rig = build_light(rng), build_rig(rng, image_size)
    ego = replace(ego, x=ego.x - rig.view_ahead_m)
    return World(
        street=street,
        light=light,
        rig=rig,
        objects=fill_street(street, ego, times_s, promised, is_training, rng),
        scenery=build_scenery(street, rng),
        ego=ego,
        sway=np.abs(rng.normal(0.0, (0.01, 0.012, 0.008))),
        times_s=times_s,
    )


def _draw_ego(street: Street, duration_s: float, rng: np.random.Generator) -> Place:
    """The ego car drives in some lane on the right, not so fast that it leaves the scene."""
    terrain = street.terrain
    lane = rng.integers(round(terrain.half_driven / terrain.lane)) + 0.5
    fastest = min(12.0, _MAX_EGO_TRAVEL_M / max(duration_s, KEYFRAME_S))
    return Place(
        x=float(rng.uniform(-4, 4)),
        side=-lane * terrain.lane + rng.normal(0, 0.2),
        heading=rng.normal(0, 0.02),
        speed=float(rng.uniform(0, fastest)),
    )
