# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Images, diagnostics and, with a model, clouds of a recorded run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from implicit_relocalizer.data.common_camera import MAX_ASPECT_ERROR, common_pinhole
from implicit_relocalizer.data.frames import Frame, SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.bag_camera import CameraTrack, read_cameras
from implicit_relocalizer.data.readers.bag_images import ImageMessageError, encode_image
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.bag_storage import Bag, open_bag
from implicit_relocalizer.data.readers.bag_tf import stamp_to_ns
from implicit_relocalizer.data.readers.bag_topics import choose_image_topic
from implicit_relocalizer.data.readers.run_states import NodeReport, read_reports
from implicit_relocalizer.data.recorded_run import RecordedRun
from implicit_relocalizer.evaluation.report.contents import FramePicture, MapCloud
from implicit_relocalizer.evaluation.report.viewing import (
    MAX_MAP_FRAMES,
    learned_cloud,
    make_picture,
    picture_with_points,
)
from implicit_relocalizer.network.model_file import load_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordedMedia:
    """What is read of a recording for its report; pictures by index of the image."""

    pictures: Mapping[int, FramePicture] = field(default_factory=dict)
    reports: Sequence[NodeReport] = ()
    cloud: MapCloud | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def read_media(run: RecordedRun, pictured: Sequence[int], model: Path | None,
               camera_options: Mapping[str, Any]) -> RecordedMedia:
    """Read the images at some indices, the diagnostics, and what a model sees in the images.

    Args:
        run: The recording.
        pictured: Indices of its images.
        model: The model that ran; None shows no points.
        camera_options: Of `BagOptions`: `camera_info_topic`, `camera_info_file`, `rectified`.

    Raises:
        SceneError: a calibration is asked for and cannot be used.
        ModelFileError: the model cannot be used.
    """
    notes = {}
    chosen = set(pictured)
    loaded = None if model is None else load_model(model, 'cpu')
    if model is None:
        notes['cloud'] = ('Without the model (--model FILE) its points are unknown: no clouds and '
                          'no map, only where the camera was.')
    else:
        chosen.update(np.unique(np.linspace(0, len(run.images) - 1, min(
            MAX_MAP_FRAMES, len(run.images))).astype(int)).tolist())
    with open_bag(run.path) as bag:
        reports = read_reports(bag, run.estimate_topic.rpartition('/')[0])
        cameras = None if model is None else read_cameras(
            bag, choose_image_topic(bag, run.image_topic), BagOptions(
                **{name: value for name, value in camera_options.items() if value is not None}))
        frames, problems = _read_frames(bag, run, chosen, cameras)
    if problems:
        notes['pictures'] = f'{len(problems)} images cannot be shown: {problems[0]}'
    if model is None or loaded is None:
        pictures = {i: make_picture(read_frame_image(frames[i]).numpy())
                    for i in pictured if i in frames}
        return RecordedMedia(pictures, reports, None, notes)
    module, metadata = loaded
    if frames:
        _check_camera(model, run, next(iter(frames.values())), metadata.image_size)
    cloud = learned_cloud(module, frames.values())
    if cloud is None:
        notes['cloud'] = 'The model gives no points, so there is no learned place to show.'
    return RecordedMedia({i: picture_with_points(module, frames[i])
                          for i in pictured if i in frames}, reports, cloud, notes)


def read_run_frames(run: RecordedRun,
                    camera_options: Mapping[str, Any]) -> list[tuple[int, Frame]]:
    """Every image of a recording that can be read, by its index, in order.

    Args:
        run: The recording.
        camera_options: Of `BagOptions`, as for `read_media`; where the calibration cannot be used,
            intrinsics are the identity.
    """
    with open_bag(run.path) as bag:
        try:
            cameras = read_cameras(bag, choose_image_topic(bag, run.image_topic), BagOptions(
                **{name: value for name, value in camera_options.items() if value is not None}))
        except SceneError as error:
            logger.warning('no frustums: %s', error)
            cameras = None
        frames, problems = _read_frames(bag, run, set(range(len(run.images))), cameras)
    if problems:
        logger.warning('%d images cannot be shown: %s', len(problems), problems[0])
    return sorted(frames.items())


def _read_frames(bag: Bag, run: RecordedRun, chosen: set[int],
                 cameras: CameraTrack | None) -> tuple[dict[int, Frame], list[str]]:
    """Frames of some images by index, and why others cannot be read."""
    index_of = {image.stamp_ns: i for i, image in enumerate(run.images) if i in chosen}
    frames: dict[int, Frame] = {}
    problems = []
    for message in (message for _, message in bag.messages(
            [choose_image_topic(bag, run.image_topic)]) if message is not None):
        stamp_ns = stamp_to_ns(message.header.stamp)
        index = index_of.get(stamp_ns)
        if index is None or index in frames:
            continue
        try:
            encoded = encode_image(message)
        except ImageMessageError as error:
            problems.append(str(error))
            continue
        name = f'{bag.path}, image at {stamp_ns / 1e9:.3f} s'
        frame = Frame(name, Path(name), np.eye(3), np.eye(4), 'test', image_bytes=encoded.data)
        if cameras is not None:
            pinhole = common_pinhole([cameras.at(stamp_ns)])[1][0]
            if isinstance(pinhole, SceneError):
                problems.append(str(pinhole))
                continue
            frame = Frame(name, Path(name), pinhole.K_33, np.eye(4), 'test',
                          image_bytes=encoded.data, lens=pinhole.lens)
        frames[index] = frame
    return frames, problems


def _check_camera(model: Path, run: RecordedRun, frame: Frame, size: tuple[int, int]) -> None:
    height, width = read_frame_image(frame).shape[:2]
    if abs(width * size[1] / (height * size[0]) - 1.0) > MAX_ASPECT_ERROR:
        raise SceneError(f'{run.path}: its images are {width}x{height}, {model} was trained on '
                         f'{size[0]}x{size[1]}, another aspect ratio; is it the model of this '
                         f'run?')
