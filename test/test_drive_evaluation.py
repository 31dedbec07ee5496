# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Answers joined to images by stamp, the requirements on them, and the view from above."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.checks import Check, check_conduct, check_synthetic_accuracy
from implicit_relocalizer.evaluation.drive import (
    DriveObservations,
    ReceivedPose,
    SentFrame,
    evaluate_drive,
)
from implicit_relocalizer.evaluation.metrics import RecallLimit
from implicit_relocalizer.evaluation.picture import draw_drive
from implicit_relocalizer.evaluation.viewpoint import view_from_above, view_from_behind

CAMERA = 'camera_optical_frame'
MS = 1_000_000


def make_frames(count: int) -> list[Frame]:
    rng = np.random.default_rng(3)
    frames = []
    for i, rotation in enumerate(Rotation.random(count, rng=rng)):
        T_44 = np.eye(4)
        T_44[:3, :3], T_44[:3, 3] = rotation.as_matrix(), rng.normal(size=3)
        frames.append(Frame(f'{i:03}', Path('unused.jpg'), np.eye(3), T_44, 'test'))
    return frames


def answer(frame: Frame, stamp_ns: int, child: str = '', offset_m: float = 0.0) -> ReceivedPose:
    x, y, z = frame.T_world_camera[:3, 3].tolist()
    qx, qy, qz, qw = Rotation.from_matrix(frame.T_world_camera[:3, :3]).as_quat().tolist()
    return ReceivedPose(stamp_ns, stamp_ns + 60 * MS, 'map', child, (x + offset_m, y, z),
                        (qx, qy, qz, qw))


@pytest.fixture
def frames() -> list[Frame]:
    return make_frames(10)


@pytest.fixture
def observations(frames: list[Frame]) -> DriveObservations:
    """Ten images, all answered 1 cm off, 50 ms after sending."""
    sent = tuple(SentFrame(frame.name, 100 * MS * i, 100 * MS * i + 10 * MS)
                 for i, frame in enumerate(frames))
    return DriveObservations(
        CAMERA, sent,
        tuple(answer(f, s.stamp_ns, '', 0.01) for f, s in zip(frames, sent, strict=True)),
        tuple(answer(f, s.stamp_ns, CAMERA, 0.01) for f, s in zip(frames, sent, strict=True)))


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def test_a_good_drive_passes_every_check(frames, observations):
    drive = evaluate_drive(observations, frames)
    np.testing.assert_allclose(drive.errors.translation_m, 0.01, atol=1e-9)
    np.testing.assert_allclose(drive.latencies_ms, 50.0)
    assert failed(check_conduct(drive)) == failed(check_synthetic_accuracy(drive)) == set()


def test_observations_survive_the_file(observations, tmp_path):
    observations.save(tmp_path / 'observations.json')
    assert DriveObservations.load(tmp_path / 'observations.json') == observations


def test_silence_lowers_recall_and_is_checked(frames, observations):
    drive = evaluate_drive(replace(observations, poses=observations.poses[:8]), frames)
    assert drive.answered.tolist() == [True] * 8 + [False] * 2
    assert drive.summarize().recall['5cm_5deg'] == pytest.approx(0.8)
    assert failed(check_conduct(drive)) == {'answered'}
    silent = evaluate_drive(replace(observations, poses=()), frames)
    assert {'answered', 'tf_difference'} <= failed(check_conduct(silent))
    assert failed(check_synthetic_accuracy(silent)) == {
        'median_translation_m', 'median_rotation_deg', 'recall_10cm_5deg'}


def test_stamps_that_are_no_images_or_come_twice_are_counted(frames, observations):
    strange = answer(frames[0], 12345)
    drive = evaluate_drive(
        replace(observations, poses=(*observations.poses, observations.poses[0], strange)), frames)
    assert (drive.unknown_stamps, drive.duplicate_stamps) == (1, 1)
    assert failed(check_conduct(drive)) == {'unknown_stamps', 'duplicate_stamps'}


def test_tf_must_agree_with_the_pose(frames, observations):
    first, *others = observations.transforms
    x, y, z = first.position_m
    moved = replace(first, position_m=(x, y + 2e-6, z))
    drive = evaluate_drive(replace(observations, transforms=(moved, *others)), frames)
    assert drive.tf_difference == pytest.approx(2e-6)
    assert failed(check_conduct(drive)) == {'tf_difference'}
    other_frame = replace(first, child='base_link')
    drive = evaluate_drive(replace(observations, transforms=(other_frame, *others)), frames)
    assert failed(check_conduct(drive)) == {'poses_without_tf'}


def test_the_opposite_quaternion_is_the_same_rotation(frames, observations):
    flipped = tuple(replace(t, quaternion_xyzw=tuple(-q for q in t.quaternion_xyzw))
                    for t in observations.transforms)
    drive = evaluate_drive(replace(observations, transforms=flipped), frames)
    assert failed(check_conduct(drive)) == set()


def test_a_check_describes_its_verdict():
    missed = Check('c', 'training [s]', 400.0, 'at most', 300.0, required=False)
    assert missed.describe() == 'warning training [s]: 400, at most 300'
    assert replace(missed, required=True).describe().startswith('FAILED')
    assert replace(missed, value=float('nan')).to_dict()['value'] is None


def test_the_picture_of_a_silent_drive_can_be_drawn(frames, observations, tmp_path):
    # The run that went wrong is the one whose picture is wanted most.
    drive = evaluate_drive(replace(observations, poses=()), frames)
    T_training_n44 = np.array([frame.T_world_camera for frame in frames])
    draw_drive(tmp_path / 'demo.png', 'silence', drive, T_training_n44, [], RecallLimit(0.1, 5.0))
    with Image.open(tmp_path / 'demo.png') as picture:
        assert picture.size == (1800, 1200)


# Axes of a level camera looking along world +x, for up = +z and for up = -y (an OpenCV world).
LEVEL_Z_UP = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
LEVEL_Y_DOWN = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])


@pytest.mark.parametrize(('R_world_camera', 'up', 'names'), [
    (LEVEL_Z_UP, (0, 0, 1), ('x', 'y')), (LEVEL_Y_DOWN, (0, -1, 0), ('x', 'z'))])
def test_the_view_from_above_finds_up_and_is_no_mirror_image(R_world_camera, up, names):
    T_44 = np.eye(4)
    T_44[:3, :3] = R_world_camera
    view = view_from_above(T_44[None])
    np.testing.assert_allclose(view.up_3, up)
    assert (view.right_name, view.up_name) == names
    np.testing.assert_allclose(np.cross(view.right_3, view.up_in_picture_3), view.up_3)
    # A point left of a camera that looks up in the picture lies left of it in the picture too.
    behind = view_from_behind(T_44, view.up_3, elevation_deg=90.0)
    left_of_camera = -T_44[None, :3, 0]
    np.testing.assert_allclose(behind.project(left_of_camera), [[-1.0, 0.0]], atol=1e-12)
    assert behind.depth(-view.up_3[None])[0] > behind.depth(view.up_3[None])[0]
