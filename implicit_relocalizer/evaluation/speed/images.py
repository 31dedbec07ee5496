# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The images that everything is timed on: real ones of a scene, or textured noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.data.frames import Scene, SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.resizing import resized_intrinsics
from implicit_relocalizer.evaluation.locating import spread
from implicit_relocalizer.evaluation.metrics import Float64Array

Image = NDArray[np.uint8]
Size = tuple[int, int]

JPEG_QUALITY = 95
_OCTAVES = 6


@dataclass(frozen=True)
class BenchmarkImages:
    """Images of one size.

    Attributes:
        images_hw3: uint8 RGB, contiguous.
        K_n33: Intrinsics of each.
        description: Where they come from, as JSON values.
    """

    images_hw3: tuple[Image, ...]
    K_n33: tuple[Float64Array, ...]
    description: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.images_hw3)

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return self.images_hw3[0].shape[1], self.images_hw3[0].shape[0]


def scene_images(scene: Scene, split: str, count: int, size: Size) -> BenchmarkImages:
    """Held-out images of a scene, evenly spread, resized with their intrinsics.

    Raises:
        SceneError: the split holds none out, or an image cannot be read.
    """
    frames = spread(scene.split('test'), count)
    if not frames:
        raise SceneError(f'{scene.root}: holds no frames out in split {split}; times are taken '
                         f'on images that the model has not learned from')
    images, intrinsics = [], []
    for frame in frames:
        image_hw3 = read_frame_image(frame).numpy()
        old_size = image_hw3.shape[1], image_hw3.shape[0]
        images.append(resize(image_hw3, size))
        intrinsics.append(resized_intrinsics(frame.K_33, old_size, size))
    return BenchmarkImages(tuple(images), tuple(intrinsics), {
        'source': 'held-out images of a scene', 'scene': scene.name, 'split': split,
        'count': len(images), 'size': list(size)})


def noise_images(K_33: Float64Array, model_size: Size, count: int, size: Size,
                 ) -> BenchmarkImages:
    """Noise with detail at every scale, for a model whose training images had these intrinsics.

    A model finds as many keypoints in it as in a picture, but no place: the steps that search and
    refine may take longer than on an image that it knows, or less.
    """
    K_resized_33 = resized_intrinsics(K_33, model_size, size)
    generator = np.random.default_rng(0)
    images = tuple(_textured_noise(size, generator) for _ in range(count))
    return BenchmarkImages(images, (K_resized_33,) * count, {
        'source': 'textured noise', 'scene': None, 'split': None, 'count': count,
        'size': list(size)})


def _textured_noise(size: Size, generator: np.random.Generator) -> Image:
    width, height = size
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(_OCTAVES):
        shape = (max(2, height >> octave), max(2, width >> octave), 3)
        layer = generator.uniform(-1.0, 1.0, shape).astype(np.float32)
        total += cv2.resize(layer, size, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(np.clip(128.0 + 40.0 * total, 0, 255).astype(np.uint8))


def resize(image_hw3: Image, size: Size) -> Image:
    """An image of another size, without aliasing."""
    if (image_hw3.shape[1], image_hw3.shape[0]) == size:
        return np.ascontiguousarray(image_hw3)
    shrinks = size[0] < image_hw3.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_hw3, size, interpolation=interpolation), np.uint8)


def jpeg_message(image_hw3: Image) -> SimpleNamespace:
    """With the fields of a sensor_msgs/CompressedImage, as image_transport fills them."""
    bgr_hw3 = cv2.cvtColor(image_hw3, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.jpg', bgr_hw3, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError('OpenCV cannot write JPEG here; install a build that can')
    return SimpleNamespace(format='bgr8; jpeg compressed bgr8', data=data.tobytes())


def raw_message(image_hw3: Image) -> SimpleNamespace:
    """With the fields of a sensor_msgs/Image in bgr8, which most camera drivers send."""
    height, width, _ = image_hw3.shape
    return SimpleNamespace(height=height, width=width, encoding='bgr8', is_bigendian=0,
                           step=3 * width,
                           data=cv2.cvtColor(image_hw3, cv2.COLOR_RGB2BGR).tobytes())
