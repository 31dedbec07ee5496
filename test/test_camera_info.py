# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""CameraInfo to the intrinsics of its images: regions, binning, K or P, distortion."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf_transformations', reason='needs tf_transformations (or pip_overlay)')

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from implicit_relocalizer.localization.camera_check import (
    calibration_from_message,
    intrinsics_of_image,
)
from implicit_relocalizer.localization.rejection import NoPoseError, Reason

K = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
P = [400.0, 0.0, 310.0, -40.0, 0.0, 410.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
P_33 = np.reshape(P, (3, 4))[:, :3]


def info(roi: tuple[int, int, int, int] = (0, 0, 0, 0), **changes) -> CameraInfo:
    """Of a sensor of 640x480 pixels; roi is x offset, y offset, width, height."""
    x, y, width, height = roi
    return CameraInfo(**{'width': 640, 'height': 480, 'k': K, 'p': P, **changes},
                      roi=RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height))


def intrinsics(message: CameraInfo, size: tuple[int, int] = (640, 480), rectified: bool = False):
    return intrinsics_of_image(calibration_from_message(message), size, rectified)


@pytest.mark.parametrize('message', [
    info(), info(roi=(0, 0, 640, 480)), info(binning_x=0, binning_y=1), info(p=[0.0] * 12),
    info(roi=(10, 20, 0, 0)),  # a region of no pixels is none
], ids=['zeros', 'full region', 'binning 0', 'P zero', 'region without size'])
def test_what_is_the_whole_raw_image(message):
    np.testing.assert_array_equal(intrinsics(message), np.reshape(K, (3, 3)))


def test_a_rectified_image_has_the_projection_matrix():
    np.testing.assert_array_equal(intrinsics(info(), rectified=True), P_33)
    np.testing.assert_array_equal(intrinsics(info(k=[0.0] * 9), rectified=True), P_33)


@pytest.mark.parametrize(('changes', 'rectified', 'name'), [
    ({'k': [0.0] * 9}, False, 'K'), ({'p': [0.0] * 12}, True, 'P'),
    ({'k': [0.0] * 9, 'p': [0.0] * 12, 'width': 0, 'height': 0}, False, 'K'),
    ({'k': [float('nan'), *K[1:]]}, False, 'K')])
def test_a_camera_without_focal_length_is_uncalibrated(changes, rectified, name):
    with pytest.raises(NoPoseError, match=f'uncalibrated: {name} ') as caught:
        intrinsics(info(**changes), rectified=rectified)
    assert caught.value.reason is Reason.UNCALIBRATED


def test_region_and_binning_move_the_same_point_to_where_it_is_seen():
    message = info(roi=(100, 40, 320, 200), binning_x=2, binning_y=4)
    assert calibration_from_message(message).image_size == (160, 50)
    point = np.array([0.1, -0.2, 1.0])
    for rectified, whole in ((False, np.reshape(K, (3, 3))), (True, P_33)):
        u, v, _ = whole @ point
        # Pixel centres are at integers, so that an edge of the sensor is at -0.5.
        expected = [(u + 0.5 - 100) / 2 - 0.5, (v + 0.5 - 40) / 4 - 0.5, 1.0]
        np.testing.assert_allclose(intrinsics(message, (160, 50), rectified) @ point, expected)
    with pytest.raises(NoPoseError, match='640x480 pixels but its CameraInfo announces 160x50'):
        intrinsics(message)


@pytest.mark.parametrize('roi', [(1, 0, 640, 480), (0, 400, 640, 81), (640, 480, 1, 1),
                                 (0, 0, 641, 480)])
def test_a_region_outside_of_the_sensor_is_refused(roi):
    with pytest.raises(NoPoseError, match=r'region of interest .* out of its 640x480') as caught:
        calibration_from_message(info(roi=roi))
    assert caught.value.reason is Reason.RESOLUTION
    assert calibration_from_message(info(roi=(320, 240, 320, 240))).image_size == (320, 240)


@pytest.mark.parametrize(('coefficients', 'is_distorted'), [
    ([], False), ([0.0] * 5, False), ([0.0] * 8, False), ([0.0, 0.0, 0.0, 0.0, -0.01], True)])
def test_distortion_is_one_coefficient_that_is_not_zero(coefficients, is_distorted):
    message = info(d=coefficients, distortion_model='plumb_bob')
    assert calibration_from_message(message).is_distorted is is_distorted
