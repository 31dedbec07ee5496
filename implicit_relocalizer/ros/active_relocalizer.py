# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that lives while the node is active: ears, thread, decisions, voices."""

from __future__ import annotations

import time
from collections.abc import Callable

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from implicit_relocalizer.localization import supervision
from implicit_relocalizer.localization.belief import Belief, Decision, RequestAnswer, State
from implicit_relocalizer.localization.model_runner import ModelRunner
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.statistics import RunStatistics, Throttle
from implicit_relocalizer.ros.conversions import (
    pose_from_matrix,
    pose_msg,
    pose_with_covariance_msg,
)
from implicit_relocalizer.ros.frame_tree import FrameTree, NoTransformError
from implicit_relocalizer.ros.image_answer import (
    ImageAnswer,
    ImageAnswerer,
    find_stamp_refusal,
    stamp_to_ns,
)
from implicit_relocalizer.ros.image_subscription import ImageSubscription, compressed_topic
from implicit_relocalizer.ros.inference_thread import InferenceThread
from implicit_relocalizer.ros.initial_pose import InitialPose
from implicit_relocalizer.ros.map_transform import MapTransform
from implicit_relocalizer.ros.parameters import Parameters
from implicit_relocalizer.ros.point_messages import points_msg

_WARNING_PERIOD_S = 5.0


class ActiveRelocalizer:
    """From activation to `close`. All but the inference runs on the thread that spins the node."""

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
        self.belief = Belief()
        self._node = node
        self._settings = settings
        self._statistics = statistics
        self._on_change = on_change
        self._on_request_answer = on_answer
        self._warnings = Throttle(_WARNING_PERIOD_S)
        self._newest_ns: dict[str, int] = {}
        self._pose_publisher = node.create_publisher(PoseStamped, '~/pose', 1)
        self._covariance_publisher = node.create_publisher(
            PoseWithCovarianceStamped, '~/pose_with_covariance', 1)
        self._points_publisher = node.create_publisher(PointCloud2, '~/points', 1)
        self._frames = FrameTree(node)
        self._map_transform = MapTransform(node, settings)
        self._initial_pose = InitialPose(node, self._frames)
        self._info_subscription = node.create_subscription(
            CameraInfo, 'camera_info', self._on_camera_info,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        self._answerer = ImageAnswerer(
            runner, self._frames, lambda: self._settings,
            lambda: self._points_publisher.get_subscription_count() > 0,
            lambda: self._map_transform.moves_robot,
            self._info_subscription.topic_name, node.get_logger())
        self._thread = InferenceThread(node, self._answerer.answer,
                                       lambda: self._settings.max_rate_hz, self._on_answer,
                                       on_fault)
        self._images: ImageSubscription | None = None
        self._apply(supervision.activate(settings.rules, time.monotonic()))

    @property
    def topics(self) -> str:
        """Where images and calibration come from, for people."""
        image = (compressed_topic(self._node) if self._settings.image_transport == 'compressed'
                 else self._node.resolve_topic_name('image'))
        return f"images from '{image}', calibration from '{self._info_subscription.topic_name}'"

    def use(self, settings: Parameters) -> None:
        """Go by other parameters from the next event on."""
        self._settings = settings
        self._map_transform.use(settings)

    def request(self) -> None:
        """Search again."""
        self._apply(supervision.request(self._settings.rules, self.belief, time.monotonic()))

    def pass_time(self) -> None:
        """To be called many times a second."""
        now_s = time.monotonic()
        self._apply(supervision.pass_time(self._settings.rules, self.belief, now_s))
        try:
            self._initial_pose.repeat(self._settings, now_s)
        except NoTransformError as error:
            self._complain_of_mount(error)

    def close(self) -> None:
        """End; a request under way is answered."""
        self._answerer.stop_waiting()
        self._frames.stop_waiting()
        self._thread.stop()
        self._apply(supervision.deactivate(self.belief, time.monotonic()))
        self._node.destroy_subscription(self._info_subscription)
        self._initial_pose.close()
        self._map_transform.close()
        self._frames.close()
        for publisher in (self._pose_publisher, self._covariance_publisher,
                          self._points_publisher):
            self._node.destroy_publisher(publisher)

    def _on_camera_info(self, info: CameraInfo) -> None:
        self._watch_stamps('camera_info', info.header)
        self._answerer.take_camera_info(info)

    def _on_image(self, image: Image | CompressedImage) -> None:
        now_s = time.monotonic()
        self._statistics.received += 1
        self._statistics.image_rate.note(now_s)
        last_ns = self._newest_ns.get('image')
        self._watch_stamps('image', image.header)
        self._apply(supervision.hear_image(self.belief, now_s))
        refusal = find_stamp_refusal(image.header, last_ns, self._newest_ns['image'])
        if refusal is None:
            self._statistics.superseded += self._thread.put(image)
        else:
            self._refuse(refusal)

    def _watch_stamps(self, topic: str, header: Header) -> None:
        """Notice that stamps went back, by those of each topic on its own."""
        stamp_ns = stamp_to_ns(header)
        newest_ns = self._newest_ns.setdefault(topic, stamp_ns)
        if stamp_ns >= newest_ns - supervision.JUMP_BACK_NS:
            self._newest_ns[topic] = max(newest_ns, stamp_ns)
            return
        self._newest_ns = {topic: stamp_ns}
        self._frames.forget()
        self._thread.forget()
        self._map_transform.forget()  # whatever tf_when_lost says
        self._apply(supervision.jump_in_time(
            self._settings.rules, self.belief,
            f'the stamps of {topic} went back by {(newest_ns - stamp_ns) * 1e-9:.1f} s',
            time.monotonic()))

    def _refuse(self, refusal: NoPoseError) -> None:
        self._statistics.rejected[refusal.reason] += 1
        self._complain(refusal)
        self._apply(supervision.observe_refusal(self._settings.rules, self.belief, refusal))

    def _on_answer(self, answer: ImageAnswer) -> None:
        now_s = time.monotonic()
        self._note_times(answer)
        if answer.fix is None:
            assert answer.refusal is not None
            self._refuse(answer.refusal)
            return
        decision = supervision.observe_fix(self._settings.rules, self.belief, answer.fix, now_s)
        # What leaves goes first: whoever hears of the new state may look for its pose.
        if decision.accepted is not None:
            self._publish(decision, answer, now_s)
        if decision.refusal is not None:
            self._statistics.rejected[decision.refusal.reason] += 1
            self._complain(decision.refusal)
        self._apply(decision)

    def _note_times(self, answer: ImageAnswer) -> None:
        age_ns = (self._node.get_clock().now() - Time.from_msg(
            answer.header.stamp, clock_type=self._node.get_clock().clock_type)).nanoseconds
        self._statistics.image_age_s = age_ns * 1e-9
        if answer.inference_s is not None:
            self._statistics.add_inference(answer.inference_s)
            self._statistics.confidence = answer.confidence

    def _publish(self, decision: Decision, answer: ImageAnswer, now_s: float) -> None:
        fix, settings = decision.accepted, self._settings
        assert fix is not None
        header = Header(stamp=answer.header.stamp, frame_id=settings.map_frame)
        pose = pose_from_matrix(fix.T_map_camera)
        self._statistics.answered += 1
        self._statistics.fix_rate.note(now_s)
        try:
            self._map_transform.place(fix, answer.header, answer.camera_frame, self._frames)
        except NoTransformError as error:
            self._complain(_no_mount(error))
        except NoPoseError as error:
            self._complain(error)
        if decision.announces and settings.announce_initialpose:
            try:
                self._initial_pose.announce(fix, answer.header, answer.camera_frame, settings,
                                            now_s)
            except NoTransformError as error:
                self._complain_of_mount(error)
        self._pose_publisher.publish(pose_msg(header, pose))
        self._covariance_publisher.publish(
            pose_with_covariance_msg(header, pose, fix.estimate.covariance_66))
        if fix.estimate.points is not None:
            self._points_publisher.publish(points_msg(
                header, fix.estimate.points.points_map_n3, fix.estimate.points.weights_n))

    def _apply(self, decision: Decision) -> None:
        self.belief = decision.belief
        for transition in decision.transitions if self._node.context.ok() else ():
            # Two calls: rclpy holds the place of a call to its first severity.
            if transition.after is State.LOST:
                self._node.get_logger().warning(f'state {transition}')
            else:
                self._node.get_logger().info(f'state {transition}')
            if transition.after in (State.LOST, State.SEARCHING):
                self._initial_pose.withdraw()
                self._map_transform.lose()
        self._listen_as_wanted()
        if decision.transitions:
            self._on_change()
        if decision.answer is not None:
            self._on_request_answer(decision.answer)

    def _listen_as_wanted(self) -> None:
        """Images cost time to receive, also those that nobody looks at."""
        wanted = self.belief.wants_images(self._settings.rules)
        if wanted and self._images is None:
            self._images = ImageSubscription(
                self._node, self._settings.image_transport, self._settings.image_reliability,
                self._settings.image_depth, self._on_image)
        elif not wanted and self._images is not None:
            self._images.destroy()
            self._images = None

    def _complain_of_mount(self, error: NoTransformError) -> None:
        if self._initial_pose.has_listeners:
            self._complain(_no_mount(error))

    def _complain(self, refusal: NoPoseError) -> None:
        held = self._warnings.admit(refusal.reason.value, time.monotonic())
        if held is None:
            return
        more = f' ({held} more since the last warning)' if held else ''
        self._node.get_logger().warning(f'no pose: {refusal.reason.value}: {refusal}{more}')


def _no_mount(error: NoTransformError) -> NoPoseError:
    return NoPoseError(
        Reason.NO_CAMERA_TF, f'{error}; publish where the camera is mounted (the URDF by '
                             f'robot_state_publisher, or a static_transform_publisher)')
