# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`relocalizer`: a pose for the newest camera image, again and again."""

from __future__ import annotations

import signal
import sys
import threading
import time

import numpy as np
import rclpy
from cv_bridge import CvBridge
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster

from implicit_relocalizer.localization.camera_check import check_aspect, intrinsics_of_image
from implicit_relocalizer.localization.estimate import PoseEstimate, check_estimate
from implicit_relocalizer.localization.model_runner import (
    ModelRunner,
    choose_device,
    describe_accuracy,
    limit_threads,
)
from implicit_relocalizer.localization.newest_slot import NewestSlot
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.statistics import RunStatistics, Throttle
from implicit_relocalizer.network.model_file import ModelFileError
from implicit_relocalizer.ros.conversions import (
    calibration_from_msg,
    pose_from_estimate,
    pose_msg,
    pose_with_covariance_msg,
    rgb_from_msg,
    transform_msg,
)
from implicit_relocalizer.ros.image_subscription import ImageSubscription
from implicit_relocalizer.ros.parameters import (
    ParameterError,
    declare_parameters,
    read_parameters,
)

_WARNING_PERIOD_S = 5.0
_SUMMARY_PERIOD_S = 60.0
# The first image may arrive just before the CameraInfo that was published with it.
_CAMERA_INFO_PATIENCE_S = 0.5
_JOIN_TIMEOUT_S = 10.0
_SPIN_LIMIT_S = 0.5


class RelocalizerNode(Node):
    """Answers the newest image on a thread of its own; callbacks only store messages."""

    def __init__(self) -> None:
        """Declare and read the parameters.

        Raises:
            ParameterError, ParameterException: a value is refused.
        """
        super().__init__('relocalizer')
        declare_parameters(self)
        self._settings = read_parameters(self)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self.statistics = RunStatistics()
        self.failed = False
        self._images: NewestSlot[Image] = NewestSlot()
        self._camera_info: CameraInfo | None = None
        self._camera_info_came = threading.Event()
        self._answered_stamp: tuple[int, int] | None = None
        self._warnings = Throttle(_WARNING_PERIOD_S)
        self._summaries = Throttle(_SUMMARY_PERIOD_S)
        self._worker = threading.Thread(target=self._work, name='inference', daemon=True)
        self._bridge = CvBridge()

    def configure(self) -> None:
        """Load the model and warm it up.

        Raises:
            ModelFileError: the model cannot be used here.
        """
        limit_threads(self._settings.num_threads)
        runner = ModelRunner(self._settings.model, choose_device(self._settings.device))
        self.get_logger().info(
            f"model {runner.path} of scene '{runner.metadata.scene}' on {runner.device}; "
            f'{describe_accuracy(runner.metadata)}')
        durations_s = runner.warm_up()
        self.get_logger().info(
            f'warmed up by {len(durations_s)} calls, the last of {1e3 * durations_s[-1]:.0f} ms')
        self._runner = runner

    def activate(self) -> None:
        """Start to answer."""
        self._pose_publisher = self.create_publisher(PoseStamped, '~/pose', 1)
        self._covariance_publisher = self.create_publisher(
            PoseWithCovarianceStamped, '~/pose_with_covariance', 1)
        self._broadcaster = TransformBroadcaster(self)
        self._worker.start()
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._info_subscription = self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera_info, best_effort)
        self._image_subscription = ImageSubscription(
            self, self._settings.image_reliability, self._on_image)
        self.get_logger().info(
            f"ready: images from '{self._image_subscription.topic_name}', calibration from "
            f"'{self._info_subscription.topic_name}'")

    @property
    def was_active(self) -> bool:
        """Whether it ever answered images."""
        return self._worker.ident is not None

    def stop(self) -> None:
        """End the thread; an inference that is under way is waited for."""
        self._images.close()
        self._camera_info_came.set()
        if self._worker.is_alive():
            self._worker.join(_JOIN_TIMEOUT_S)

    def _on_parameters_set(self, _: list[Parameter]) -> None:
        self._settings = read_parameters(self)

    def _on_image(self, image: Image) -> None:
        self.statistics.received += 1
        self.statistics.superseded += self._images.put(image)

    def _on_camera_info(self, info: CameraInfo) -> None:
        self._camera_info = info
        self._camera_info_came.set()

    def _work(self) -> None:
        started_s = 0.0
        while True:
            rate_hz = self._settings.max_rate_hz
            image = self._images.take(started_s + 1.0 / rate_hz if rate_hz else 0.0)
            if image is None:
                return
            started_s = time.monotonic()
            try:
                self._answer(image)
            except NoPoseError as error:
                self._report_rejection(error)
            except Exception:
                if not self.context.ok():
                    return  # Publishers refuse once the program was told to end.
                # Without its thread the node would live on, deaf: better end loudly.
                self.failed = True
                self.context.try_shutdown()
                raise

    def _answer(self, image: Image) -> None:
        self._check_stamp(image.header)
        child_frame = self._child_frame(image.header)
        K_33 = self._intrinsics(image)
        rgb_hw3 = rgb_from_msg(self._bridge, image)
        started_s = time.monotonic()
        estimate = self._runner.locate(rgb_hw3, K_33)
        duration_s = time.monotonic() - started_s
        self.statistics.add_inference(duration_s)
        check_estimate(estimate, self._settings.min_confidence)
        self._publish(image.header, child_frame, estimate)
        self._report_success(estimate)

    def _check_stamp(self, header: Header) -> None:
        if self._answered_stamp == (header.stamp.sec, header.stamp.nanosec):
            raise NoPoseError(
                Reason.DUPLICATE,
                f'the stamp {header.stamp.sec}.{header.stamp.nanosec:09d} was answered already; '
                f'if all images have it, the camera driver sets no stamps')

    def _child_frame(self, header: Header) -> str:
        frame = self._settings.camera_frame or header.frame_id
        if self._settings.tf_mode != 'none' and frame in ('', self._settings.map_frame):
            raise NoPoseError(
                Reason.FRAME,
                f"the camera's frame is '{frame}' and the map's '{self._settings.map_frame}', "
                f'no transform can join them; set the frame_id of the images, or the parameter '
                f'camera_frame')
        return frame

    def _intrinsics(self, image: Image) -> NDArray[np.float64]:
        self._camera_info_came.wait(_CAMERA_INFO_PATIENCE_S)
        info = self._camera_info
        if info is None:
            raise NoPoseError(
                Reason.NO_CAMERA_INFO,
                f"no CameraInfo came on '{self._info_subscription.topic_name}' so far; remap "
                f'camera_info to the topic of this camera')
        calibration = calibration_from_msg(info)
        size = (image.width, image.height)
        K_33 = intrinsics_of_image(calibration, size, self._settings.rectified)
        check_aspect(size, self._runner.metadata.image_size)
        if calibration.is_distorted and not self._settings.rectified:
            self.get_logger().warning(
                'the CameraInfo of these raw images has a distortion that the model does not '
                'know: poses will be off; use a rectified topic (image_proc) and set rectified',
                once=True)
        return K_33

    def _publish(self, image_header: Header, child_frame: str, estimate: PoseEstimate) -> None:
        header = Header(stamp=image_header.stamp, frame_id=self._settings.map_frame)
        pose = pose_from_estimate(estimate)
        if self._settings.tf_mode == 'map_to_camera':
            self._broadcaster.sendTransform(transform_msg(header, pose, child_frame))
        self._pose_publisher.publish(pose_msg(header, pose))
        self._covariance_publisher.publish(
            pose_with_covariance_msg(header, pose, estimate.covariance_66))
        self._answered_stamp = (image_header.stamp.sec, image_header.stamp.nanosec)

    def _report_rejection(self, error: NoPoseError) -> None:
        self.statistics.rejected[error.reason] += 1
        held = self._warnings.admit(error.reason.value, time.monotonic())
        if held is not None:
            more = f' ({held} more since the last warning)' if held else ''
            self.get_logger().warning(f'no pose: {error}{more}')

    def _report_success(self, estimate: PoseEstimate) -> None:
        self.statistics.answered += 1
        if self.statistics.answered == 1:
            x, y, z = estimate.t_map_camera_m.tolist()
            self.get_logger().info(
                f'first fix: the camera is at ({x:.2f}, {y:.2f}, {z:.2f}) m in '
                f"'{self._settings.map_frame}', confidence {estimate.confidence:.2f}")
        elif self._summaries.admit('summary', time.monotonic()) is not None:
            self.get_logger().info(self.statistics.summary())


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; the exit code is 1 if it cannot go on."""
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # rcl's, for arguments that it cannot parse
        get_logger('relocalizer').fatal(str(error))
        return 1
    node = None
    try:
        node = RelocalizerNode()
        node.configure()
        node.activate()
        _spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ModelFileError, ParameterError, ParameterException) as error:
        get_logger('relocalizer').fatal(str(error))
        return 1
    except Exception:
        # SIGTERM during the start ends the context, which then fails to make publishers.
        if rclpy.ok():
            raise
    finally:
        _end(node)
    return 1 if node is None or node.failed else 0


def _spin(node: Node) -> None:
    # Not rclpy.spin: its wait has no limit, and about one SIGTERM in twenty does not wake it
    # (rclpy 9.1 with Fast DDS 3.2), so that the program would not end.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while rclpy.ok():
        executor.spin_once(_SPIN_LIMIT_S)


def _end(node: RelocalizerNode | None) -> None:
    # A second Ctrl-C shall not interrupt the orderly end that the first one began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if node is not None:
        node.stop()
        node.destroy_node()
        if node.was_active:
            # Not to /rosout any more: its publisher went with the node.
            get_logger('relocalizer').info(node.statistics.summary())
    rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
