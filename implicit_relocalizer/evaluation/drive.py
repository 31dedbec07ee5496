# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a played drive brought back, and its comparison with the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.metrics import (
    ErrorSummary,
    Float64Array,
    PoseErrors,
    pose_errors,
    summarize,
)


@dataclass(frozen=True)
class SentFrame:
    """A frame that was published: its stamp and the clock just before publishing."""

    name: str
    stamp_ns: int
    sent_ns: int


@dataclass(frozen=True)
class ReceivedPose:
    """A pose or transform that came back: child in parent coordinates, metres, x y z w."""

    stamp_ns: int
    received_ns: int
    parent: str
    child: str
    position_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]

    def to_matrix(self) -> Float64Array:
        """T_parent_child as 4x4."""
        T_44 = np.eye(4)
        T_44[:3, :3] = Rotation.from_quat(self.quaternion_xyzw).as_matrix()
        T_44[:3, 3] = self.position_m
        return T_44


@dataclass(frozen=True)
class DriveObservations:
    """Everything that was sent and received while a drive was played, on one clock.

    Attributes:
        camera_frame: The frame_id of the images.
        frames: In the order of sending.
        poses: On the pose topic, in the order of arrival; they carry no child frame.
        transforms: On /tf, in the order of arrival.
    """

    camera_frame: str
    frames: tuple[SentFrame, ...]
    poses: tuple[ReceivedPose, ...]
    transforms: tuple[ReceivedPose, ...]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + '\n')

    @classmethod
    def load(cls, path: Path) -> DriveObservations:
        """Read what `save` wrote."""
        values = json.loads(path.read_text())
        return cls(values['camera_frame'],
                   tuple(SentFrame(**item) for item in values['frames']),
                   tuple(_received_pose(item) for item in values['poses']),
                   tuple(_received_pose(item) for item in values['transforms']))


@dataclass(frozen=True)
class DriveResult:
    """A drive beside its truth; n frames were sent, m of them answered.

    Attributes:
        names: Of the n frames sent.
        T_world_camera_true: (n, 4, 4).
        T_world_camera: (n, 4, 4), NaN where no answer came.
        answered: (n,) booleans.
        errors: Of the m answered frames, in order.
        latencies_ms: (m,) from publishing the image to receiving its pose.
        unknown_stamps: Poses whose stamp is no image's stamp.
        duplicate_stamps: Poses whose stamp had been answered before.
        poses_without_tf: Answered poses with no transform of the same stamp and frames.
        tf_difference: Largest difference of a pose and its transform in any coordinate (metres)
            or quaternion component; 0 where there is nothing to compare.
    """

    names: tuple[str, ...]
    T_world_camera_true: Float64Array
    T_world_camera: Float64Array
    answered: NDArray[np.bool_]
    errors: PoseErrors
    latencies_ms: Float64Array
    unknown_stamps: int
    duplicate_stamps: int
    poses_without_tf: int
    tf_difference: float

    def summarize(self) -> ErrorSummary:
        """Errors and recall over the frames sent."""
        return summarize(self.errors, len(self.names))


def evaluate_drive(observations: DriveObservations, frames: Iterable[Frame]) -> DriveResult:
    """Join answers to the frames they belong to by stamp, and compare them with the truth.

    Args:
        observations: What was sent and received.
        frames: Frames of the scene, among them all that were sent.

    Raises:
        KeyError: a frame that was sent is not among `frames`.
    """
    truth = {frame.name: frame.T_world_camera for frame in frames}
    true_n44 = np.array([truth[sent.name] for sent in observations.frames]).reshape(-1, 4, 4)
    index_of_stamp = {sent.stamp_ns: i for i, sent in enumerate(observations.frames)}
    answers: dict[int, ReceivedPose] = {}
    unknown = duplicates = 0
    for pose in observations.poses:
        index = index_of_stamp.get(pose.stamp_ns)
        if index is None:
            unknown += 1
        elif index in answers:
            duplicates += 1
        else:
            answers[index] = pose
    estimate_n44 = np.full_like(true_n44, np.nan)
    for index, pose in answers.items():
        estimate_n44[index] = pose.to_matrix()
    order = sorted(answers)
    latencies_ms = [(answers[i].received_ns - observations.frames[i].sent_ns) / 1e6 for i in order]
    without_tf, tf_difference = _compare_with_tf(
        [answers[i] for i in order], observations.transforms, observations.camera_frame)
    return DriveResult(
        names=tuple(sent.name for sent in observations.frames),
        T_world_camera_true=true_n44, T_world_camera=estimate_n44,
        answered=np.array([i in answers for i in range(len(true_n44))], dtype=bool),
        errors=pose_errors(true_n44[order], estimate_n44[order]),
        latencies_ms=np.array(latencies_ms),
        unknown_stamps=unknown, duplicate_stamps=duplicates,
        poses_without_tf=without_tf, tf_difference=tf_difference)


def _compare_with_tf(poses: Iterable[ReceivedPose], transforms: Iterable[ReceivedPose],
                     camera_frame: str) -> tuple[int, float]:
    transform_of = {(t.stamp_ns, t.parent): t for t in transforms if t.child == camera_frame}
    missing, largest = 0, 0.0
    for pose in poses:
        transform = transform_of.get((pose.stamp_ns, pose.parent))
        if transform is None:
            missing += 1
            continue
        q_pose, q_tf = np.array(pose.quaternion_xyzw), np.array(transform.quaternion_xyzw)
        largest = max(
            largest,
            float(np.abs(np.subtract(pose.position_m, transform.position_m)).max()),
            float(min(np.abs(q_pose - q_tf).max(), np.abs(q_pose + q_tf).max())))
    return missing, largest


def _received_pose(item: dict) -> ReceivedPose:
    return ReceivedPose(**{**item, 'position_m': tuple(item['position_m']),
                           'quaternion_xyzw': tuple(item['quaternion_xyzw'])})
