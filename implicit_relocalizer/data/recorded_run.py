# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded run: what was asked, what was answered, and where the camera really was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from implicit_relocalizer.data.frames import Float64Array
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.bag_poses import CameraPoses
from implicit_relocalizer.data.readers.pose_track import StreamCounts


@dataclass(frozen=True)
class RunOptions:
    """What a user may say about a recorded run; what is left out is looked for in it.

    Attributes:
        estimate_topic: PoseStamped or PoseWithCovarianceStamped of the camera; when None, the
            only topic that ends in `relocalizer/pose_with_covariance`, else `relocalizer/pose`.
        reference_topic: PoseStamped, PoseWithCovarianceStamped or Odometry.
        reference_parent: Take the reference from the transforms of this frame, not from a topic;
            the frame of the estimates when only `reference_child` is given.
        reference_child: The frame whose transforms are the reference; the camera's when only
            `reference_parent` is given.
        is_same_world: The frame of the reference is that of the estimates under another name.
        bag: `image_topic`, `camera_frame`, `pose_frame` (whose poses the reference topic holds),
            `T_body_camera`, `pose_is_camera` and `max_gap_s` count.
    """

    estimate_topic: str | None = None
    reference_topic: str | None = None
    reference_parent: str | None = None
    reference_child: str | None = None
    is_same_world: bool = False
    bag: BagOptions = field(default_factory=BagOptions)

    @property
    def is_from_transforms(self) -> bool:
        """Whether the reference comes from transforms, not from a topic."""
        return self.reference_parent is not None or self.reference_child is not None

    def __post_init__(self) -> None:
        """Check what can be checked without the bag."""
        if self.reference_topic is not None and self.is_from_transforms:
            raise ValueError(
                f'the reference comes from the topic {self.reference_topic!r} or from transforms '
                f'({self.reference_parent!r} -> {self.reference_child!r}); give one of the two')


@dataclass(frozen=True)
class RecordedImage:
    """An image that was to be answered: its stamp and its time of recording."""

    stamp_ns: int
    bag_time_ns: int


@dataclass(frozen=True, eq=False)
class RecordedEstimate:
    """An answer.

    Attributes:
        stamp_ns: Of the image that it belongs to.
        bag_time_ns: When it was recorded.
        T_map_camera: 4x4, metres, optical axes.
        covariance_66: Of x y z (metres) and the rotation about the map's fixed x, y, z axes
            (radians), as REP-103 orders them; None where the topic has none.
    """

    stamp_ns: int
    bag_time_ns: int
    T_map_camera: Float64Array
    covariance_66: Float64Array | None


@dataclass(frozen=True)
class StateChange:
    """The node's state from a time on.

    Attributes:
        since_ns: Stamp of the first diagnostics that said so.
        state: SEARCHING, LOCALIZED, LOST, ...
        reason: Why it changed, a stable word.
        refusal: Why the last image before was refused, in words; may be empty.
    """

    since_ns: int
    state: str
    reason: str
    refusal: str


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """A run of the node as a bag holds it.

    Attributes:
        name: Of the recording.
        path: Where it lies.
        image_topic: Of the images asked.
        estimate_topic: Of the answers.
        diagnostics_topic: Of the states; None where none were recorded.
        map_frame: In which the estimates are.
        camera_frame: Optical frame of the camera.
        images: By stamp, each stamp once; at least one.
        estimates: By stamp, each stamp once; at least one.
        reference: Where the camera really was, in the map.
        states: In the order of recording.
        counts: Of the topics, by 'images', 'estimates' and, where it is a topic, 'reference'.
    """

    name: str
    path: Path
    image_topic: str
    estimate_topic: str
    diagnostics_topic: str | None
    map_frame: str
    camera_frame: str
    images: tuple[RecordedImage, ...]
    estimates: tuple[RecordedEstimate, ...]
    reference: CameraPoses
    states: tuple[StateChange, ...]
    counts: dict[str, StreamCounts]
