# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What was seen of a robot's ROS graph in a few seconds, free of ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from implicit_relocalizer.localization.camera_check import CameraCalibration, Size

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE_TYPE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'

# The node's own defaults; what the running node says about itself comes before them.
_DEFAULTS: Mapping[str, Any] = {
    'tf_mode': 'map_to_camera', 'map_frame': 'map', 'odom_frame': 'odom',
    'base_frame': 'base_link', 'camera_frame': '', 'rectified': False, 'use_sim_time': False}

ASKED_PARAMETERS = (*_DEFAULTS, 'device', 'odometry')


@dataclass(frozen=True)
class Expectation:
    """How the robot is meant to be set up; attributes as the node's parameters of these names.

    `camera_frame` is empty where neither the user, the node nor an image names it.
    """

    tf_mode: str
    map_frame: str
    odom_frame: str
    base_frame: str
    camera_frame: str
    rectified: bool
    use_sim_time: bool


@dataclass(frozen=True)
class Publisher:
    """One publisher of a topic: fully qualified node name, message type, quality of service."""

    node: str
    type_name: str
    qos: str


@dataclass(frozen=True)
class Topic:
    """A topic that the relocalizer needs.

    Attributes:
        name: Absolute name.
        type_name: The message type that is wanted.
        publishers: Everyone who publishes on it, of whatever type.
        others: Other topics that somebody publishes, with the type; most similar first.
        incompatible: What the middleware says about each publisher that the relocalizer's
            subscription cannot hear.
    """

    name: str
    type_name: str
    publishers: tuple[Publisher, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    incompatible: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSeen:
    """One image as it came in.

    Attributes:
        arrival_s: Seconds since the watch began, by a clock that never jumps.
        stamp_ns: Stamp of its header.
        wall_ns: System time at arrival.
        clock_ns: Time of the last /clock message before it; None where there was none.
        frame_id: Frame of its header.
    """

    arrival_s: float
    stamp_ns: int
    wall_ns: int
    clock_ns: int | None
    frame_id: str


@dataclass(frozen=True)
class TransformLink:
    """One parent -> child of the transform tree.

    Attributes:
        parent, child: Frames.
        is_static: It came on the topic of static transforms.
        senders: Fully qualified names of the nodes that sent it; empty where the middleware
            does not say.
        is_contested: More than one publisher sent it by turns.
    """

    parent: str
    child: str
    is_static: bool
    senders: tuple[str, ...] = ()
    is_contested: bool = False


@dataclass(frozen=True)
class Lookup:
    """Whether tf2 answers; `problem` are its words if not, `stamp_ns` is 0 if all is static."""

    found: bool
    problem: str = ''
    stamp_ns: int = 0


@dataclass(frozen=True)
class Transforms:
    """The transform tree.

    Attributes:
        links: Everything that was sent.
        odometry: T_odom_base.
        camera_mount: T_base_camera; None where the camera's frame has no name.
        publishers: Nodes that can send on /tf.
    """

    links: tuple[TransformLink, ...] = ()
    odometry: Lookup = Lookup(False)
    camera_mount: Lookup | None = None
    publishers: tuple[str, ...] = ()

    @property
    def frames(self) -> tuple[str, ...]:
        """Every frame that was named, sorted."""
        return tuple(sorted({frame for link in self.links for frame in (link.parent, link.child)}))

    def is_below(self, frame: str, ancestor: str) -> bool:
        """Whether a frame is the other or hangs below it, directly or not."""
        reached, waiting = {frame}, [frame]
        while waiting:
            child = waiting.pop()
            parents = {link.parent for link in self.links if link.child == child} - reached
            reached |= parents
            waiting += parents
        return ancestor in reached


@dataclass(frozen=True)
class Clock:
    """The topic of simulated time: who publishes it, and how many messages came."""

    publishers: tuple[str, ...] = ()
    messages: int = 0


@dataclass(frozen=True)
class Relocalizer:
    """Our own node, from outside.

    Attributes:
        name: Fully qualified name that was looked for; empty for none.
        count: How many nodes have this name.
        lifecycle: Label of its lifecycle state; empty where it did not answer.
        parameters: Those of ASKED_PARAMETERS that it told.
        diagnostics: Its last values on /diagnostics; empty where none came.
        subscriptions: Topics of images and CameraInfo that it listens to, with the type.
    """

    name: str = ''
    count: int = 0
    lifecycle: str = ''
    parameters: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, str] = field(default_factory=dict)
    subscriptions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Model:
    """The model file: `problem` says why it cannot be read, else the other fields hold."""

    path: str
    problem: str = ''
    scene: str = ''
    world_frame: str = ''
    image_size: Size = (0, 0)


@dataclass(frozen=True)
class Computer:
    """Where this program runs: how a GPU shows (empty: no GPU), and whether torch can use it."""

    gpu: str = ''
    torch_version: str = ''
    torch_has_cuda: bool = False


@dataclass(frozen=True)
class Observation:
    """Everything seen in `seconds` of watching.

    `nodes` and `topics` are those of others: hidden nodes, the doctor itself and the topics that
    every node has are left out. `image_size` (width and height in pixels) and `calibration` are
    None where no message came, or one that the node cannot use, as `image_problem` and
    `calibration_problem` then say. `environment` decides whom one can see.
    """

    seconds: float
    expected: Expectation
    image: Topic
    camera_info: Topic
    nodes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    images: tuple[ImageSeen, ...] = ()
    image_size: Size | None = None
    image_problem: str = ''
    calibration: CameraCalibration | None = None
    calibration_problem: str = ''
    transforms: Transforms = Transforms()
    clock: Clock = Clock()
    relocalizer: Relocalizer = field(default_factory=Relocalizer)
    model: Model | None = None
    computer: Computer = Computer()
    environment: Mapping[str, str] = field(default_factory=dict)


def resolve_expectation(given: Mapping[str, Any], parameters: Mapping[str, Any],
                        image_frame: str) -> Expectation:
    """What is expected: the user's word, else the running node's, else the node's defaults.

    Args:
        given: By name, None or absent where the user said nothing.
        parameters: By name, what the node told.
        image_frame: frame_id of the images, the camera's frame where nobody names another.
    """
    values = {name: next(value for value in (given.get(name), parameters.get(name), default)
                         if value is not None)
              for name, default in _DEFAULTS.items()}
    values['camera_frame'] = values['camera_frame'] or image_frame
    return Expectation(**values)
