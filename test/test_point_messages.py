# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of points as a receiver reads them: by the message's own table of fields."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from implicit_relocalizer.ros.point_messages import points_msg

POINTS = np.random.default_rng(2).normal(size=(50, 3)) * 10.0
WEIGHTS = np.linspace(0.0, 1.0, 50)


def read(message: PointCloud2) -> np.ndarray:
    """Points as a structured array, laid out as the message says, after a journey."""
    message = deserialize_message(serialize_message(message), PointCloud2)
    assert message.height == 1 and message.row_step == message.point_step * message.width
    assert len(message.data) == message.row_step * message.height
    kinds = {PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8', PointField.UINT8: 'u1'}
    order = '>' if message.is_bigendian else '<'
    layout = np.dtype({
        'names': [field.name for field in message.fields],
        'formats': [order + kinds[field.datatype] for field in message.fields],
        'offsets': [field.offset for field in message.fields],
        'itemsize': message.point_step})
    assert all(field.count == 1 for field in message.fields)
    return np.frombuffer(message.data, layout)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_every_point_comes_with_its_weight(dtype):
    header = Header(frame_id='map')
    header.stamp.sec = 7
    message = points_msg(header, POINTS.astype(dtype), WEIGHTS.astype(dtype))
    assert message.header == header and message.is_dense
    cloud = read(message)
    assert cloud.dtype.names == ('x', 'y', 'z', 'weight')
    np.testing.assert_array_equal(np.stack([cloud['x'], cloud['y'], cloud['z']], axis=1),
                                  POINTS.astype(np.float32))
    np.testing.assert_array_equal(cloud['weight'], WEIGHTS.astype(np.float32))


def test_values_that_are_not_finite_leave_with_their_points():
    points, weights = POINTS.copy(), WEIGHTS.copy()
    points[3, 1], points[10, 2], weights[20] = np.nan, -np.inf, np.nan
    points[30, 0] = 1e300  # infinite in single precision
    message = points_msg(Header(), points, weights)
    keep = np.setdiff1d(np.arange(50), [3, 10, 20, 30])
    assert message.is_dense and message.width == 46
    np.testing.assert_array_equal(read(message)['weight'], WEIGHTS[keep].astype(np.float32))


def test_a_cloud_of_no_points_is_whole():
    for points, weights in ((POINTS[:0], WEIGHTS[:0]), (POINTS * np.nan, WEIGHTS)):
        message = points_msg(Header(), points, weights)
        assert (message.width, message.row_step, message.point_step) == (0, 0, 16)
        assert len(read(message)) == 0


@pytest.mark.parametrize(('points', 'weights'), [
    (POINTS, WEIGHTS[:49]), (POINTS[:, :2], WEIGHTS), (POINTS.T, WEIGHTS),
    (POINTS, WEIGHTS[:, None]), (POINTS[None], WEIGHTS[:1])])
def test_other_shapes_are_refused(points, weights):
    with pytest.raises(ValueError, match=r'need \(n, 3\)'):
        points_msg(Header(), points, weights)
