# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A landmark model of the default kind in a second, without training: it knows what it was shown.

The room's own depth gives the points of the keypoints of a few views; other landmarks, never met,
fill the map up. Nothing but its size and its speed is that of a learned model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from box_room import BoxRoom, camera_pose
from PIL import Image

from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.keypoints import at_keypoints, look_up
from implicit_relocalizer.network.landmark_cells import cell_count
from implicit_relocalizer.network.landmarks import LandmarkHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import ModelMetadata, save_model

POSES = [camera_pose((1.2 + 0.2 * i, 1.3 + 0.1 * i, 1.2), 10.0 * i) for i in range(6)]
HELD_OUT = ('0002', '0004')
KEY_SIZE = 64


def intrinsics(size: tuple[int, int]) -> np.ndarray:
    focal_px = 0.8 * size[0]
    return np.array([[focal_px, 0.0, 0.5 * (size[0] - 1)], [0.0, focal_px, 0.5 * (size[1] - 1)],
                     [0.0, 0.0, 1.0]])


def write_room(root: Path, size: tuple[int, int]) -> Path:
    """The views as a scene folder."""
    room = BoxRoom()
    for name in ('rgb', 'poses', 'splits'):
        (root / name).mkdir(parents=True)
    np.savetxt(root / 'K.txt', intrinsics(size))
    for index, pose in enumerate(POSES):
        Image.fromarray(room.render(pose, intrinsics(size), size)[0]).save(
            root / 'rgb' / f'{index:04d}.png')
        np.savetxt(root / 'poses' / f'{index:04d}.txt', pose)
    (root / 'splits' / 'standard.txt').write_text('\n'.join(HELD_OUT) + '\n')
    return root


def write_model(path: Path, size: tuple[int, int] = (360, 240), landmarks: int = 16_000,
                asked: int = 300) -> Path:
    """A model of all views; images of `size` are what it sees and what it was shown."""
    K_33 = intrinsics(size)
    encoder = at_keypoints(build_encoder('gradient_descriptor'))
    look_up(encoder, asked)
    head = LandmarkHead(encoder.channels, KEY_SIZE, landmarks, cells=cell_count(landmarks))
    localizer = Localizer(encoder, head, size, K_33[0, 0], torch.zeros(3))
    with torch.no_grad():
        _fill(localizer, size)
    metadata = ModelMetadata('seen room', size, tuple(map(tuple, K_33.tolist())),
                             (0.0, 0.0, 0.0), (4.0, 3.0, 2.5), 'gradient_descriptor')
    save_model(torch.jit.script(localizer.eval()), path, metadata)
    return path


def _fill(localizer: Localizer, size: tuple[int, int]) -> None:
    head, room = localizer.head, BoxRoom()
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(head.projection_cd.shape, generator=generator)
    head.projection_cd.copy_(torch.linalg.qr(random)[0])
    keys = torch.nn.functional.normalize(
        torch.randn(head.keys_md.shape, generator=generator), dim=1)
    points = 3.0 * torch.rand(head.points_m3.shape, generator=generator)
    depths = torch.full_like(head.log_depth_m, 2.0, dtype=torch.float32)
    views = [_look(localizer, room, pose, size) for pose in POSES]
    head.feature_mean_c.copy_(torch.cat([features for features, _, _ in views]).mean(dim=0))
    first = 0
    for features, points_n3, depth_n in views:
        seen = slice(first, first + len(features))
        keys[seen], points[seen], depths[seen] = head.project(features), points_n3, depth_n
        first += len(features)
    head.keys_md.copy_((127.0 * keys).round())
    head.points_m3.copy_(points)
    head.log_depth_m.copy_(depths.log())
    head.arrange(generator)


def _look(localizer: Localizer, room: BoxRoom, T_world_camera: np.ndarray,
          size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of an image's keypoints, their points in the world and their depths."""
    K_33 = intrinsics(size)
    image = torch.from_numpy(room.render(T_world_camera, K_33, size)[0])
    prepared, _ = localizer.prepare(image, torch.from_numpy(K_33))
    features, pixels_1n2 = localizer.encoder.sample(prepared)
    pixels = np.column_stack([pixels_1n2[0].numpy(), np.ones(pixels_1n2.shape[1])])
    rays = pixels @ np.linalg.inv(K_33).T
    _, depth = room.look(T_world_camera, rays)
    points = (rays * depth[:, None]) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
    return features[0], torch.from_numpy(points).float(), torch.from_numpy(depth).float()
