# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Was the model trained on what this scene calls its training frames?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from implicit_relocalizer.data.frames import Frame, Scene
from implicit_relocalizer.network.model_file import ModelMetadata

# Metres by which a training camera may leave the box that the metadata rounds to.
_BOUNDS_TOLERANCE_M = 1e-3
_FOCAL_TOLERANCE = 0.05


def digest_names(frames: Iterable[Frame]) -> str:
    """SHA-256 of the sorted names of frames, one a line."""
    return hashlib.sha256('\n'.join(sorted(frame.name for frame in frames)).encode()).hexdigest()


def find_doubts(metadata: ModelMetadata, scene: Scene, split: str) -> list[str]:
    """Sentences about what makes `train` and `test` mean something else than they say.

    Uses what the metadata holds: the scene's name; in `training` the keys `split`,
    `train_frames` (names) and `train_frames_sha256` (`digest_names`) where present; the bounds of
    the training positions; the intrinsics.
    """
    training = metadata.training
    doubts = []
    if metadata.scene != scene.name:
        doubts.append(f'the model was trained on scene {metadata.scene!r}, this is '
                      f'{scene.name!r}: neither column says how well it was learned')
    elif training.get('split') not in (None, split):
        doubts.append(f'the model was trained with split {training["split"]!r}, this is '
                      f'{split!r}: held-out frames may have been learned from; add --split '
                      f'{training["split"]}')
    doubts += _doubts_about_frames(metadata, scene) if metadata.scene == scene.name else []
    expected_px = metadata.K_33[0][0] * scene.image_size[0] / metadata.image_size[0]
    focal_px = float(np.median([frame.K_33[0, 0] for frame in scene.frames]))
    if abs(focal_px / expected_px - 1.0) > _FOCAL_TOLERANCE:
        doubts.append(f'the focal length is {focal_px:.0f} px where the training camera would '
                      f'have {expected_px:.0f} px: another camera, or intrinsics of another '
                      f'resolution')
    return doubts


def _doubts_about_frames(metadata: ModelMetadata, scene: Scene) -> list[str]:
    training = metadata.training
    names = training.get('train_frames')
    if isinstance(names, list):
        learned = sum(frame.name in set(names) for frame in scene.split('test'))
        return [f'{learned} of the {len(scene.split("test"))} held-out frames were learned from: '
                f'the held-out column is too good; use the split of the training'
                ] if learned else []
    digest = training.get('train_frames_sha256')
    if digest is not None:
        return [] if digest == digest_names(scene.split('train')) else [
            'the model was trained on other frames than this scene\'s training split: held-out '
            'frames may have been learned from; use the split of the training']
    positions_n3 = np.array([frame.T_world_camera[:3, 3] for frame in scene.split('train')])
    if len(positions_n3) and (
            (np.array(metadata.position_min_m) < positions_n3.min(0) - _BOUNDS_TOLERANCE_M).any()
            or (np.array(metadata.position_max_m) > positions_n3.max(0)
                + _BOUNDS_TOLERANCE_M).any()):
        return ['the model was trained on cameras outside this scene\'s training split: held-out '
                'frames may have been learned from; use the split of the training']
    return []
