# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrations of a recorded camera: CameraInfo messages or a calibration file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from implicit_relocalizer.data.frames import Lens, SceneError
from implicit_relocalizer.data.lens import checked_lens
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.bag_storage import Bag, Topic
from implicit_relocalizer.data.readers.bag_tf import stamp_to_ns
from implicit_relocalizer.data.readers.bag_topics import choose_camera_info_topic

logger = logging.getLogger(__name__)

# Names of distortion models in sensor_msgs, and those that drivers made up for the same thing.
_OPENCV_MODELS = ('plumb_bob', 'rational_polynomial', 'radtan', 'radial-tangential')
_FISHEYE_MODELS = ('equidistant', 'fisheye', 'kannala_brandt', 'kannala_brandt4')


@dataclass(frozen=True)
class CameraTrack:
    """The calibrations of a recorded camera; n is 1 unless it changes (zoom, focus, mode).

    Attributes:
        stamps_ns: (n,) from when each holds.
        lenses: The n calibrations.
        source: Topic or file they are from.
    """

    stamps_ns: NDArray[np.int64]
    lenses: tuple[Lens, ...]
    source: str

    def at(self, stamp_ns: int) -> Lens:
        """The last calibration not later than an image, or the first one."""
        index = int(np.searchsorted(self.stamps_ns, stamp_ns, side='right')) - 1
        return self.lenses[max(index, 0)]


def read_cameras(bag: Bag, image_topic: Topic, options: BagOptions) -> CameraTrack:
    """The calibrations of the camera behind an image topic.

    Raises:
        SceneError: none, several to choose from, or one that cannot be used.
    """
    is_rectified = options.rectified
    if is_rectified is None:
        is_rectified = any(p.startswith('image_rect') for p in image_topic.name.split('/')[-2:])
        if is_rectified:
            logger.info('%s: %s is taken as rectified, as its name says; --no-rectified if not',
                        bag.path, image_topic.name)
    if options.camera_info_file is not None:
        lens = read_calibration_file(options.camera_info_file, is_rectified)
        return CameraTrack(np.zeros(1, np.int64), (lens,), str(options.camera_info_file))
    topic = choose_camera_info_topic(bag, options.camera_info_topic, image_topic)
    messages = [message for _, message in bag.messages([topic]) if message is not None]
    changes: list[tuple[int, Any]] = []
    previous = None
    for message in sorted(messages, key=lambda m: stamp_to_ns(m.header.stamp)):
        content = _content(message)
        if content != previous:
            changes.append((stamp_to_ns(message.header.stamp), message))
            previous = content
    if not changes:
        raise SceneError(f'{bag.path}: not one message of {topic} can be read')
    return CameraTrack(
        np.array([stamp_ns for stamp_ns, _ in changes], np.int64),
        tuple(lens_from_message(message, is_rectified, f'{bag.path}: {topic.name}')
              for _, message in changes), topic.name)


def lens_from_message(info: Any, is_rectified: bool, source: str) -> Lens:
    """The lens of the images beside a sensor_msgs/CameraInfo.

    A region of interest moves the principal point, in pixels before binning; binning by b maps
    c to (c + 0.5) / b - 0.5. Zeros in the message stand for the whole image and no binning.

    Args:
        info: The message.
        is_rectified: The images are rectified already: P describes them and no distortion.
        source: Topic or file, for messages.

    Raises:
        SceneError: uncalibrated, or distorted in a way that has no model here.
    """
    name, matrix = ('P', info.p) if is_rectified else ('K', info.k)
    K_33 = np.array(matrix, np.float64).reshape(3, -1)[:, :3].copy()
    if not np.isfinite(K_33).all() or K_33[0, 0] <= 0.0 or K_33[1, 1] <= 0.0:
        raise SceneError(
            f'{source}: the camera is uncalibrated, {name} has the focal lengths {K_33[0, 0]:g} '
            f'and {K_33[1, 1]:g}; calibrate it (`ros2 run camera_calibration cameracalibrator`) '
            f'and give the resulting YAML as --camera-info-file')
    roi = info.roi
    size = (roi.width, roi.height) if roi.width and roi.height else (info.width, info.height)
    binning = max(info.binning_x, 1), max(info.binning_y, 1)
    for axis, offset in enumerate((roi.x_offset, roi.y_offset)):
        K_33[axis, 2] = (K_33[axis, 2] - offset + 0.5) / binning[axis] - 0.5
        K_33[axis, :2] /= binning[axis]
    image_size = int(size[0] // binning[0]), int(size[1] // binning[1])
    if is_rectified:
        return checked_lens(Lens('opencv', K_33, (), image_size), source)
    model, coefficients = _distortion(info.distortion_model, tuple(map(float, info.d)), source)
    return checked_lens(Lens(model, K_33, coefficients, image_size), source)


def read_calibration_file(path: Path, is_rectified: bool) -> Lens:
    """Read the YAML file that camera_calibration writes and camera drivers load.

    Raises:
        SceneError: missing or of another kind.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SceneError(f'{path}: no such calibration file') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SceneError(f'{path}: no YAML file ({error})') from None
    try:
        K_9 = values['camera_matrix']['data']
        distortion = values.get('distortion_coefficients', {'data': []})['data']
        P_12 = values.get('projection_matrix', {'data': [0.0] * 12})['data']
        whole = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
        info = SimpleNamespace(
            width=int(values['image_width']), height=int(values['image_height']),
            k=np.array(K_9, np.float64).reshape(9), p=np.array(P_12, np.float64).reshape(12),
            d=[float(value) for value in distortion], roi=whole, binning_x=0, binning_y=0,
            distortion_model=str(values.get('distortion_model', 'plumb_bob')))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SceneError(
            f'{path}: not what camera_calibration writes ({type(error).__name__}: {error}); '
            f'expected image_width, image_height, camera_matrix: {{data: [9 numbers]}}, '
            f'distortion_model, distortion_coefficients: {{data: [...]}}') from None
    return lens_from_message(info, is_rectified, str(path))


def _content(info: Any) -> tuple[Any, ...]:
    """All of a CameraInfo but its header, to tell changes."""
    roi = info.roi
    return (info.width, info.height, info.distortion_model, tuple(info.d), tuple(info.k),
            tuple(info.p), info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width,
            roi.height)


def _distortion(name: str, coefficients: tuple[float, ...], source: str,
                ) -> tuple[Literal['opencv', 'fisheye'], tuple[float, ...]]:
    """Model and coefficients as `Lens` wants them."""
    if not np.isfinite(coefficients).all():
        raise SceneError(f'{source}: distortion coefficients {coefficients}; calibrate the camera')
    if not any(coefficients):
        # Whatever the model's name: without distortion it is a pinhole. Except the equidistant
        # one, which with zeros is the ideal fisheye.
        if name.lower() in _FISHEYE_MODELS and coefficients:
            return 'fisheye', (0.0,) * 4
        return 'opencv', ()
    model: Literal['opencv', 'fisheye']
    counts: tuple[int, ...]
    if name.lower() in _OPENCV_MODELS:
        model, counts = 'opencv', (4, 5, 8)
    elif name.lower() in _FISHEYE_MODELS:
        model, counts = 'fisheye', (4,)
    else:
        raise SceneError(
            f'{source}: distortion model {name!r} is none of '
            f'{", ".join((*_OPENCV_MODELS, *_FISHEYE_MODELS))}; rectify the images (image_proc) '
            f'and use their topic with --rectified, or give a --camera-info-file')
    if any(coefficients[counts[-1]:]):
        raise SceneError(
            f'{source}: {name} with {len(coefficients)} coefficients {coefficients}; only the '
            f'first {counts[-1]} have a meaning here (thin prisms and tilt do not), rectify the '
            f'images (image_proc) and use their topic with --rectified')
    given = coefficients[:counts[-1]]
    count = next(count for count in counts if count >= len(given))
    return model, given + (0.0,) * (count - len(given))
