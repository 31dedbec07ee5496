# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A robot whose lifecycle manager, camera, odometry and clock a test drives."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from node_nursery import ForkedNode, Nursery
from node_peer import HEIGHT, WAIT_S, WIDTH, colour_image, info
from node_services import ACTIVATE, CONFIGURE, NodeServices
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile
from rclpy.timer import Timer
from rosgraph_msgs.msg import Clock as ClockMsg
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

_CLOCK_TICK_S = 0.02


class ManagedRobot(NodeServices):
    """A node without autostart and all around it; camera and clock run while anything waits.

    Attributes:
        process: The node's.
        reports: Its diagnostics, in order.
        report_times_s: Their stamps.
        image_stamps_ns: Of the images published.
    """

    def __init__(self, nursery: Nursery, context: rclpy.Context, model: Path | str,
                 **parameters: Any) -> None:
        namespace = f'/robot_{uuid.uuid4().hex[:8]}'
        super().__init__(namespace, context)
        self.reports: list[DiagnosticStatus] = []
        self.report_times_s: list[float] = []
        self.image_stamps_ns: list[int] = []
        self.colour = (10, 20, 30)
        self.image_scale = 1
        self.camera_info = info()
        self.calibrates = True
        self.mount_m: tuple[float, float, float] | None = None  # of the camera in odom
        self.is_clock_simulated = bool(parameters.get('use_sim_time'))
        self._simulated_ns, self._speed = 0, 1.0
        self._camera: Timer | None = None
        qos = QoSProfile(depth=100)
        self._transforms = self.node.create_publisher(TFMessage, 'tf', qos)
        self.node.create_subscription(DiagnosticArray, 'diagnostics', self._on_diagnostics, qos)
        if self.is_clock_simulated:
            self._clock = self.node.create_publisher(ClockMsg, 'clock', qos)
            self._timer(_CLOCK_TICK_S, self._tick)
        # Every answer counts: no image is lost while `auto` changes the subscription, and the
        # colours' positions are as uncertain as they are.
        values = {'model': model, 'autostart': False, 'image_reliability': 'reliable',
                  'consensus_fixes': 1, 'min_confidence': 0.0, 'max_position_std_m': 0.0,
                  'announce_initialpose': False, **parameters}
        self.process: ForkedNode = nursery.start([
            '--ros-args', '-r', f'__ns:={namespace}',
            *(part for topic in ('tf', 'tf_static', 'diagnostics', 'clock')
              for part in ('-r', f'/{topic}:={topic}')),
            *(part for name, value in values.items()
              for part in ('-p', f'{name}:={_yaml(value)}'))])

    def begin(self, *transitions: int) -> ManagedRobot:
        """Wait for the node and lead it, all the way to active if nothing else is said."""
        self.await_services()
        for transition in transitions or (CONFIGURE, ACTIVATE):
            assert self.change(transition), self.process.output()
        if not transitions:
            self.connect()
        return self

    def connect(self) -> None:
        """Wait until the active node and this robot hear each other."""
        self.wait_until(lambda: self._images.get_subscription_count() == 1 and self.has_voice())
        self.spin(0.2)  # the other side may still be matching

    def has_voice(self) -> bool:
        """Whether an active node and its calibration subscription are there."""
        return (self._infos.get_subscription_count() == 1
                and self.node.count_publishers('relocalizer/pose') == 1)

    def is_watched(self) -> bool:
        """Whether the node listens to images."""
        return self._images.get_subscription_count() > 0

    # The diagnostics

    def values(self) -> dict[str, str]:
        """Of the newest diagnostics; waits for the first."""
        self.wait_until(lambda: bool(self.reports))
        return {item.key: item.value for item in self.reports[-1].values}

    def next_values(self) -> dict[str, str]:
        """Of the next diagnostics that come."""
        count = len(self.reports)
        self.wait_until(lambda: len(self.reports) > count)
        return self.values()

    def await_message(self, text: str, timeout_s: float = WAIT_S) -> dict[str, str]:
        """Wait until the newest diagnostics say so; their values."""
        self.wait_until(lambda: bool(self.reports) and self.reports[-1].message == text,
                        timeout_s)
        return self.values()

    # The camera and the clock

    def film(self, rate_hz: float) -> None:
        """Publish images of `colour` with `camera_info` from now on."""
        self.cut()
        self._camera = self._timer(1.0 / rate_hz, self._expose)

    def cut(self) -> None:
        """No more images."""
        if self._camera is not None:
            self.node.destroy_timer(self._camera)
            self._camera = None

    def remove_camera(self) -> None:
        """The camera's driver ends."""
        self.cut()
        for publisher in (self._images, self._infos):
            self.node.destroy_publisher(publisher)

    def plug_in_camera(self, qos: QoSProfile) -> None:
        """The camera's driver starts."""
        self._images = self.node.create_publisher(Image, 'image', qos)
        self._infos = self.node.create_publisher(CameraInfo, 'camera_info', qos)

    def simulate_from(self, time_ns: int, speed: float = 1.0) -> None:
        """The simulated time goes on from here; at speed 0 it stands still."""
        self._simulated_ns, self._speed = time_ns, speed

    def now_ns(self) -> int:
        """The robot's time."""
        return self._simulated_ns if self.is_clock_simulated else time.time_ns()

    def show_at(self, stamp_ns: int, colour: tuple[int, ...] | None = None) -> None:
        """One image with its calibration."""
        stamp = to_stamp(stamp_ns)
        if self.mount_m is not None:
            placed = TransformStamped(child_frame_id='lens')
            placed.header.frame_id, placed.header.stamp = 'odom', stamp
            x, y, z = self.mount_m
            placed.transform.translation.x, placed.transform.translation.y = x, y
            placed.transform.translation.z = z
            self._transforms.publish(TFMessage(transforms=[placed]))
        if self.calibrates:
            self.show_calibration(stamp_ns)
        image = colour_image(colour or self.colour, 0, self.image_scale * WIDTH,
                             self.image_scale * HEIGHT)
        image.header.stamp = stamp
        self.image_stamps_ns.append(stamp_ns)
        self._images.publish(image)

    def show_calibration(self, stamp_ns: int) -> None:
        """A CameraInfo alone."""
        self.camera_info.header.stamp = to_stamp(stamp_ns)
        self.camera_info.header.frame_id = 'lens'
        self._infos.publish(self.camera_info)

    def pose_stamps_ns(self) -> list[int]:
        """Of the poses that came."""
        return [to_ns(pose.header.stamp) for pose in self.poses]

    def await_pose(self, after_ns: int = 0, timeout_s: float = WAIT_S) -> int:
        """Wait for a pose of an image stamped later; its stamp."""
        self.wait_until(lambda: any(stamp > after_ns for stamp in self.pose_stamps_ns()),
                        timeout_s)
        return self.pose_stamps_ns()[-1]

    def _expose(self) -> None:
        self.show_at(self.now_ns())

    def _tick(self) -> None:
        self._simulated_ns += round(self._speed * _CLOCK_TICK_S * 1e9)
        self._clock.publish(ClockMsg(clock=to_stamp(self._simulated_ns)))

    def _timer(self, period_s: float, callback: Callable[[], None]) -> Any:
        return self.node.create_timer(period_s, callback,
                                      clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.reports.extend(message.status)
        self.report_times_s.append(to_ns(message.header.stamp) * 1e-9)


def to_ns(stamp: Time) -> int:
    """A stamp as one number."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def to_stamp(time_ns: int) -> Time:
    """The stamp that the number stands for."""
    return Time(sec=time_ns // 10**9, nanosec=time_ns % 10**9)


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value == '' else str(value)
