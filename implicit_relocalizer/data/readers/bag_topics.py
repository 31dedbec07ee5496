# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Which topic of a recording is meant: the named one, or the only one that fits."""

from __future__ import annotations

from collections.abc import Collection

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.readers.bag_images import IMAGE_TYPES, shows_a_scene
from implicit_relocalizer.data.readers.bag_storage import Bag, Topic

CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'


def choose_topic(bag: Bag, type_names: Collection[str], name: str | None, option: str,
                 content: str) -> Topic:
    """A topic of certain types.

    Args:
        bag: The recording.
        type_names: Of the messages.
        name: As the user gave it, or None for the only candidate.
        option: Of the command line that names it, for messages.
        content: What it holds, for messages.

    Raises:
        SceneError: missing, empty, of another type, or several candidates.
    """
    if name is not None:
        return _named_topic(bag, type_names, name)
    return only_topic(bag, bag.of_types(type_names), type_names, option, content)


def only_topic(bag: Bag, candidates: list[Topic], type_names: Collection[str], option: str,
               content: str) -> Topic:
    """The only one of some candidates; arguments as for `choose_topic`.

    Raises:
        SceneError: there is none, or several.
    """
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise SceneError(f'{bag.path}: no topic with {content}; {_candidates(bag, type_names)}')
    listed = ', '.join(map(str, candidates))
    raise SceneError(f'{bag.path}: several topics with {content}; choose one with {option}: '
                     f'{listed}')


def choose_image_topic(bag: Bag, name: str | None) -> Topic:
    """The topic of images; those of depth are no candidates.

    As for image_transport, a name may also stand for its compressed images.

    Raises:
        SceneError: as `choose_topic`.
    """
    if name is not None:
        compressed = f'{name.rstrip("/")}/compressed'
        if _of_name(bag, compressed) and not _of_name(bag, name):
            name = compressed
        return _named_topic(bag, IMAGE_TYPES, name)
    candidates = [topic for topic in bag.of_types(IMAGE_TYPES) if shows_a_scene(bag.first(topic))]
    return only_topic(bag, candidates, IMAGE_TYPES, '--image-topic', 'images')


def choose_camera_info_topic(bag: Bag, name: str | None, image_topic: Topic,
                             remedy: str = '; or give a YAML file of camera_calibration as '
                                           '--camera-info-file') -> Topic:
    """The calibrations of a camera: those beside its images, or the only ones.

    Args:
        bag: The recording.
        name: As the user gave it, or None to look for it.
        image_topic: Of the camera.
        remedy: Ends the messages.

    Raises:
        SceneError: as `choose_topic`.
    """
    if name is None:
        parts = image_topic.name.split('/')
        # image_transport adds a part below the image topic, which lies beside camera_info.
        siblings = {'/'.join([*parts[:-n], 'camera_info']) for n in (1, 2)}
        beside = [t for t in bag.of_types([CAMERA_INFO_TYPE]) if t.name in siblings]
        if beside:
            return max(beside, key=lambda topic: len(topic.name))
    try:
        return choose_topic(bag, [CAMERA_INFO_TYPE], name, '--camera-info-topic', 'calibrations')
    except SceneError as error:
        raise SceneError(f'{error}{remedy}') from None


def _named_topic(bag: Bag, type_names: Collection[str], name: str) -> Topic:
    found = _of_name(bag, name)
    fitting = [t for t in found if t.type_name in type_names]
    if not found:
        raise SceneError(f'{bag.path}: has no topic {name}; {_candidates(bag, type_names)}')
    if not fitting:
        raise SceneError(f'{bag.path}: {found[0]} is of another type; '
                         f'{_candidates(bag, type_names)}')
    if fitting[0].count == 0:
        raise SceneError(f'{bag.path}: {fitting[0]} is empty (was its publisher running, with a '
                         f'compatible QoS?); {_candidates(bag, type_names)}')
    return fitting[0]


def _of_name(bag: Bag, name: str) -> list[Topic]:
    return [t for t in bag.topics if t.name.strip('/') == name.strip('/')]


def _candidates(bag: Bag, type_names: Collection[str]) -> str:
    fitting = [t for t in bag.topics if t.type_name in type_names]
    if fitting:
        return f'fitting topics: {", ".join(map(str, fitting))}'
    everything = ', '.join(map(str, bag.topics)) or 'none'
    return f'expected {" or ".join(type_names)}, the bag has: {everything}'
