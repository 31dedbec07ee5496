# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Where the camera was: from a pose topic of some body frame, or from transforms alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, SceneError
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.bag_storage import Bag, Topic
from implicit_relocalizer.data.readers.bag_tf import (
    TransformTree,
    add_message,
    frame_name,
    stamp_to_ns,
)
from implicit_relocalizer.data.readers.bag_topics import choose_topic
from implicit_relocalizer.data.readers.pose_track import PoseSample, PoseTrack, StreamCounts

logger = logging.getLogger(__name__)

TF_TYPE = 'tf2_msgs/msg/TFMessage'
ODOMETRY_TYPE = 'nav_msgs/msg/Odometry'
POSE_STAMPED_TYPE = 'geometry_msgs/msg/PoseStamped'
POSE_TYPES = (POSE_STAMPED_TYPE, 'geometry_msgs/msg/PoseWithCovarianceStamped', ODOMETRY_TYPE)

PoseAt = Callable[[int], Float64Array]


@dataclass(frozen=True)
class CameraPoses:
    """The camera's pose over time.

    Attributes:
        at: T_world_camera of a stamp in nanoseconds; raises NoPoseError where there is none.
        description: Where the poses come from, in one line.
        world_frame: In which they are; '' where the bag does not say it.
        counts: Of the topic; None where they come from transforms.
    """

    at: PoseAt
    description: str
    world_frame: str
    counts: StreamCounts | None = None


def read_camera_poses(bag: Bag, options: BagOptions, image_frame: str) -> CameraPoses:
    """Find out where the camera was over the whole recording.

    Args:
        bag: The recording.
        options: Which topic or frames.
        image_frame: The frame_id of the images.

    Raises:
        SceneError: no poses, several sources of them, or no way to tell where the camera sits
            on the body that they are of.
    """
    tree = read_transforms(bag)
    camera_frame = frame_name(options.camera_frame or image_frame)
    if options.world_frame is not None or (options.pose_topic is None
                                           and not bag.of_types(POSE_TYPES)):
        return _from_transforms(bag, tree, options, camera_frame)
    topic = choose_topic(bag, POSE_TYPES, options.pose_topic, '--pose-topic', 'poses')
    return poses_from_topic(bag, topic, tree, options, camera_frame)


def poses_from_topic(bag: Bag, topic: Topic, tree: TransformTree, options: BagOptions,
                     camera_frame: str, frame_option: str = '--pose-frame') -> CameraPoses:
    """The camera's poses from a topic of one of `POSE_TYPES`.

    Args:
        bag: The recording.
        topic: With the poses of the camera or of a body that it sits on.
        tree: All transforms of the recording.
        options: Where the camera sits on the body, and the longest gap.
        camera_frame: The camera's optical frame.
        frame_option: Of the command line that names the body, for messages.

    Raises:
        SceneError: no usable poses, poses of several frames, or no way to tell where the camera
            sits on the body.
    """
    track, counts, world_frame, child_frame = _read_track(bag, topic)
    T_body_camera_at, mounting = _mounting(
        bag, str(topic), tree, options, child_frame, camera_frame, frame_option)
    return CameraPoses(
        lambda stamp_ns: track.interpolate(stamp_ns, options.max_gap_s) @ T_body_camera_at(
            stamp_ns),
        f'poses in {world_frame!r} from {topic}; {mounting}', world_frame, counts)


def poses_between_frames(bag: Bag, tree: TransformTree, world_frame: str, body_frame: str,
                         options: BagOptions, camera_frame: str) -> CameraPoses:
    """The camera's poses from the transforms between two frames of `tree`.

    Args:
        bag: The recording.
        tree: All transforms of the recording.
        world_frame: In which the poses shall be.
        body_frame: The camera's, or that of a body that it sits on.
        options: Where the camera sits on the body, and the longest gap.
        camera_frame: The camera's optical frame.

    Raises:
        SceneError: no chain between the frames, or no way to tell where the camera sits on the
            body.
    """
    source = f'the transforms {world_frame!r} -> {body_frame!r}'
    try:
        tree.moves(world_frame, body_frame)
    except SceneError as error:
        raise SceneError(f'{bag.path}: {error}') from None
    T_body_camera_at, mounting = _mounting(bag, source, tree, options, body_frame, camera_frame)
    return CameraPoses(
        lambda stamp_ns: tree.lookup(world_frame, body_frame, stamp_ns, options.max_gap_s)
        @ T_body_camera_at(stamp_ns), f'poses from {source}; {mounting}', world_frame)


def read_transforms(bag: Bag) -> TransformTree:
    """All transforms of a recording."""
    tree = TransformTree()
    unusable = 0
    for topic, message in bag.messages(bag.of_types([TF_TYPE])):
        if message is not None:
            unusable += add_message(tree, message, topic.name.endswith('tf_static'))
    if unusable:
        logger.warning('%s: %d transforms without stamp, with NaN or no unit quaternion left out',
                       bag.path, unusable)
    return tree


def _from_transforms(bag: Bag, tree: TransformTree, options: BagOptions,
                     camera_frame: str) -> CameraPoses:
    if not tree.frames:
        raise SceneError(
            f'{bag.path}: holds no poses: no topic of {", ".join(POSE_TYPES)} and no transforms '
            f'with messages; record /tf and /tf_static or a pose topic with the images')
    if not camera_frame:
        raise SceneError(f'{bag.path}: the images have no frame_id; name the camera\'s optical '
                         f'frame with --camera-frame, one of {tree.frames}')
    world_frame = frame_name(options.world_frame or tree.root_of(camera_frame))
    try:
        moves = tree.moves(world_frame, camera_frame)
    except SceneError as error:
        raise SceneError(f'{bag.path}: {error}; choose other frames with --world-frame and '
                         f'--camera-frame') from None
    if not moves:
        raise SceneError(
            f'{bag.path}: the camera frame {camera_frame!r} never moves in {world_frame!r} '
            f'according to the transforms; name the map\'s frame with --world-frame and the '
            f'camera\'s with --camera-frame (frames: {tree.frames}), or a --pose-topic')
    return CameraPoses(
        lambda stamp_ns: tree.lookup(world_frame, camera_frame, stamp_ns, options.max_gap_s),
        f'poses of {camera_frame!r} in {world_frame!r} from the transforms', world_frame)


def _read_track(bag: Bag, topic: Topic) -> tuple[PoseTrack, StreamCounts, str, str]:
    """The poses of a topic, their parent frame and their child frame ('' where unknown)."""
    samples = []
    damaged = 0
    worlds, children = set(), set()
    for _, message in bag.messages([topic]):
        if message is None:
            damaged += 1
            continue
        samples.append(pose_sample(message))
        worlds.add(frame_name(message.header.frame_id))
        children.add(frame_name(getattr(message, 'child_frame_id', '')))
    track = PoseTrack(samples)
    if not len(track):
        raise SceneError(f'{bag.path}: {topic} has no usable pose, all are without stamp, with '
                         f'NaN or with a quaternion whose length is not 1')
    counts = replace(track.counts, messages=len(samples) + damaged, damaged=damaged)
    if counts.unusable:
        logger.warning('%s: %d of %d poses on %s without stamp, with NaN or no unit quaternion '
                       'left out', bag.path, counts.unusable, len(samples), topic.name)
    for kind, names in (('frame_id', worlds), ('child_frame_id', children)):
        if len(names) > 1:
            raise SceneError(f'{bag.path}: {topic} mixes poses of several frames, {kind} is one '
                             f'of {sorted(names)}')
    return track, counts, worlds.pop(), children.pop()


def pose_sample(message: Any) -> PoseSample:
    """The pose in a message of one of `POSE_TYPES`."""
    pose = getattr(message.pose, 'pose', message.pose)
    position, rotation = pose.position, pose.orientation
    return PoseSample(stamp_to_ns(message.header.stamp), (position.x, position.y, position.z),
                      (rotation.x, rotation.y, rotation.z, rotation.w))


def _mounting(bag: Bag, source: str, tree: TransformTree, options: BagOptions, child_frame: str,
              camera_frame: str, frame_option: str = '--pose-frame') -> tuple[PoseAt, str]:
    """T_body_camera over time, and how it is known."""
    if options.T_body_camera is not None:
        T_body_camera = options.T_body_camera
        return lambda stamp_ns: T_body_camera, 'camera mounted as given'
    body_frame = frame_name(options.pose_frame or child_frame)
    if options.pose_is_camera or (body_frame and body_frame == camera_frame):
        return lambda stamp_ns: np.eye(4), 'they are the camera\'s own'
    what_to_do = (
        'pass --pose-is-camera if the poses are those of the camera itself (x right, y down, z '
        'forward), --T-body-camera X Y Z QX QY QZ QW for where the camera sits on the body that '
        f'they are of, or {frame_option} and --camera-frame to look that up in the transforms '
        f'(frames: {tree.frames or "none recorded"})')
    if not body_frame:
        raise SceneError(f'{bag.path}: {source} does not say whose poses it holds; {what_to_do}')
    if not camera_frame:
        raise SceneError(f'{bag.path}: the images have no frame_id, so where the camera sits on '
                         f'{body_frame!r} is unknown; {what_to_do}')
    if not tree.are_connected(body_frame, camera_frame):
        raise SceneError(
            f'{bag.path}: {source} holds poses of {body_frame!r}, the images are from '
            f'{camera_frame!r}, and no chain of transforms connects the two; {what_to_do}')
    return (lambda stamp_ns: tree.lookup(body_frame, camera_frame, stamp_ns, options.max_gap_s),
            f'{camera_frame!r} on {body_frame!r} from the transforms')
