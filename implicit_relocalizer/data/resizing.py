# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes whose images are made smaller while they are decoded."""

from __future__ import annotations

from dataclasses import replace

from implicit_relocalizer.data.frames import Float64Array, Frame, Lens, Scene, SceneError


def limit_width(scene: Scene, max_width: int) -> Scene:
    """The scene with images at most so wide; smaller ones stay as they are.

    Raises:
        SceneError: the limit is no sensible width.
    """
    if max_width < 16:
        raise SceneError(f'max_width = {max_width} pixels; expected at least 16')
    width, height = scene.image_size
    if width <= max_width:
        return scene
    size = (max_width, max(1, round(height * max_width / width)))
    frames = tuple(_resized(frame, scene.image_size, size) for frame in scene.frames)
    return replace(scene, frames=frames, image_size=size)


def resized_intrinsics(K_33: Float64Array, old_size: tuple[int, int], new_size: tuple[int, int],
                       ) -> Float64Array:
    """Intrinsics of an image after resizing it; pixel centres at integers."""
    K_resized_33 = K_33.copy()
    for axis in (0, 1):
        factor = new_size[axis] / old_size[axis]
        K_resized_33[axis, axis] *= factor
        K_resized_33[axis, 2] = (K_33[axis, 2] + 0.5) * factor - 0.5
    return K_resized_33


def _resized(frame: Frame, old_size: tuple[int, int], size: tuple[int, int]) -> Frame:
    lens = frame.lens or Lens('opencv', frame.K_33, (), old_size)
    # Depth no longer lies at a whole fraction of the image's pixels.
    return replace(frame, K_33=resized_intrinsics(frame.K_33, old_size, size), depth_path=None,
                   lens=replace(lens, pinhole_size=size))
