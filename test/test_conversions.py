# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to values and back, with the real message classes and the real cv_bridge."""

from array import array

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('cv_bridge', reason='needs cv_bridge (or pip_overlay)')

from cv_bridge import CvBridge
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from implicit_relocalizer.localization.estimate import PoseEstimate
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.ros.conversions import (
    calibration_from_msg,
    pose_from_estimate,
    pose_with_covariance_msg,
    rgb_from_msg,
    transform_msg,
)

RGB = np.random.default_rng(4).integers(0, 256, (11, 21, 3), np.uint8)


def image_msg(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """A message whose rows are followed by bytes that are no pixels."""
    rows = pixels.reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(width=pixels.shape[1], height=len(pixels), encoding=encoding,
                 step=padded.shape[1], data=array('B', padded.tobytes()))


@pytest.mark.parametrize('padding', [0, 1, 3, 16])
@pytest.mark.parametrize(('encoding', 'pixels', 'expected'), [
    ('rgb8', RGB, RGB),
    ('bgr8', RGB[..., ::-1], RGB),
    ('bgra8', np.dstack([RGB[..., ::-1], np.zeros((11, 21), np.uint8)]), RGB),
    ('mono8', RGB[..., 0], np.repeat(RGB[..., :1], 3, axis=2)),
])
def test_images_become_rgb_whatever_their_layout(encoding, pixels, expected, padding):
    decoded = rgb_from_msg(CvBridge(), image_msg(pixels, encoding, padding))
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.flags['C_CONTIGUOUS'] and decoded.flags['WRITEABLE']


@pytest.mark.parametrize(('changes', 'text'), [
    ({'encoding': 'klingon8'}, 'klingon8'),
    ({'encoding': '32FC1', 'step': 84, 'data': array('B', bytes(84 * 11))}, '32FC1'),
    ({'height': 12}, '693 bytes'),
    ({'width': 0}, '0x11'),
    ({'step': 21}, 'rgb8'),
    ({'step': 0}, 'rows of 0 bytes'),
])
def test_images_that_cannot_be_decoded_say_why(changes, text):
    message = image_msg(RGB, 'rgb8')
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(NoPoseError, match=text) as caught:
        rgb_from_msg(CvBridge(), message)
    assert caught.value.reason is Reason.ENCODING


def test_zero_in_a_camera_info_means_whole_image_and_no_binning():
    K = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    P = [400.0, 0.0, 310.0, 0.0, 0.0, 410.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info = CameraInfo(width=640, height=480, k=K, p=P, d=[0.0, 0.1])
    whole = calibration_from_msg(info)
    assert whole.image_size == (640, 480) and whole.is_distorted
    np.testing.assert_array_equal(whole.K_33.ravel(), K)
    np.testing.assert_array_equal(whole.P_34.ravel(), P)
    info.binning_x = info.binning_y = 2
    info.roi = RegionOfInterest(x_offset=10, y_offset=20, width=320, height=200)
    part = calibration_from_msg(info)
    assert (part.image_size, part.roi_offset, part.binning) == ((160, 100), (10, 20), (2, 2))


def test_pose_covariance_and_transform_hold_the_same_numbers():
    R = Rotation.from_euler('xyz', [170.0, -35.0, 120.0], degrees=True)
    covariance = np.arange(36.0).reshape(6, 6)
    single = R.as_matrix().astype(np.float32).astype(np.float64)  # as a model answers
    estimate = PoseEstimate(single, np.array([1.0, -2.0, 3.0]), covariance, 0.5, 0.5)
    pose = pose_from_estimate(estimate)
    q = pose.orientation
    q_xyzw = np.array([q.x, q.y, q.z, q.w])
    assert abs(np.linalg.norm(q_xyzw) - 1.0) < 1e-12
    assert (Rotation.from_quat(q_xyzw) * R.inv()).magnitude() < 1e-6
    header = Header(frame_id='map')
    header.stamp.sec = 12
    transform = transform_msg(header, pose, 'camera')
    assert transform.header == header and transform.child_frame_id == 'camera'
    assert transform.transform.rotation == q
    assert (transform.transform.translation.x, transform.transform.translation.y,
            transform.transform.translation.z) == (1.0, -2.0, 3.0)
    message = pose_with_covariance_msg(header, pose, covariance)
    np.testing.assert_array_equal(message.pose.covariance, covariance.ravel())
