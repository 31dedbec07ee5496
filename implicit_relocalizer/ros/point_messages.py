# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Weighted points as a PointCloud2."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

_FIELDS = ('x', 'y', 'z', 'weight')
_FLOAT_BYTES = 4


def points_msg(header: Header, points_n3: NDArray[np.floating],
               weights_n: NDArray[np.floating]) -> PointCloud2:
    """An unordered, dense cloud with the float32 fields x, y, z and weight.

    Points with a value that is not finite in float32 are left out.

    Args:
        header: Frame of the points, stamp of their image.
        points_n3: (n, 3) metres.
        weights_n: (n).

    Raises:
        ValueError: the shapes are others.
    """
    if points_n3.shape != (len(weights_n), 3) or weights_n.ndim != 1:
        raise ValueError(f'points {points_n3.shape} and weights {weights_n.shape}: need (n, 3) '
                         f'and (n)')
    with np.errstate(over='ignore'):
        rows_n4 = np.column_stack([points_n3, weights_n]).astype('<f4')
    rows_n4 = rows_n4[np.isfinite(rows_n4).all(axis=1)]
    point_bytes = _FLOAT_BYTES * len(_FIELDS)
    return PointCloud2(
        header=header, height=1, width=len(rows_n4), is_bigendian=False, is_dense=True,
        fields=[PointField(name=name, offset=_FLOAT_BYTES * i, datatype=PointField.FLOAT32,
                           count=1) for i, name in enumerate(_FIELDS)],
        point_step=point_bytes, row_step=point_bytes * len(rows_n4),
        data=array('B', rows_n4.tobytes()))
