# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Does this image belong to this calibration, and can this model use it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

Size = tuple[int, int]

# Scaling an image rounds its sides to whole pixels; 1 % is one pixel in a hundred.
_MAX_ASPECT_ERROR = 0.01


@dataclass(frozen=True)
class CameraCalibration:
    """What sensor_msgs/CameraInfo says, free of ROS.

    Attributes:
        size: Width and height in pixels of the images that were calibrated, without binning.
        K_33: Intrinsics of the raw image of that size.
        P_34: Projection matrix of the rectified image of that size.
        distortion: Coefficients of the raw image; empty or all zero means none.
        binning: Sensor pixels per image pixel in x and y.
        roi_offset: Left and upper edge of the region of interest, in unbinned pixels.
        roi_size: Width and height of the region of interest, or None for the whole image.
    """

    size: Size
    K_33: NDArray[np.float64]
    P_34: NDArray[np.float64]
    distortion: tuple[float, ...] = ()
    binning: tuple[int, int] = (1, 1)
    roi_offset: tuple[int, int] = (0, 0)
    roi_size: Size | None = None

    @property
    def image_size(self) -> Size:
        """Width and height in pixels of the images that this calibration announces."""
        width, height = self.roi_size or self.size
        return width // self.binning[0], height // self.binning[1]

    @property
    def is_distorted(self) -> bool:
        """Whether straight lines in the raw image are not straight."""
        return any(coefficient != 0.0 for coefficient in self.distortion)


def calibration_from_message(info: Any) -> CameraCalibration:
    """Read a message with the fields of sensor_msgs/CameraInfo.

    In it, zero stands for no binning and no region.

    Raises:
        NoPoseError: the region of interest reaches out of the image that was calibrated.
    """
    roi = info.roi
    has_region = bool(roi.width and roi.height)
    if has_region and (roi.x_offset + roi.width > info.width or
                       roi.y_offset + roi.height > info.height):
        raise NoPoseError(
            Reason.RESOLUTION,
            f'the region of interest {roi.width}x{roi.height} at ({roi.x_offset}, '
            f'{roi.y_offset}) of the CameraInfo reaches out of its {info.width}x{info.height} '
            f'pixels; let the camera driver give the size of the whole sensor there, and the '
            f'region in unbinned pixels')
    return CameraCalibration(
        size=(info.width, info.height),
        K_33=np.array(info.k, np.float64).reshape(3, 3),
        P_34=np.array(info.p, np.float64).reshape(3, 4),
        distortion=tuple(info.d),
        binning=(max(info.binning_x, 1), max(info.binning_y, 1)),
        roi_offset=(roi.x_offset, roi.y_offset) if has_region else (0, 0),
        roi_size=(roi.width, roi.height) if has_region else None)


def intrinsics_of_image(calibration: CameraCalibration, image_size: Size,
                        rectified: bool) -> NDArray[np.float64]:
    """The 3x3 intrinsics of an image, region of interest and binning taken in.

    With pixel centres at integers, binning by b maps c to (c + 0.5) / b - 0.5.

    Args:
        calibration: From the image's camera.
        image_size: Width and height in pixels of the image.
        rectified: The image is rectified: P describes it, not K.

    Raises:
        NoPoseError: the camera is uncalibrated or the image has another size.
    """
    name, matrix = ('P', calibration.P_34) if rectified else ('K', calibration.K_33)
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0.0 or matrix[1, 1] <= 0.0:
        raise NoPoseError(
            Reason.UNCALIBRATED,
            f'the camera is uncalibrated: {name} of its CameraInfo has the focal lengths '
            f'{matrix[0, 0]:g} and {matrix[1, 1]:g}; calibrate it (camera_calibration) and give '
            f'the file to its driver')
    if image_size != calibration.image_size:
        raise NoPoseError(
            Reason.RESOLUTION,
            f'the image has {_text(image_size)} pixels but its CameraInfo announces '
            f'{_text(calibration.image_size)}; publish the CameraInfo of this resolution '
            f'(image_proc resizes both together)')
    K_33 = matrix[:3, :3].astype(np.float64)
    for axis in (0, 1):
        binning = calibration.binning[axis]
        K_33[axis, 2] = (K_33[axis, 2] - calibration.roi_offset[axis] + 0.5) / binning - 0.5
        K_33[axis, :2] /= binning
    return K_33


def check_aspect(image_size: Size, model_size: Size) -> None:
    """Check that an image is a scaled version of what the model was trained on.

    Raises:
        NoPoseError: the sides have another ratio.
    """
    ratio = image_size[0] * model_size[1] / max(image_size[1] * model_size[0], 1)
    if abs(ratio - 1.0) > _MAX_ASPECT_ERROR:
        raise NoPoseError(
            Reason.RESOLUTION,
            f'the image has {_text(image_size)} pixels but the model was trained on '
            f'{_text(model_size)}, another aspect ratio; use the camera mode of the training '
            f'images or train on this one')


def _text(size: Size) -> str:
    return f'{size[0]}x{size[1]}'
