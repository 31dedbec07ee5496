# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Small ROS 2 bags for tests, written message by message."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

STORE = get_typestore(Stores.ROS2_HUMBLE)
OPTICAL = 'camera_optical'
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
# x forward, y left, z up to x right, y down, z forward: how cameras sit on robots.
R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def make(type_name: str, **fields: Any) -> Any:
    """A message by its type's name without `msg`, such as geometry_msgs/Point."""
    package, name = type_name.split('/')
    return STORE.types[f'{package}/msg/{name}'](**fields)


def header(stamp_ns: int, frame_id: str) -> Any:
    stamp = make('builtin_interfaces/Time', sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make('std_msgs/Header', stamp=stamp, frame_id=frame_id)


def raw_image(stamp_ns: int, pixels: np.ndarray, encoding: str = 'rgb8', padding: int = 0,
              frame_id: str = OPTICAL, is_bigendian: bool = False) -> Any:
    """Pixels (H, W[, C]) with `padding` bytes of 7 behind each row."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return make('sensor_msgs/Image', header=header(stamp_ns, frame_id), height=height, width=width,
                encoding=encoding, is_bigendian=int(is_bigendian), step=data.shape[1],
                data=data.ravel())


def compressed_image(stamp_ns: int, data: bytes, image_format: str = 'jpeg',
                     frame_id: str = OPTICAL) -> Any:
    return make('sensor_msgs/CompressedImage', header=header(stamp_ns, frame_id),
                format=image_format, data=np.frombuffer(data, np.uint8))


def camera_info(stamp_ns: int, K_33: np.ndarray, size: tuple[int, int], model: str = 'plumb_bob',
                coefficients: tuple[float, ...] = (), P_34: np.ndarray | None = None,
                binning: tuple[int, int] = (0, 0), roi: tuple[int, int, int, int] = (0, 0, 0, 0),
                ) -> Any:
    """`roi` is x offset, y offset, width, height."""
    region = make('sensor_msgs/RegionOfInterest', x_offset=roi[0], y_offset=roi[1], width=roi[2],
                  height=roi[3], do_rectify=False)
    P_34 = np.column_stack([K_33, np.zeros(3)]) if P_34 is None else P_34
    return make('sensor_msgs/CameraInfo', header=header(stamp_ns, OPTICAL), width=size[0],
                height=size[1], distortion_model=model, d=np.array(coefficients, np.float64),
                k=np.array(K_33, np.float64).ravel(), r=np.eye(3).ravel(),
                p=np.array(P_34, np.float64).ravel(), binning_x=binning[0], binning_y=binning[1],
                roi=region)


def pose(T_44: np.ndarray) -> Any:
    x, y, z = map(float, T_44[:3, 3])
    qx, qy, qz, qw = map(float, Rotation.from_matrix(T_44[:3, :3]).as_quat())
    return make('geometry_msgs/Pose', position=make('geometry_msgs/Point', x=x, y=y, z=z),
                orientation=make('geometry_msgs/Quaternion', x=qx, y=qy, z=qz, w=qw))


def pose_stamped(stamp_ns: int, T_44: np.ndarray, frame_id: str = 'map') -> Any:
    return make('geometry_msgs/PoseStamped', header=header(stamp_ns, frame_id), pose=pose(T_44))


def pose_with_covariance(stamp_ns: int, T_44: np.ndarray, frame_id: str = 'map',
                         covariance_66: np.ndarray | None = None) -> Any:
    covariance = np.zeros(36) if covariance_66 is None else np.ravel(covariance_66)
    covered = make('geometry_msgs/PoseWithCovariance', pose=pose(T_44), covariance=covariance)
    return make('geometry_msgs/PoseWithCovarianceStamped', header=header(stamp_ns, frame_id),
                pose=covered)


def odometry(stamp_ns: int, T_44: np.ndarray, frame_id: str = 'odom',
             child: str = 'base_link') -> Any:
    zero = make('geometry_msgs/Vector3', x=0.0, y=0.0, z=0.0)
    twist = make('geometry_msgs/Twist', linear=zero, angular=zero)
    return make('nav_msgs/Odometry', header=header(stamp_ns, frame_id), child_frame_id=child,
                pose=make('geometry_msgs/PoseWithCovariance', pose=pose(T_44),
                          covariance=np.zeros(36)),
                twist=make('geometry_msgs/TwistWithCovariance', twist=twist,
                           covariance=np.zeros(36)))


def diagnostics(stamp_ns: int, name: str, values: dict[str, str]) -> Any:
    """A DiagnosticArray of one status."""
    pairs = [make('diagnostic_msgs/KeyValue', key=key, value=value)
             for key, value in values.items()]
    status = make('diagnostic_msgs/DiagnosticStatus', level=0, name=name, message='',
                  hardware_id='', values=pairs)
    return make('diagnostic_msgs/DiagnosticArray', header=header(stamp_ns, ''), status=[status])


def transform(stamp_ns: int, parent: str, child: str, T_44: np.ndarray) -> Any:
    """A TFMessage of one transform."""
    given = pose(T_44)
    translation = make('geometry_msgs/Vector3', x=given.position.x, y=given.position.y,
                       z=given.position.z)
    stamped = make('geometry_msgs/TransformStamped', header=header(stamp_ns, parent),
                   child_frame_id=child, transform=make('geometry_msgs/Transform',
                                                        translation=translation,
                                                        rotation=given.orientation))
    return make('tf2_msgs/TFMessage', transforms=[stamped])


def jpeg(rgb: np.ndarray, quality: int = 90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, 'JPEG', quality=quality)
    return file.getvalue()


class BagWriter:
    """Writes a bag; `add` takes messages in any order and uses a receive time of its own, half a
    second after the header's stamp, so that a reader that takes the wrong one is caught."""

    def __init__(self, path: Path, storage: str = 'mcap') -> None:
        self.path = path
        self._writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._writer.close()

    def topic(self, name: str, type_name: str) -> Any:
        """Announce a topic; it stays empty until something is added."""
        if name not in self._connections:
            self._connections[name] = self._writer.add_connection(
                name, type_name, typestore=STORE)
        return self._connections[name]

    def add(self, topic: str, message: Any, cut_bytes: int = 0,
            delay_ns: int = 500_000_000) -> None:
        """Write a message, without its last bytes if it shall be damaged."""
        stamps = (message.transforms[0].header if hasattr(message, 'transforms')
                  else message.header).stamp
        time_ns = stamps.sec * 10**9 + stamps.nanosec + delay_ns
        cdr = bytes(STORE.serialize_cdr(message, message.__msgtype__))
        self._writer.write(self.topic(topic, message.__msgtype__), time_ns,
                           cdr[:len(cdr) - cut_bytes])
