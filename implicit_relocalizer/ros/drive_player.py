# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Play the held-out frames of a scene as a camera and record what the node answers.

Run as `python -m implicit_relocalizer.ros.drive_player SCENE --output DIR`. The truth never
leaves this process except into the bag.
"""

from __future__ import annotations

import argparse
import array
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image

from implicit_relocalizer.data.frames import Frame, SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.evaluation.drive import DriveObservations, SentFrame
from implicit_relocalizer.ros.drive_recorder import (
    POSE_TOPIC,
    DriveClock,
    DriveRecorder,
    RecordedMessage,
    ros_type_name,
    stamp_from_ns,
    write_bag,
)

CAMERA_FRAME = 'camera_optical_frame'
REFERENCE_TOPIC = '/reference/pose'
MAP_FRAME = 'map'  # of the reference where no answer names another
_SETTLING_S = 1.0

_logger = logging.getLogger(__name__)
CameraMessages = tuple[Image, CameraInfo]


class PlayerError(RuntimeError):
    """The drive cannot be played; the message says what is missing."""


class DrivePlayer(Node):
    """A camera whose images come from a scene: publishes `image` and `camera_info`."""

    def __init__(self, clock: DriveClock) -> None:
        super().__init__('drive_player')
        self._drive_clock = clock
        # A camera driver's usual profile: a reliable one serves any subscriber.
        self._image_publisher = self.create_publisher(Image, 'image', QoSProfile(depth=5))
        self._info_publisher = self.create_publisher(CameraInfo, 'camera_info',
                                                     QoSProfile(depth=5))

    def count_subscribers_by_topic(self) -> dict[str, int]:
        """How many subscribers each of our topics is connected to."""
        return {publisher.topic_name: publisher.get_subscription_count()
                for publisher in (self._image_publisher, self._info_publisher)}

    def play(self, names: Sequence[str], camera: Sequence[CameraMessages],
             rate_hz: float) -> tuple[SentFrame, ...]:
        """Publish every frame at its time, whether or not the last one was answered.

        Sending times are multiples of the period after the start, so that delays do not add up.
        Stamps are the clock at sending; they are written into the messages.
        """
        sent: list[SentFrame] = []
        start_s = time.monotonic()
        for i, (name, (image, info)) in enumerate(zip(names, camera, strict=True)):
            time.sleep(max(0.0, start_s + i / rate_hz - time.monotonic()))
            stamp_ns = self._drive_clock.now_ns()
            image.header.stamp = info.header.stamp = stamp_from_ns(stamp_ns)
            sent.append(SentFrame(name, stamp_ns, self._drive_clock.now_ns()))
            self._info_publisher.publish(info)
            self._image_publisher.publish(image)
        return tuple(sent)


def play_and_record(frames: Sequence[Frame], output: Path, rate_hz: float = 10.0,
                    patience_s: float = 60.0, last_answer_s: float = 5.0) -> DriveObservations:
    """Play frames to whoever listens and write `observations.json` and `bag/` into `output`.

    `rclpy` must be initialized.

    Args:
        frames: What to play, in order.
        output: An existing folder.
        rate_hz: Frames per second.
        patience_s: How long to wait for a node that listens and can answer.
        last_answer_s: How long to wait for answers after the last frame.

    Raises:
        PlayerError: no node appeared in time.
    """
    camera = [make_camera_messages(frame) for frame in frames]
    clock = DriveClock()
    player, recorder = DrivePlayer(clock), DriveRecorder(clock)
    executor = SingleThreadedExecutor()
    executor.add_node(player)
    executor.add_node(recorder)
    thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
    thread.start()
    try:
        _wait_for_node(player, recorder, patience_s)
        _logger.info('playing %d frames at %g Hz', len(frames), rate_hz)
        sent = player.play([frame.name for frame in frames], camera, rate_hz)
        _wait_until(lambda: _is_answered(sent, recorder), last_answer_s)
    finally:
        executor.shutdown()
        thread.join()
    poses = recorder.poses()
    observations = DriveObservations(CAMERA_FRAME, sent, poses, recorder.transforms())
    observations.save(output / 'observations.json')
    # In the frame of the answers, so that RViz shows both.
    map_frame = poses[0].parent if poses else MAP_FRAME
    write_bag(output / 'bag',
              [*recorder.messages, *_sent_messages(frames, camera, sent, map_frame)])
    player.destroy_node()
    recorder.destroy_node()
    return observations


def make_camera_messages(frame: Frame) -> CameraMessages:
    """The frame as rgb8 Image and CameraInfo of an undistorted pinhole camera, unstamped."""
    rgb_hw3 = read_frame_image(frame).numpy()
    height, width = rgb_hw3.shape[:2]
    image = Image(height=height, width=width, encoding='rgb8', is_bigendian=0, step=3 * width,
                  data=array.array('B', rgb_hw3.tobytes()))
    P_34 = np.hstack([frame.K_33, np.zeros((3, 1))])
    info = CameraInfo(height=height, width=width, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=frame.K_33.ravel(), r=np.eye(3).ravel(), p=P_34.ravel())
    image.header.frame_id = info.header.frame_id = CAMERA_FRAME
    return image, info


def make_reference_pose(frame: Frame, map_frame: str) -> PoseStamped:
    """The true camera pose, unstamped."""
    message = PoseStamped()
    message.header.frame_id = map_frame
    position, rotation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = frame.T_world_camera[:3, 3].tolist()
    quaternion_xyzw = Rotation.from_matrix(frame.T_world_camera[:3, :3]).as_quat()
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_xyzw.tolist()
    return message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog='drive_player', description='Play the held-out frames of a scene as a camera '
        'on `image` and `camera_info`, and record poses, /tf and the truth.')
    parser.add_argument('scene', type=Path, help='folder of the scene (rgb/, poses/, K.txt)')
    parser.add_argument('--output', type=Path, required=True,
                        help='folder for observations.json and bag/')
    parser.add_argument('--rate', type=float, default=10.0, help='frames per second (%(default)s)')
    parser.add_argument('--patience', type=float, default=60.0,
                        help='seconds to wait for the node (%(default)s)')
    options = parser.parse_args(arguments)
    if options.rate <= 0:
        parser.error(f'--rate {options.rate}: must be above 0')
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    try:
        frames = read_folder_scene(options.scene).split('test')
        options.output.mkdir(parents=True, exist_ok=True)
        # Python's own handlers: an interrupt ends the play at once, whatever it is doing.
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        play_and_record(frames, options.output, options.rate, options.patience)
    except (SceneError, PlayerError, OSError) as error:
        print(f'drive_player: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


def _wait_for_node(player: DrivePlayer, recorder: DriveRecorder, patience_s: float) -> None:
    def missing() -> list[str]:
        silent = [topic for topic, count in player.count_subscribers_by_topic().items()
                  if not count]
        return ([f'nobody subscribes to {topic}' for topic in silent]
                + ([] if recorder.count_pose_publishers() else [f'nobody publishes {POSE_TOPIC}']))

    if not _wait_until(lambda: not missing(), patience_s):
        raise PlayerError(f'no node to play to after {patience_s:g} s: {", ".join(missing())}; '
                          f'is it running, active, and in the same ROS_DOMAIN_ID?')
    # We know the node's subscriber now, but it may need a moment more to know us; what is
    # published before that is lost.
    time.sleep(_SETTLING_S)


def _is_answered(sent: Sequence[SentFrame], recorder: DriveRecorder) -> bool:
    # The others may arrive after the pose: they are different topics.
    wanted = {frame.stamp_ns for frame in sent}
    return (wanted <= {pose.stamp_ns for pose in recorder.poses()}
            and wanted <= recorder.covariance_stamps_ns()
            and wanted <= {transform.stamp_ns for transform in recorder.transforms()})


def _wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        _logger.info('interrupted')


def _sent_messages(frames: Sequence[Frame], camera: Sequence[CameraMessages],
                   sent: Sequence[SentFrame], map_frame: str) -> list[RecordedMessage]:
    records = []
    for frame, (image, info), send in zip(frames, camera, sent, strict=True):
        reference = make_reference_pose(frame, map_frame)
        reference.header.stamp = image.header.stamp
        records += [RecordedMessage(topic, ros_type_name(type(message)), send.sent_ns,
                                    serialize_message(message))
                    for topic, message in (('/image', image), ('/camera_info', info),
                                           (REFERENCE_TOPIC, reference))]
    return records


if __name__ == '__main__':
    sys.exit(main())
