# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader for ROS 2 bags: images with calibration, and poses interpolated to their stamps."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Scene, SceneError, SkippedFrame
from implicit_relocalizer.data.readers.bag_camera import CameraTrack, read_cameras
from implicit_relocalizer.data.readers.bag_images import ImageMessageError, encode_image
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.bag_poses import PoseAt, read_camera_poses
from implicit_relocalizer.data.readers.bag_storage import Bag, Topic, is_bag, open_bag
from implicit_relocalizer.data.readers.bag_tf import stamp_to_ns
from implicit_relocalizer.data.readers.bag_topics import choose_image_topic
from implicit_relocalizer.data.readers.pose_track import NS_PER_S, NoPoseError
from implicit_relocalizer.data.readers.scene_format import SceneFormat
from implicit_relocalizer.data.scene_builder import RawFrame, SceneBuilder
from implicit_relocalizer.data.splits import STANDARD

logger = logging.getLogger(__name__)

TOO_NEAR = 'too near the previous'


def read_ros_bag(path: Path, split: str = STANDARD, options: BagOptions | None = None) -> Scene:
    """Read a scene from a recording: a folder with metadata.yaml, or one .mcap or .db3 file.

    The stamps in the messages' headers count, not the times at which they were recorded. Images
    without a pose, too near the previous one, or damaged are left out and listed in
    `Scene.skipped`. Every 8th frame that is kept is held out, or the last part of the recording
    if `options.held_out_tail` says so.

    Raises:
        SceneError: no images, calibration or poses, several to choose from, or a damaged file.
    """
    options, path = options or BagOptions(), Path(path)
    with open_bag(path) as bag:
        topic = choose_image_topic(bag, options.image_topic)
        cameras = read_cameras(bag, topic, options)
        poses = read_camera_poses(bag, options, bag.first(topic).header.frame_id)
        logger.info('%s: images from %s, calibrated by %s; %s', path, topic, cameras.source,
                    poses.description)
        selection = _Selection(bag, topic, cameras, poses.at, options)
        for _, message in bag.messages([topic]):
            selection.add(message)
        return selection.scene(split)


class _SkippedError(ValueError):
    """An image is left out; the message is the reason."""


class _Selection:
    """The frames to keep, image by image, and why others are left out."""

    def __init__(self, bag: Bag, topic: Topic, cameras: CameraTrack, pose_at: PoseAt,
                 options: BagOptions) -> None:
        self._bag, self._topic, self._cameras = bag, topic, cameras
        self._pose_at, self._options = pose_at, options
        self._kept: list[RawFrame] = []
        self._skipped: list[tuple[str, str]] = []
        self._stamps_ns: set[int] = set()

    def add(self, message: Any | None) -> None:
        """Take one image message, None where it is damaged."""
        name = f'image {len(self._kept) + len(self._skipped) + 1}'
        try:
            if message is None:
                raise _SkippedError('the message is damaged')
            stamp_ns = stamp_to_ns(message.header.stamp)
            # Names sort by time, also where the clock starts at zero as in simulation.
            name = f'{stamp_ns // NS_PER_S:010d}.{stamp_ns % NS_PER_S:09d}'
            self._kept.append(self._frame(name, stamp_ns, message))
        except (_SkippedError, NoPoseError, ImageMessageError) as error:
            self._skipped.append((name, str(error)))

    def scene(self, split: str) -> Scene:
        """The scene of the frames that were kept.

        Raises:
            SceneError: there are none, or too few for a split.
        """
        if not self._kept:
            raise SceneError(
                f'{self._bag.path}: no image of {self._topic} can be used{self._reasons()}; '
                f'compare the stamps in the headers of images and poses (one clock?), '
                f'--max-gap-s allows longer gaps between poses')
        builder = SceneBuilder(self._bag.path, split)
        for frame in self._in_time():
            with builder.frame(frame.name):
                builder.add(frame)
        self._report()
        scene = builder.build()
        skipped = tuple(SkippedFrame(name, reason) for name, reason in self._skipped)
        return replace(scene, name=self._bag.name, skipped=(*skipped, *scene.skipped))

    def _report(self) -> None:
        # Of a camera at 30 Hz most images are too near each other: no reason to warn.
        is_usual = all(reason == TOO_NEAR for _, reason in self._skipped)
        megabytes = sum(len(frame.image_bytes or b'') for frame in self._kept) / 1e6
        logger.log(logging.INFO if is_usual else logging.WARNING,
                   '%s: %d images kept (%.0f MB in memory), %d left out%s', self._bag.path,
                   len(self._kept), megabytes, len(self._skipped), self._reasons())

    def _frame(self, name: str, stamp_ns: int, message: Any) -> RawFrame:
        if stamp_ns <= 0:
            raise _SkippedError('no stamp in the header')
        if stamp_ns in self._stamps_ns:
            raise _SkippedError('the stamp of an earlier image')
        self._stamps_ns.add(stamp_ns)
        T_world_camera = self._pose_at(stamp_ns)
        if self._kept and not self._has_moved(self._kept[-1].T_world_camera, T_world_camera):
            raise _SkippedError(TOO_NEAR)
        image, lens = encode_image(message), self._cameras.at(stamp_ns)
        if image.size != lens.image_size:
            raise _SkippedError(
                f'{_text(image.size)} pixels while {self._cameras.source} is for '
                f'{_text(lens.image_size)}, give the calibration of these images '
                f'(--camera-info-topic, --camera-info-file)')
        topic_path = self._bag.path / self._topic.name.strip('/')
        return RawFrame(name=name, image_path=topic_path / name, lens=lens,
                        T_world_camera=T_world_camera, source=topic_path / name,
                        sequence=self._bag.name, stamp_s=stamp_ns / NS_PER_S,
                        image_bytes=image.data)

    def _has_moved(self, T_world_previous: Float64Array, T_world_camera: Float64Array) -> bool:
        distance_m = np.linalg.norm(T_world_camera[:3, 3] - T_world_previous[:3, 3])
        if distance_m >= self._options.min_distance_m:
            return True
        R_previous_camera = T_world_previous[:3, :3].T @ T_world_camera[:3, :3]
        turn, _ = cv2.Rodrigues(R_previous_camera)
        return bool(np.degrees(np.linalg.norm(turn)) >= self._options.min_angle_deg)

    def _in_time(self) -> list[RawFrame]:
        """The frames in the order of their stamps, the tail held out if that is wished."""
        frames = sorted(self._kept, key=lambda frame: frame.name)
        if self._options.held_out_tail is None:
            return frames
        stamps_s = np.array([frame.stamp_s for frame in frames])
        limit_s = stamps_s[-1] - self._options.held_out_tail * np.ptp(stamps_s)
        return [replace(frame, split='test' if stamp_s > limit_s else 'train')
                for frame, stamp_s in zip(frames, stamps_s, strict=True)]

    def _reasons(self) -> str:
        counts = Counter(reason for _, reason in self._skipped).most_common(5)
        return ': ' + '; '.join(f'{n} {reason}' for reason, n in counts) if counts else ''


def _text(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def _read(path: Path, split: str, **options: Any) -> Scene:
    return read_ros_bag(path, split, BagOptions(**options))


FORMAT = SceneFormat(
    'ros2_bag', 'metadata.yaml and .mcap or .db3 files, or one such file', is_bag, _read,
    frozenset(field.name for field in fields(BagOptions)))
