# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that lives while the node is active: ears, thread, decisions, voices."""

from __future__ import annotations

import time
from collections.abc import Callable

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.belief import (
    Belief,
    Decision,
    RequestAnswer,
    State,
    Transition,
)
from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.localization.image_answer import ImageAnswer, ImageAnswerer
from implicit_relocalizer.localization.map_transform import no_mount
from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.localization.rejection import NoPoseError
from implicit_relocalizer.localization.relocalization import Relocalization
from implicit_relocalizer.localization.stamps import stamp_to_ns
from implicit_relocalizer.localization.statistics import RunStatistics, Throttle
from implicit_relocalizer.ros.camera_info_subscription import CameraInfoSubscription
from implicit_relocalizer.ros.conversions import (
    pose_from_matrix,
    pose_msg,
    pose_with_covariance_msg,
)
from implicit_relocalizer.ros.frame_tree import FrameTree
from implicit_relocalizer.ros.image_decoding import rgb_from_msg
from implicit_relocalizer.ros.image_subscription import ImageSubscription, compressed_topic
from implicit_relocalizer.ros.inference_thread import InferenceThread
from implicit_relocalizer.ros.initial_pose import InitialPose
from implicit_relocalizer.ros.map_broadcast import MapBroadcast
from implicit_relocalizer.ros.point_messages import points_msg

_WARNING_PERIOD_S = 5.0


class ActiveRelocalizer:
    """From activation to `close`. All but the inference runs on the thread that spins the node.

    What is decided is `Relocalization`'s; here is what it hears, and what comes of it (its
    `Effects`).
    """

    def __init__(self, node: Node, runner: ModelRunner, settings: Parameters,
                 statistics: RunStatistics, on_change: Callable[[], None],
                 on_answer: Callable[[RequestAnswer], None],
                 on_fault: Callable[[Exception], None]) -> None:
        """
        Args:
            node: Owner of all publishers and subscriptions.
            runner: The warm model.
            settings: The parameters.
            statistics: To be kept up to date.
            on_change: The state changed.
            on_answer: To the requests under way.
            on_fault: The inference thread ended with this.
        """
        self._node = node
        self._settings = settings
        self._statistics = statistics
        self._on_change = on_change
        self._on_request_answer = on_answer
        self._warnings = Throttle(_WARNING_PERIOD_S)
        self._relocalization = Relocalization(settings, statistics, self)
        self._pose_publisher = node.create_publisher(PoseStamped, '~/pose', 1)
        self._covariance_publisher = node.create_publisher(
            PoseWithCovarianceStamped, '~/pose_with_covariance', 1)
        self._points_publisher = node.create_publisher(PointCloud2, '~/points', 1)
        self._frames = FrameTree(node)
        self._map_transform = MapBroadcast(node, settings)
        self._initial_pose = InitialPose(node, self._frames)
        # The newest holds, and is taken when it is needed: with every image, and with every tick
        # for the first image, which may have come before it.
        self._infos = CameraInfoSubscription(node, self._on_camera_info)
        self._answerer = ImageAnswerer(
            runner, self._frames, lambda: self._settings,
            lambda: self._points_publisher.get_subscription_count() > 0,
            lambda: self._map_transform.moves_robot,
            self._infos.topic_name,
            lambda text: node.get_logger().warning(text, once=True), decode=rgb_from_msg)
        self._thread = InferenceThread(node, self._answerer.answer,
                                       lambda: self._settings.max_rate_hz, self._on_answer,
                                       on_fault)
        self._images: ImageSubscription | None = None
        self._relocalization.activate(time.monotonic())

    @property
    def belief(self) -> Belief:
        """What is believed now."""
        return self._relocalization.belief

    @property
    def topics(self) -> str:
        """Where images and calibration come from, for people."""
        image = (compressed_topic(self._node) if self._settings.image_transport == 'compressed'
                 else self._node.resolve_topic_name('image'))
        return f"images from '{image}', calibration from '{self._infos.topic_name}'"

    def use(self, settings: Parameters) -> None:
        """Go by other parameters from the next event on."""
        self._settings = settings
        self._relocalization.use(settings)
        self._map_transform.use(settings)

    def request(self) -> None:
        """Search again."""
        self._relocalization.request(time.monotonic())

    def pass_time(self) -> None:
        """To be called many times a second."""
        self._infos.take()
        self._frames.hear()
        now_s = time.monotonic()
        self._relocalization.pass_time(now_s)
        try:
            self._initial_pose.repeat(self._settings, now_s)
        except NoTransformError as error:
            self._complain_of_mount(error)

    def close(self) -> None:
        """End; a request under way is answered."""
        self._answerer.stop_waiting()
        self._frames.stop_waiting()
        self._thread.stop()
        self._relocalization.deactivate(time.monotonic())
        self._infos.destroy()
        self._initial_pose.close()
        self._map_transform.close()
        self._frames.close()
        for publisher in (self._pose_publisher, self._covariance_publisher,
                          self._points_publisher):
            self._node.destroy_publisher(publisher)

    def leave(self, fix: Fix, answer: ImageAnswer, announces: bool, now_s: float) -> None:
        """Publish an accepted fix."""
        settings = self._settings
        header = Header(stamp=Time(nanoseconds=fix.stamp_ns).to_msg(),
                        frame_id=settings.map_frame)
        pose = pose_from_matrix(fix.T_map_camera)
        try:
            self._map_transform.place(fix, answer.camera_frame, self._frames)
        except NoTransformError as error:
            self.complain(no_mount(error))
        except NoPoseError as error:
            self.complain(error)
        if announces and settings.announce_initialpose:
            try:
                self._initial_pose.announce(fix, answer.camera_frame, settings, now_s)
            except NoTransformError as error:
                self._complain_of_mount(error)
        self._pose_publisher.publish(pose_msg(header, pose))
        self._covariance_publisher.publish(
            pose_with_covariance_msg(header, pose, fix.estimate.covariance_66))
        if fix.estimate.points is not None:
            self._points_publisher.publish(points_msg(
                header, fix.estimate.points.points_map_n3, fix.estimate.points.weights_n))

    def complain(self, refusal: NoPoseError) -> None:
        """Warn of an image without a pose, of each reason now and then."""
        held = self._warnings.admit(refusal.reason.value, time.monotonic())
        if held is None:
            return
        more = f' ({held} more since the last warning)' if held else ''
        self._node.get_logger().warning(f'no pose: {refusal.reason.value}: {refusal}{more}')

    def forget(self) -> None:
        """Let go what is of a time that is over."""
        self._frames.forget()
        self._thread.forget()
        self._map_transform.forget()  # whatever tf_when_lost says

    def enter(self, transition: Transition) -> None:
        """Tell of a state, and stop to tell what does not hold in it."""
        if not self._node.context.ok():
            return
        # Two calls: rclpy holds the place of a call to its first severity.
        if transition.after is State.LOST:
            self._node.get_logger().warning(f'state {transition}')
        else:
            self._node.get_logger().info(f'state {transition}')
        if transition.after in (State.LOST, State.SEARCHING):
            self._initial_pose.withdraw()
            self._map_transform.lose()

    def settle(self, decision: Decision) -> None:
        """Listen as is wanted now, and tell who waits."""
        self._listen_as_wanted()
        if decision.transitions:
            self._on_change()
        if decision.answer is not None:
            self._on_request_answer(decision.answer)

    def _on_camera_info(self, info: CameraInfo) -> None:
        self._relocalization.hear_camera_info(stamp_to_ns(info.header), time.monotonic())
        self._answerer.take_camera_info(info)

    def _on_image(self, image: Image | CompressedImage) -> None:
        self._infos.take()
        if self._relocalization.hear_image(stamp_to_ns(image.header), time.monotonic()):
            self._statistics.superseded += self._thread.put(image)

    def _on_answer(self, answer: ImageAnswer) -> None:
        age_ns = self._node.get_clock().now().nanoseconds - answer.stamp_ns
        self._relocalization.hear_answer(answer, age_ns * 1e-9, time.monotonic())

    def _listen_as_wanted(self) -> None:
        """Images cost time to receive, also those that nobody looks at."""
        wanted = self._relocalization.wants_images
        if wanted and self._images is None:
            self._images = ImageSubscription(
                self._node, self._settings.image_transport, self._settings.image_reliability,
                self._settings.image_depth, self._on_image)
        elif not wanted and self._images is not None:
            self._images.destroy()
            self._images = None

    def _complain_of_mount(self, error: NoTransformError) -> None:
        if self._initial_pose.has_listeners:
            self.complain(no_mount(error))
