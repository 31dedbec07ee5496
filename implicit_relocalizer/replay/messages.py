# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the node says, as messages without ROS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.readers.bag_storage import message_types
from implicit_relocalizer.localization.diagnostics import Status
from implicit_relocalizer.localization.map_transform import PlacedFrame
from implicit_relocalizer.localization.stamps import NS_PER_S

POSE_TYPE = 'geometry_msgs/msg/PoseStamped'
COVARIANCE_TYPE = 'geometry_msgs/msg/PoseWithCovarianceStamped'
TF_TYPE = 'tf2_msgs/msg/TFMessage'
DIAGNOSTICS_TYPE = 'diagnostic_msgs/msg/DiagnosticArray'


def pose_message(stamp_ns: int, frame_id: str, T_44: NDArray[np.float64]) -> Any:
    """PoseStamped."""
    return _make(POSE_TYPE, header=_header(stamp_ns, frame_id), pose=_pose(T_44))


def covariance_message(stamp_ns: int, frame_id: str, T_44: NDArray[np.float64],
                       covariance_66: NDArray[np.float64]) -> Any:
    """PoseWithCovarianceStamped."""
    return _make(COVARIANCE_TYPE, header=_header(stamp_ns, frame_id), pose=_make(
        'geometry_msgs/msg/PoseWithCovariance', pose=_pose(T_44),
        covariance=np.ascontiguousarray(covariance_66, np.float64).ravel()))


def transform_message(placed: PlacedFrame) -> Any:
    """TFMessage of one transform."""
    pose = _pose(placed.T_parent_child)
    position = pose.position
    translation = _make('geometry_msgs/msg/Vector3', x=position.x, y=position.y, z=position.z)
    stamped = _make(
        'geometry_msgs/msg/TransformStamped', header=_header(placed.stamp_ns, placed.parent),
        child_frame_id=placed.child, transform=_make(
            'geometry_msgs/msg/Transform', translation=translation, rotation=pose.orientation))
    return _make(TF_TYPE, transforms=[stamped])


def diagnostics_message(stamp_ns: int, status: Status) -> Any:
    """DiagnosticArray of one status."""
    values = [_make('diagnostic_msgs/msg/KeyValue', key=key, value=value)
              for key, value in status.values.items()]
    return _make(DIAGNOSTICS_TYPE, header=_header(stamp_ns, ''), status=[_make(
        'diagnostic_msgs/msg/DiagnosticStatus', level=int(status.level), name=status.name,
        message=status.message, hardware_id=status.hardware_id, values=values)])


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = _make('builtin_interfaces/msg/Time', sec=stamp_ns // NS_PER_S,
                  nanosec=stamp_ns % NS_PER_S)
    return _make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


def _pose(T_44: NDArray[np.float64]) -> Any:
    x, y, z = T_44[:3, 3].tolist()
    qx, qy, qz, qw = Rotation.from_matrix(T_44[:3, :3]).as_quat().tolist()
    return _make('geometry_msgs/msg/Pose',
                 position=_make('geometry_msgs/msg/Point', x=x, y=y, z=z),
                 orientation=_make('geometry_msgs/msg/Quaternion', x=qx, y=qy, z=qz, w=qw))


def _make(type_name: str, **fields: Any) -> Any:
    return message_types().types[type_name](**fields)
