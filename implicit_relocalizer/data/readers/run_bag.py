# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reader of recorded runs: images asked, poses answered, reference and states of one bag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.readers.bag_poses import (
    POSE_STAMPED_TYPE,
    POSE_TYPES,
    CameraPoses,
    pose_sample,
    poses_between_frames,
    poses_from_topic,
    read_transforms,
)
from implicit_relocalizer.data.readers.bag_storage import Bag, Topic, open_bag
from implicit_relocalizer.data.readers.bag_tf import frame_name, stamp_to_ns
from implicit_relocalizer.data.readers.bag_topics import (
    choose_image_topic,
    choose_topic,
    only_topic,
)
from implicit_relocalizer.data.readers.pose_track import StreamCounts, count_disordered
from implicit_relocalizer.data.readers.run_states import read_states
from implicit_relocalizer.data.recorded_run import (
    RecordedEstimate,
    RecordedImage,
    RecordedRun,
    RunOptions,
)

ESTIMATE_TYPES = POSE_TYPES[:2]
# Of the node, under any namespace; the better one first.
ESTIMATE_ENDINGS = ('/relocalizer/pose_with_covariance', '/relocalizer/pose')
# Where the demo's player writes the true poses of the camera itself.
CAMERA_REFERENCE_TOPIC = '/reference/pose'
_NEVER_REFERENCE = (*ESTIMATE_ENDINGS, '/initialpose')

_Item = TypeVar('_Item', RecordedImage, RecordedEstimate)


def read_recorded_run(path: Path, options: RunOptions | None = None) -> RecordedRun:
    """Read a run of the node: a folder with metadata.yaml, or one .mcap or .db3 file.

    Raises:
        SceneError: no estimates, images or reference, several to choose from, a reference in
            another frame than the estimates, or a damaged file; names the remedy.
    """
    options = options or RunOptions()
    with open_bag(path) as bag:
        estimate_topic = _choose_estimate_topic(bag, options.estimate_topic)
        image_topic = choose_image_topic(bag, options.bag.image_topic)
        image_frame = bag.first(image_topic).header.frame_id
        camera_frame = frame_name(options.bag.camera_frame or image_frame)
        estimates, estimate_counts, map_frame = _read_estimates(bag, estimate_topic)
        reference = _read_reference(bag, estimate_topic, options, map_frame, camera_frame)
        if not options.is_same_world:
            _check_same_world(bag, estimate_topic, map_frame, reference)
        images, image_counts = _read_images(bag, image_topic)
        diagnostics_topic, states = read_states(bag, estimate_topic.name.rpartition('/')[0])
    counts = {'images': image_counts, 'estimates': estimate_counts}
    if reference.counts is not None:
        counts['reference'] = reference.counts
    return RecordedRun(
        bag.name, bag.path, image_topic.name, estimate_topic.name, diagnostics_topic, map_frame,
        camera_frame, images, estimates, reference, states, counts)


def _choose_estimate_topic(bag: Bag, name: str | None) -> Topic:
    option = '--estimate-topic'
    if name is not None:
        return choose_topic(bag, ESTIMATE_TYPES, name, option, 'estimates')
    found: list[Topic] = []
    for ending in ESTIMATE_ENDINGS:
        found = found or [t for t in bag.of_types(ESTIMATE_TYPES)
                          if f'/{t.name}'.endswith(ending)]
    return only_topic(
        bag, found, ESTIMATE_TYPES, option,
        f'estimates, such as {" or ".join(ESTIMATE_ENDINGS)} (name another with {option})')


def _read_reference(bag: Bag, estimate_topic: Topic, options: RunOptions, map_frame: str,
                    camera_frame: str) -> CameraPoses:
    tree = read_transforms(bag)
    if options.is_from_transforms:
        parent = frame_name(options.reference_parent or map_frame)
        child = frame_name(options.reference_child or camera_frame)
        try:
            return poses_between_frames(bag, tree, parent, child, options.bag, camera_frame)
        except SceneError as error:
            raise SceneError(f'{error} (--reference-parent, --reference-child)') from None
    topic = _choose_reference_topic(bag, estimate_topic, options, tree.frames)
    given = options.bag
    is_camera = topic.name == CAMERA_REFERENCE_TOPIC and topic.type_name == POSE_STAMPED_TYPE
    if is_camera and given.pose_frame is None and given.T_body_camera is None:
        given = replace(given, pose_is_camera=True)
    return poses_from_topic(bag, topic, tree, given, camera_frame, '--reference-frame')


def _choose_reference_topic(bag: Bag, estimate_topic: Topic, options: RunOptions,
                            tf_frames: Sequence[str]) -> Topic:
    option = '--reference-topic'
    if options.reference_topic is not None:
        topic = choose_topic(bag, POSE_TYPES, options.reference_topic, option, 'reference poses')
        if topic == estimate_topic:
            raise SceneError(f'{bag.path}: {topic} cannot be its own reference; name another '
                             f'topic with {option}')
        return topic
    candidates = [t for t in bag.of_types(POSE_TYPES) if t != estimate_topic
                  and not f'/{t.name}'.endswith(_NEVER_REFERENCE)]
    agreed = [t for t in candidates if t.name == CAMERA_REFERENCE_TOPIC]
    if not candidates:
        raise SceneError(
            f'{bag.path}: holds no reference poses beside the estimates on {estimate_topic.name}: '
            f'no other topic of {", ".join(POSE_TYPES)}; give two frames of the transforms with '
            f'--reference-parent and --reference-child (frames: '
            f'{list(tf_frames) or "none recorded"}), or record a reference with the run')
    return only_topic(bag, agreed or candidates, POSE_TYPES, option, 'reference poses')


def _check_same_world(bag: Bag, estimate_topic: Topic, map_frame: str,
                      reference: CameraPoses) -> None:
    if map_frame and reference.world_frame and map_frame != reference.world_frame:
        raise SceneError(
            f'{bag.path}: the estimates on {estimate_topic.name} are in {map_frame!r}, the '
            f'reference ({reference.description}) is in {reference.world_frame!r}; choose a '
            f'reference in {map_frame!r} (--reference-topic, --reference-parent), or pass '
            f'--same-world where both names mean one frame')


def _read_images(bag: Bag, topic: Topic) -> tuple[tuple[RecordedImage, ...], StreamCounts]:
    images: list[RecordedImage] = []
    messages = damaged = unusable = 0
    for _, time_ns, message in bag.timed_messages([topic]):
        messages += 1
        if message is None:
            damaged += 1
            continue
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns > 0:
            images.append(RecordedImage(stamp_ns, time_ns))
        else:
            unusable += 1
    if not images:
        raise SceneError(f'{bag.path}: {topic} has no usable image, all are without stamp or '
                         f'damaged; record again with stamps in the headers')
    return _in_time(images, StreamCounts(messages, damaged, unusable))


def _read_estimates(bag: Bag, topic: Topic,
                    ) -> tuple[tuple[RecordedEstimate, ...], StreamCounts, str]:
    estimates: list[RecordedEstimate] = []
    messages = damaged = unusable = 0
    worlds = set()
    for _, time_ns, message in bag.timed_messages([topic]):
        messages += 1
        if message is None:
            damaged += 1
            continue
        sample = pose_sample(message)
        if not sample.is_usable:
            unusable += 1
            continue
        worlds.add(frame_name(message.header.frame_id))
        estimates.append(RecordedEstimate(sample.stamp_ns, time_ns, sample.to_matrix(),
                                          _covariance(message)))
    if not estimates:
        raise SceneError(f'{bag.path}: {topic} has no usable estimate, all are without stamp, '
                         f'damaged, with NaN or with a quaternion whose length is not 1')
    if len(worlds) > 1:
        raise SceneError(f'{bag.path}: {topic} mixes poses of several frames, frame_id is one of '
                         f'{sorted(worlds)}; judge each in a recording of its own')
    kept, counts = _in_time(estimates, StreamCounts(messages, damaged, unusable))
    return kept, counts, worlds.pop()


def _covariance(message: Any) -> np.ndarray | None:
    values = getattr(message.pose, 'covariance', None)
    return None if values is None else np.array(values, np.float64).reshape(6, 6)


def _in_time(items: list[_Item], counts: StreamCounts) -> tuple[tuple[_Item, ...], StreamCounts]:
    """The items by stamp, of several with one stamp the first, and what was counted."""
    first: dict[int, _Item] = {}
    for item in items:
        first.setdefault(item.stamp_ns, item)
    kept = tuple(first[stamp_ns] for stamp_ns in sorted(first))
    return kept, replace(counts, duplicates=len(items) - len(kept),
                         disordered=count_disordered(item.stamp_ns for item in items))
