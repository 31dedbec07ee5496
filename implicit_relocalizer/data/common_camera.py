# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One pinhole camera for a whole scene, whatever cameras took its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Lens, SceneError
from implicit_relocalizer.data.lens import fills, is_pinhole, needed_zoom, zoomed
from implicit_relocalizer.data.resizing import resized_intrinsics

# As for images at run time: scaling rounds the sides to whole pixels.
MAX_ASPECT_ERROR = 0.01
# A camera that sees less than the common one by more than this keeps its own focal length
# instead of narrowing the view of all others.
MAX_COMMON_NARROWING = 1.1
# Cameras that differ by less than this part of the image's width are not worth narrowing for.
EDGE_TOLERANCE = 0.01

LensKey = tuple[object, ...]


@dataclass(frozen=True)
class Pinhole:
    """What becomes of an image: its pinhole camera and the lens to resample it from, if any."""

    K_33: Float64Array
    lens: Lens | None


def common_pinhole(lenses: Sequence[Lens],
                   ) -> tuple[tuple[int, int], list[Pinhole | SceneError]]:
    """Choose the pinhole camera of a scene from the lens of each frame.

    The size is the most frequent one, the principal point that of the most frequent camera of
    this size. Its focal lengths hold too where it does not distort; otherwise, and where other
    cameras see a little less, they are scaled such that no pixel is empty.

    Returns:
        Width and height, and per frame either its pinhole or why it has none.
    """
    size = Counter(lens.image_size for lens in lenses).most_common(1)[0][0]
    keys = [lens_key(lens) for lens in lenses]
    distinct = dict(zip(keys, lenses, strict=True))
    most_used = Counter(key for key, lens in zip(keys, lenses, strict=True)
                        if lens.image_size == size).most_common(1)[0][0]
    reference = distinct[most_used]
    try:
        zoom = least = 1.0 if is_pinhole(reference) else needed_zoom(
            reference, reference.K_33, size)
    except SceneError as error:
        return size, [error for _ in lenses]
    problems: dict[LensKey, SceneError] = {}
    own: dict[LensKey, Float64Array] = {}
    for key, lens in distinct.items():
        try:
            _check_aspect(lens, size)
            tolerance_px = EDGE_TOLERANCE * lens.image_size[0]
            if key == most_used or fills(lens, zoomed(reference.K_33, zoom), size, tolerance_px):
                continue
            needed = needed_zoom(lens, reference.K_33, size, tolerance_px)
            if needed <= MAX_COMMON_NARROWING * least:
                zoom = max(zoom, needed)
            else:
                own[key] = _own_pinhole(lens, size)
        except SceneError as error:
            problems[key] = error
    K_common = zoomed(reference.K_33, zoom)
    return size, [problems.get(key) or _pinhole(lens, own.get(key, K_common), size)
                  for key, lens in zip(keys, lenses, strict=True)]


def lens_key(lens: Lens) -> LensKey:
    """The same for equal lenses."""
    return (lens.model, tuple(lens.K_33.ravel()), lens.coefficients, lens.image_size)


def _pinhole(lens: Lens, K_33: Float64Array, size: tuple[int, int]) -> Pinhole:
    if is_pinhole(lens) and lens.image_size == size and np.allclose(
            lens.K_33, K_33, rtol=0.0, atol=1e-6):
        return Pinhole(lens.K_33, None)
    return Pinhole(K_33, replace(lens, pinhole_size=None if lens.image_size == size else size))


def _own_pinhole(lens: Lens, size: tuple[int, int]) -> Float64Array:
    K_33 = resized_intrinsics(lens.K_33, lens.image_size, size)
    return K_33 if is_pinhole(lens) else zoomed(K_33, needed_zoom(lens, K_33, size))


def _check_aspect(lens: Lens, size: tuple[int, int]) -> None:
    width, height = lens.image_size
    if abs(width * size[1] / (height * size[0]) - 1.0) > MAX_ASPECT_ERROR:
        raise SceneError(f'{width}x{height} while most images of the scene are '
                         f'{size[0]}x{size[1]}, another aspect ratio')
