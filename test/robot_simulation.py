# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A robot around the node: camera, drifting odometry, mount, and ears for all that it says."""

from __future__ import annotations

import time
import uuid
from array import array
from collections.abc import Callable, Sequence

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import (
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from robot_hearing import Heard
from robot_motion import (
    FRAMES_PER_S,
    T_BASE_MOUNT,
    T_MOUNT_OPTICAL,
    BackAndForth,
    DriftingOdometry,
)
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from implicit_relocalizer.data.frames import Float64Array, Frame
from implicit_relocalizer.data.images import read_frame_image

BASE_FRAME, CAMERA_FRAME = 'base_link', 'camera_optical_frame'
IMAGE_PERIOD_NS = round(1e9 / FRAMES_PER_S)
# Not a divisor of the image's period: stamps of images fall anywhere between those of odometry.
ODOMETRY_PERIOD_NS = round(1e9 / 31.0)
IMAGE_DELAY_NS = 15_000_000  # exposure and transport; odometry is told at once
LONGEST_SLEEP_S = 0.012
LONGEST_BACKLOG_NS = 300_000_000


class SimulatedRobot:
    """Single-threaded: camera and odometry go on while `go_on` or a call of the node waits."""

    def __init__(self, context: rclpy.Context, seed: int = 0) -> None:
        self.namespace = f'/robot_{uuid.uuid4().hex[:8]}'
        self.node = rclpy.create_node('robot', namespace=self.namespace, context=context)
        self.heard = Heard()
        self.true_T_map_camera: dict[int, Float64Array] = {}  # by the stamp of the image
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._rng = np.random.default_rng(seed)
        self.lens: Callable[[np.ndarray], np.ndarray] = np.asarray  # what it makes of the view
        self.odometry = DriftingOdometry(self._rng)
        self._way: BackAndForth | None = None
        self._messages = 0  # heard so far
        self._since_ns = 0  # what has an earlier stamp is late and not heard
        self._stands = self._camera_on = self._has_odometry = False
        self._start_ns = self._next_odometry_ns = self._next_image_ns = 0
        self._last_T_map_base: Float64Array | None = None
        self._odometry_msg: TransformStamped | None = None
        qos = QoSProfile(depth=100)
        self._images = self.node.create_publisher(Image, 'image', qos)
        self._infos = self.node.create_publisher(CameraInfo, 'camera_info', qos)
        self._tf = self.node.create_publisher(TFMessage, 'tf', qos)
        self._static_tf = self.node.create_publisher(TFMessage, 'tf_static', QoSProfile(
            depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._subscriptions = self._listen(qos)
        self._static_tf.publish(TFMessage(transforms=[
            _transform_msg(Header(frame_id=BASE_FRAME), 'camera_link', T_BASE_MOUNT),
            _transform_msg(Header(frame_id='camera_link'), CAMERA_FRAME, T_MOUNT_OPTICAL)]))

    def switch_on(self, frames: Sequence[Frame], stands: bool = False,
                  has_odometry: bool = True) -> None:
        """Begin somewhere with fresh odometry, without images; forget all before.

        Args:
            frames: The stretch to drive along, consecutive frames of one drive.
            stands: Stay at the first of them.
            has_odometry: Tell it.
        """
        self._camera_on, self._has_odometry = False, has_odometry
        self.odometry, self._odometry_msg = DriftingOdometry(self._rng), None
        self._next_odometry_ns = self._since_ns = time.time_ns()
        self.carry_to(frames, stands)
        self.forget()
        self.true_T_map_camera = {}

    def carry_to(self, frames: Sequence[Frame], stands: bool = True) -> int:
        """Lift the robot and set it down elsewhere, of which its odometry learns nothing.

        Returns:
            The stamp of the first image there, if images are on.
        """
        self._way, self._stands = BackAndForth(frames), stands
        self._start_ns = self._next_image_ns
        self._last_T_map_base = None
        return self._next_image_ns

    def forget(self) -> None:
        """Forget what was heard so far."""
        self.heard = Heard()

    def open_eyes(self) -> None:
        """Images from now on; the way begins with the first."""
        self._camera_on = True
        self._start_ns = self._next_image_ns = time.time_ns()

    def ignore_initialpose(self) -> None:
        """End that subscription, so that nobody hears of it but who the test brings."""
        self.node.destroy_subscription(self._subscriptions.pop())

    def add(self, node: Node) -> None:
        """Spin another node as well."""
        self._executor.add_node(node)

    def go_on(self, limit_s: float, until: Callable[[], bool] | None = None) -> float:
        """Drive, see and hear for some time.

        Args:
            limit_s: How long.
            until: Ends it earlier; that it never comes true is a failure.

        Returns:
            How long it was.
        """
        start_s = time.monotonic()
        while (elapsed_s := time.monotonic() - start_s) < limit_s:
            if until is not None and until():
                return elapsed_s
            self._publish_what_is_due()
            self._listen_for(LONGEST_SLEEP_S)
        assert until is None, f'waited {limit_s} s in vain'
        return elapsed_s

    def show(self, rgb_hw3: np.ndarray, stamp_ns: int | None = None) -> None:
        """Publish one image with the intrinsics of the frames, stamped now if not otherwise."""
        assert self._way is not None
        stamp = _stamp(time.time_ns() if stamp_ns is None else stamp_ns)
        header = Header(stamp=stamp, frame_id=CAMERA_FRAME)
        height, width = rgb_hw3.shape[:2]
        K_33 = self._way.frame(0).K_33
        self._infos.publish(CameraInfo(
            header=header, height=height, width=width, distortion_model='plumb_bob', d=[0.0] * 5,
            k=K_33.ravel(), r=np.eye(3).ravel(),
            p=np.hstack([K_33, np.zeros((3, 1))]).ravel()))
        self._images.publish(Image(
            header=header, height=height, width=width, encoding='rgb8', step=3 * width,
            data=array('B', rgb_hw3.tobytes())))

    def is_connected(self) -> bool:
        """Whether the node and the robot hear each other."""
        return (self._images.get_subscription_count() > 0
                and self._infos.get_subscription_count() > 0
                # ours and the node's
                and self._tf.get_subscription_count() > 1 < self.node.count_publishers('tf')
                and all(subscription.get_publisher_count() > 0
                        for subscription in self._subscriptions))

    def is_alone(self) -> bool:
        """Whether no active node is there any more."""
        return (self._images.get_subscription_count() == 0
                and self.node.count_publishers('relocalizer/pose') == 0)

    def true_T_map_base(self, stamp_ns: int) -> Float64Array:
        """Where the robot was at a time since its way began."""
        assert self._way is not None
        return self._way.T_map_base(self._steps(stamp_ns))

    def report(self) -> dict[str, str]:
        """The values of the newest diagnostics; empty before the first."""
        return self.heard.reports[-1] if self.heard.reports else {}

    def is_in(self, state: str) -> bool:
        """Whether the newest diagnostics say so."""
        return self.report().get('state') == state

    def _listen_for(self, limit_s: float) -> None:
        """Take in all of the frequent topics; an executor takes one message at a time."""
        before = -1
        while before != self._messages:
            before = self._messages
            self._executor.spin_once(limit_s)
            limit_s = 0.0

    def _publish_what_is_due(self) -> None:
        now_ns = time.time_ns()
        # What a busy machine did not let us say in time is left out, except for the latest.
        self._next_odometry_ns = max(self._next_odometry_ns, now_ns - LONGEST_BACKLOG_NS)
        missed = (now_ns - LONGEST_BACKLOG_NS - self._next_image_ns) // IMAGE_PERIOD_NS
        self._next_image_ns += max(0, missed) * IMAGE_PERIOD_NS
        while self._way is not None and self._next_odometry_ns <= now_ns:
            self._turn_wheels(self._way, self._next_odometry_ns)
            self._next_odometry_ns += ODOMETRY_PERIOD_NS
        while (self._camera_on and self._way is not None
               and self._next_image_ns + IMAGE_DELAY_NS <= now_ns):
            stamp_ns, self._next_image_ns = (self._next_image_ns,
                                             self._next_image_ns + IMAGE_PERIOD_NS)
            frame = self._way.frame(round(self._steps(stamp_ns)))
            self.true_T_map_camera[stamp_ns] = frame.T_world_camera
            self.show(self.lens(read_frame_image(frame).numpy()), stamp_ns)

    def _steps(self, time_ns: int) -> float:
        """How many frames the robot has gone since the way began."""
        if self._stands or not self._camera_on:
            return 0.0
        return max(0.0, (time_ns - self._start_ns) / IMAGE_PERIOD_NS)

    def _turn_wheels(self, way: BackAndForth, stamp_ns: int) -> None:
        T_map_base = way.T_map_base(self._steps(stamp_ns))
        before = T_map_base if self._last_T_map_base is None else self._last_T_map_base
        if T_map_base is not before or self._odometry_msg is None:
            self._odometry_msg = _transform_msg(
                Header(frame_id='odom'), BASE_FRAME,
                self.odometry.move(np.linalg.inv(before) @ T_map_base, stamp_ns))
        else:
            self.odometry.stand(stamp_ns)
        self._last_T_map_base = T_map_base
        if self._has_odometry:
            self._odometry_msg.header.stamp = _stamp(stamp_ns)
            self._tf.publish(TFMessage(transforms=[self._odometry_msg]))

    def _listen(self, qos: QoSProfile) -> list[Subscription]:
        """Subscribe to all that the node may say; returns those to what only it publishes."""
        subscribe = self.node.create_subscription
        subscribe(TFMessage, 'tf', self._on_tf, qos)
        subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos)
        return [
            subscribe(PoseStamped, 'relocalizer/pose', self._on_pose, qos),
            subscribe(PoseWithCovarianceStamped, 'relocalizer/pose_with_covariance',
                      lambda message: self._keep(message, self.heard.covariances), qos),
            subscribe(PoseWithCovarianceStamped, 'initialpose',
                      lambda message: self._keep(message, self.heard.initial_poses), qos)]

    def _on_pose(self, message: PoseStamped) -> None:
        self._messages += 1
        if self._is_of_now(message.header):
            self.heard.poses.append(message)
            self.heard.poses_ns.append(time.time_ns())

    def _keep(self, message: PoseWithCovarianceStamped,
              messages: list[PoseWithCovarianceStamped]) -> None:
        if self._is_of_now(message.header):
            messages.append(message)

    def _on_tf(self, message: TFMessage) -> None:
        self._messages += 1
        for stamped in message.transforms:
            if stamped.header.frame_id == 'map' and self._is_of_now(stamped.header):
                self.heard.transforms.append(stamped)
                self.heard.transforms_ns.append(time.time_ns())

    def _is_of_now(self, header: Header) -> bool:
        return nanoseconds(header.stamp) >= self._since_ns

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._messages += 1
        for status in message.status:
            if status.name.startswith(self.namespace + '/'):
                self.heard.reports.append({item.key: item.value for item in status.values})
                self.heard.reports_ns.append(nanoseconds(message.header.stamp))


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def _stamp(time_ns: int) -> Time:
    return Time(sec=time_ns // 10**9, nanosec=time_ns % 10**9)


def _transform_msg(header: Header, child: str, T_44: Float64Array) -> TransformStamped:
    message = TransformStamped(header=header, child_frame_id=child)
    x, y, z = T_44[:3, 3].tolist()
    qx, qy, qz, qw = Rotation.from_matrix(T_44[:3, :3]).as_quat().tolist()
    message.transform.translation = Vector3(x=x, y=y, z=z)
    message.transform.rotation = Quaternion(x=qx, y=qy, z=qz, w=qw)
    return message
