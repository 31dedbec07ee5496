# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to plain values and back."""

from __future__ import annotations

import copy
from array import array

import numpy as np
from cv_bridge import CvBridge, CvBridgeError
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf_transformations import quaternion_from_matrix

from implicit_relocalizer.localization.camera_check import CameraCalibration
from implicit_relocalizer.localization.estimate import PoseEstimate
from implicit_relocalizer.localization.rejection import NoPoseError, Reason


def calibration_from_msg(info: CameraInfo) -> CameraCalibration:
    """Read a CameraInfo; in the message, zero stands for no binning and no region."""
    roi = info.roi
    return CameraCalibration(
        size=(info.width, info.height),
        K_33=np.array(info.k, np.float64).reshape(3, 3),
        P_34=np.array(info.p, np.float64).reshape(3, 4),
        distortion=tuple(info.d),
        binning=(max(info.binning_x, 1), max(info.binning_y, 1)),
        roi_offset=(roi.x_offset, roi.y_offset),
        roi_size=(roi.width, roi.height) if roi.width and roi.height else None)


def rgb_from_msg(bridge: CvBridge, image: Image) -> NDArray[np.uint8]:
    """Decode an Image of any encoding that cv_bridge knows to contiguous H x W x 3 RGB.

    Raises:
        NoPoseError: unknown encoding, or less data than the header says.
    """
    width, height, step = image.width, image.height, image.step
    if not 0 < width <= step or height == 0 or len(image.data) < step * height:
        raise NoPoseError(
            Reason.ENCODING,
            f'the image holds {len(image.data)} bytes but its header announces {width}x{height} '
            f'pixels in rows of {step} bytes; check its publisher')
    try:
        rgb = bridge.imgmsg_to_cv2(_without_padding(image), 'rgb8')
    except (CvBridgeError, TypeError, ValueError) as error:  # numpy's, for rows too short
        raise NoPoseError(
            Reason.ENCODING,
            f"an image in encoding '{image.encoding}' cannot be converted to rgb8 ({error}); let "
            f'its publisher send rgb8, bgr8 or mono8') from error
    # torch takes no read-only memory, which a view of the message would be.
    return np.require(rgb, np.uint8, ['C', 'W'])


def pose_from_estimate(estimate: PoseEstimate) -> Pose:
    """The pose of the camera's optical frame in the map, with a unit quaternion."""
    T = np.eye(4)
    T[:3, :3] = estimate.R_map_camera
    q_xyzw = np.asarray(quaternion_from_matrix(T), np.float64)
    q_xyzw /= np.linalg.norm(q_xyzw)
    x, y, z = estimate.t_map_camera_m.tolist()
    qx, qy, qz, qw = q_xyzw.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def pose_msg(header: Header, pose: Pose) -> PoseStamped:
    """A pose with its frame and the stamp of the image."""
    return PoseStamped(header=header, pose=pose)


def pose_with_covariance_msg(header: Header, pose: Pose, covariance_66: NDArray[np.float64],
                             ) -> PoseWithCovarianceStamped:
    """The same pose with its covariance, row by row."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = pose
    message.pose.covariance = np.ascontiguousarray(covariance_66, np.float64).ravel()
    return message


def transform_msg(header: Header, pose: Pose, child_frame: str) -> TransformStamped:
    """The same pose as a transform from the header's frame to the child."""
    message = TransformStamped(header=header, child_frame_id=child_frame)
    position = pose.position
    message.transform.translation = Vector3(x=position.x, y=position.y, z=position.z)
    message.transform.rotation = pose.orientation
    return message


def _without_padding(image: Image) -> Image:
    """The image without bytes behind its rows.

    cv_bridge drops padding of whole pixels only: an rgb8 image 161 pixels wide in rows of 484
    bytes would come out sheared.
    """
    row_bytes = image.width * (image.step // image.width)
    if row_bytes == image.step:
        return image
    rows = np.frombuffer(image.data, np.uint8)[:image.step * image.height]
    tight = copy.copy(image)
    tight.data = array('B', rows.reshape(image.height, image.step)[:, :row_bytes].tobytes())
    tight.step = row_bytes
    return tight
