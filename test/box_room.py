# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A textured box room, ray-cast in a few lines: images whose poses and depths are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

ROOM_SIZE_M = np.array([4.0, 3.0, 2.5])
TEXEL_M = 0.02
K_33 = np.array([[125.0, 0.0, 79.5], [0.0, 125.0, 59.5], [0.0, 0.0, 1.0]])
IMAGE_SIZE = (160, 120)


def smooth_noise(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """RGB noise with detail at every scale, (3, H, W) in [0, 1]."""
    noise = torch.zeros(3, *shape)
    for octave in range(2, 7):
        coarse = [max(2, size // 2 ** octave + 1) for size in shape]
        layer = torch.rand(1, 3, *coarse, generator=generator)
        noise += torch.nn.functional.interpolate(
            layer, size=shape, mode='bicubic', align_corners=True)[0] - 0.5
    return (0.5 + 0.45 * noise).clamp(0.0, 1.0)


class BoxRoom:
    """Corner at the origin, z up; every wall, the floor and the ceiling has its own texture."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._textures = {}
        for axis in range(3):
            u, v = (a for a in range(3) if a != axis)
            shape = (int(ROOM_SIZE_M[v] / TEXEL_M), int(ROOM_SIZE_M[u] / TEXEL_M))
            for side in range(2):
                self._textures[axis, side] = smooth_noise(shape, generator)

    def render(self, T_world_camera: np.ndarray, K_33: np.ndarray = K_33,
               size: tuple[int, int] = IMAGE_SIZE) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 and depth (H, W) in metres of a camera inside."""
        x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ np.linalg.inv(K_33).T
        colours, depth = self.look(T_world_camera, rays)
        return colours.reshape(size[1], size[0], 3), depth.reshape(size[1], size[0])

    def look(self, T_world_camera: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours (N, 3) uint8 along rays (N, 3) with z = 1 of a camera, and their depth (N)."""
        directions = rays @ T_world_camera[:3, :3].T
        position = T_world_camera[:3, 3]
        with np.errstate(divide='ignore'):
            distances = np.where(directions > 0, ROOM_SIZE_M - position, position) / np.maximum(
                np.abs(directions), 1e-12)
        axes, depth = distances.argmin(axis=1), distances.min(axis=1)
        points = position + depth[:, None] * directions
        colours = np.zeros((len(rays), 3))
        for (axis, side), texture in self._textures.items():
            hit = (axes == axis) & ((directions[:, axis] > 0) == bool(side))
            u, v = (a for a in range(3) if a != axis)
            grid = points[hit][:, [u, v]] / ROOM_SIZE_M[[u, v]] * 2.0 - 1.0
            sampled = torch.nn.functional.grid_sample(
                texture[None], torch.from_numpy(grid).float()[None, None], mode='bilinear',
                padding_mode='border', align_corners=False)
            colours[hit] = sampled[0, :, 0].T.numpy()
        return (255.0 * colours + 0.5).astype(np.uint8), depth


def camera_pose(position_m: tuple[float, float, float], yaw_deg: float,
                pitch_deg: float = 0.0) -> np.ndarray:
    """Camera-to-world transform of a camera that looks along +x at yaw 0, up at positive pitch."""
    R_world_body = Rotation.from_euler('zy', [yaw_deg, -pitch_deg], degrees=True).as_matrix()
    T_world_camera = np.eye(4)
    T_world_camera[:3, :3] = R_world_body @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    T_world_camera[:3, 3] = position_m
    return T_world_camera


def sweep(count: int) -> list[np.ndarray]:
    """Poses of a camera that wanders in the room while it turns to and fro."""
    share = np.linspace(0.0, 1.0, count)
    return [camera_pose((1.2 + 0.5 * np.sin(9 * s), 1.3 + 0.6 * s, 1.2 + 0.15 * np.cos(7 * s)),
                        25.0 * np.sin(11 * s), 6.0 * np.sin(5 * s)) for s in share]


def write_box_room(root: Path, frame_count: int = 30, held_out_every: int = 6,
                   seed: int = 0) -> Path:
    """Write a scene folder; every `held_out_every`-th frame is held out."""
    room = BoxRoom(seed)
    for name in ('rgb', 'poses', 'splits'):
        (root / name).mkdir(parents=True)
    np.savetxt(root / 'K.txt', K_33)
    held_out = []
    for index, T_world_camera in enumerate(sweep(frame_count)):
        name = f'{index:04d}'
        Image.fromarray(room.render(T_world_camera)[0]).save(root / 'rgb' / f'{name}.png')
        np.savetxt(root / 'poses' / f'{name}.txt', T_world_camera)
        if index % held_out_every == held_out_every // 2:
            held_out.append(name)
    (root / 'splits' / 'standard.txt').write_text('\n'.join(held_out) + '\n')
    return root
