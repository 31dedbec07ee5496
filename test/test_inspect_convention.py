# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The convention check: every way of writing poses down is recognised, and doubt is admitted."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from box_room import IMAGE_SIZE, K_33, BoxRoom, camera_pose, sweep
from PIL import Image

from implicit_relocalizer.data.frames import Frame, Scene
from implicit_relocalizer.data.scenes import read_scene
from implicit_relocalizer.evaluation.calibration_check import resized, scaled_focal
from implicit_relocalizer.evaluation.feature_pairs import (
    TOO_FEW_FEATURES,
    TOO_LITTLE_MOTION,
    PairFinder,
)
from implicit_relocalizer.evaluation.pose_convention import MIN_PAIRS, check_convention
from implicit_relocalizer.evaluation.pose_readings import GIVEN, READINGS
from implicit_relocalizer.evaluation.scene_check import check_scene

OPENGL = np.diag([1.0, -1, -1, 1])
BODY = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
MIRROR = np.diag([1.0, -1, 1, 1])
COMMON = [reading.key for reading in READINGS if reading.is_common]
CONVERT = {reading.key: reading.convert for reading in READINGS}


def inverse(T):
    return np.linalg.inv(T)


# How a file of that convention writes a camera-to-world pose with OpenCV axes (n, 4, 4).
WRITE = {
    'camera_to_world_opencv': lambda T: T,
    'world_to_camera_opencv': inverse,
    'camera_to_world_opengl': lambda T: T @ OPENGL,
    'world_to_camera_opengl': lambda T: inverse(T @ OPENGL),
    'camera_to_world_ros_body': lambda T: T @ inverse(BODY),
    'world_to_camera_ros_body': lambda T: inverse(T @ inverse(BODY)),
    'camera_to_world_left_handed': lambda T: MIRROR @ T @ MIRROR,
    'world_to_camera_left_handed': lambda T: inverse(MIRROR @ T @ MIRROR),
    'rotation_transposed_opencv': lambda T: transposed(T),
    'rotation_transposed_opengl': lambda T: transposed(T @ OPENGL),
    'translation_world_to_camera': lambda T: with_rotation(inverse(T), T[:, :3, :3]),
    # Reading w x y z as x y z w rolls one way, which the other mistake rolls back.
    'quaternion_wxyz': CONVERT['quaternion_xyzw'],
    'quaternion_xyzw': CONVERT['quaternion_wxyz'],
    'quaternion_wxyz_of_inverse': CONVERT['quaternion_xyzw_of_inverse'],
    'quaternion_xyzw_of_inverse': CONVERT['quaternion_wxyz_of_inverse'],
}


def with_rotation(T_n44, R_n33):
    out = T_n44.copy()
    out[:, :3, :3] = R_n33
    return out


def transposed(T_n44):
    return with_rotation(T_n44, T_n44[:, :3, :3].transpose(0, 2, 1))


def with_poses(frames, T_n44):
    return [replace(frame, T_world_camera=T) for frame, T in zip(frames, T_n44, strict=True)]


def poses_of(frames):
    return np.stack([frame.T_world_camera for frame in frames])


def room_scene(poses, split=lambda index: 'test' if index % 6 == 3 else 'train') -> Scene:
    """The box room seen from poses, images in memory."""
    room = BoxRoom()
    frames = []
    for index, T_world_camera in enumerate(poses):
        buffer = io.BytesIO()
        Image.fromarray(room.render(T_world_camera)[0]).save(buffer, 'PNG')
        frames.append(Frame(f'{index:04d}', Path(f'{index:04d}.png'), K_33, T_world_camera,
                            split(index), image_bytes=buffer.getvalue()))
    return Scene('room', Path('room'), tuple(frames), IMAGE_SIZE)


@pytest.fixture(scope='module')
def room():
    scene = room_scene(sweep(30))
    return scene, PairFinder(scene.frames).spread(10).pairs


@pytest.fixture(scope='module')
def real(two_rooms):
    """A stretch of the real scene, matched once."""
    scene = read_scene(two_rooms)
    scene = replace(scene, frames=scene.frames[60:120])
    return scene, PairFinder(scene.frames).spread(8).pairs


@pytest.mark.parametrize('key', COMMON)
def test_each_of_the_four_conventions_is_recognised_on_real_images(real, key):
    scene, pairs = real
    assert len(pairs) >= MIN_PAIRS
    frames = with_poses(scene.frames, WRITE[key](poses_of(scene.frames)))
    check = check_convention(frames, pairs, scene.image_size)
    assert [reading.key for reading in check.fitting] == [key]
    assert check.verdict == ('fits' if key == GIVEN.key else 'other_fits')
    errors_px = {row.reading.key: row.evidence.median_px for row in check.rows}
    assert errors_px[key] < 0.7
    assert min(errors_px[other] for other in COMMON if other != key) > 5 * errors_px[key]
    np.testing.assert_allclose(check.best.convert(poses_of(frames)), poses_of(scene.frames),
                               atol=1e-9)


@pytest.mark.parametrize('key', list(WRITE))
def test_every_known_convention_is_recognised_in_the_room(room, key):
    scene, pairs = room
    frames = with_poses(scene.frames, WRITE[key](poses_of(scene.frames)))
    check = check_convention(frames, pairs, scene.image_size)
    assert check.fitting[0].key == key, check.reason
    assert check.evidence_of(check.fitting[0]).median_in_front > 0.95
    result = check.to_dict()
    assert (result['conversion'] is None) == (key == GIVEN.key)


@pytest.mark.parametrize('reading', READINGS, ids=lambda reading: reading.key)
def test_the_numpy_line_is_the_conversion(reading):
    from scipy.spatial.transform import Rotation
    T = camera_pose((1.0, 2.0, 0.5), 40.0, -15.0)
    names = {'np': np, 'Rotation': Rotation, 'T': T.copy()}
    exec(reading.numpy_line, names)
    said = names.get('T_world_camera', names['T'])
    np.testing.assert_allclose(said, reading.convert(T[None])[0], atol=1e-12)


def test_a_table_of_every_convention_knows_them_all():
    assert list(WRITE) == [reading.key for reading in READINGS]


def test_a_slide_to_the_side_does_not_tell_the_axes_apart():
    scene = room_scene([camera_pose((1.0, 0.6 + 0.15 * i, 1.2), 0.0) for i in range(10)])
    check = check_scene(scene, 9).convention
    assert check.verdict == 'undecided'
    assert [reading.key for reading in check.fitting[:2]] == [
        'camera_to_world_opencv', 'camera_to_world_opengl']
    assert 'camera-to-world, OpenGL axes' in check.reason


def test_straight_ahead_only_the_sides_of_the_points_tell():
    scene = room_scene([camera_pose((0.4 + 0.07 * i, 1.4, 1.2), 0.0) for i in range(13)])
    check = check_scene(scene, 9).convention
    rows = {row.reading.key: row.evidence for row in check.rows}
    opencv, opengl = rows['camera_to_world_opencv'], rows['camera_to_world_opengl']
    assert opengl.median_px == pytest.approx(opencv.median_px)
    assert opencv.median_in_front > 0.9 and opengl.median_in_front < 0.1
    assert 'camera_to_world_opengl' not in [reading.key for reading in check.fitting]


def test_pure_rotation_tells_rotations_and_says_nothing_of_translations():
    scene = room_scene([camera_pose((1.2, 1.5, 1.2), 30 * np.sin(0.5 * i), 12 * np.cos(0.7 * i))
                        for i in range(10)])
    check = check_scene(scene, 9)
    assert check.convention.pairs_without_parallax == len(check.search.pairs) >= MIN_PAIRS
    fitting = [reading.key for reading in check.convention.fitting]
    assert fitting[0] == GIVEN.key
    assert not set(fitting) & set(COMMON[1:])
    wrong = with_poses(scene.frames, inverse(poses_of(scene.frames)))
    turned = check_convention(wrong, check.search.pairs, scene.image_size)
    assert turned.verdict == 'other_fits'
    assert turned.fitting[0].key == 'world_to_camera_opencv'
    # With the camera at one place, nobody can know where the files put it.
    assert 'rotation_transposed_opencv' in [reading.key for reading in turned.fitting]


def test_poses_of_other_images_fit_in_no_convention(room):
    scene, pairs = room
    shuffled = np.random.default_rng(0).permutation(poses_of(scene.frames))
    check = check_convention(with_poses(scene.frames, shuffled), pairs, scene.image_size)
    assert check.verdict == 'none_fits' and check.fitting == ()
    assert 'may not belong together' in check.reason


def test_too_few_frames_are_undecided():
    check = check_scene(room_scene(sweep(3)), 3)
    assert check.verdict == 'undecided' and not check.is_contradicted
    assert f'at least {MIN_PAIRS} are needed' in check.convention.reason


def test_blank_images_are_undecided_and_say_so(room):
    scene, _ = room
    buffer = io.BytesIO()
    Image.new('RGB', IMAGE_SIZE, (120, 130, 140)).save(buffer, 'PNG')
    blank = [replace(frame, image_bytes=buffer.getvalue()) for frame in scene.frames[:5]]
    check = check_scene(replace(scene, frames=tuple(blank)), 5)
    assert check.verdict == 'undecided'
    assert check.search.failures == {TOO_FEW_FEATURES: 5}


def test_an_image_that_cannot_be_read_is_counted_by_name(room):
    scene, _ = room
    frames = list(scene.frames[:5])
    frames[2] = replace(frames[2], image_bytes=frames[2].image_bytes[:200])
    failures = check_scene(replace(scene, frames=tuple(frames)), 5).search.failures
    assert [text for text in failures if '0002.png: cannot be decoded' in text]


def test_a_camera_at_rest_is_undecided_and_says_so(room):
    scene, _ = room
    still = tuple(replace(scene.frames[0], name=str(i)) for i in range(5))
    check = check_scene(replace(scene, frames=still), 5)
    assert check.verdict == 'undecided'
    assert check.search.failures == {TOO_LITTLE_MOTION: 5}


MISTAKES = {
    'resized_0.5': lambda K: resized(K, 2.0),
    'resized_2': lambda K: resized(K, 0.5),
    'resized_0.667': lambda K: resized(K, 1.5),
    'centre_swapped': lambda K: np.array([[K[0, 0], 0, K[1, 2]], [0, K[1, 1], K[0, 2]],
                                          [0, 0, 1]]),
    'focal_length': lambda K: scaled_focal(K, 1.15),
}


class Matched(PairFinder):
    """Gives pairs that were matched before, for time."""

    pairs: ClassVar[list] = []

    def spread(self, count):
        found = super().spread(0)
        found.pairs.extend(self.pairs)
        return found


@pytest.fixture
def check_real(real, monkeypatch):
    scene, pairs = real
    monkeypatch.setattr(Matched, 'pairs', pairs)
    monkeypatch.setattr('implicit_relocalizer.evaluation.scene_check.PairFinder', Matched)

    def check(frames, **options):
        return check_scene(replace(scene, frames=tuple(frames)), 8, **options)
    return check


@pytest.mark.parametrize('key', list(MISTAKES))
def test_mistaken_intrinsics_are_named(real, check_real, key):
    scene, _ = real
    check = check_real([replace(frame, K_33=MISTAKES[key](frame.K_33)) for frame in scene.frames])
    assert check.convention.best is GIVEN and check.is_contradicted
    assert check.camera is not None and check.camera.key == key
    assert check.camera.median_px < 0.7
    names = {'np': np, 'K': MISTAKES[key](scene.frames[0].K_33)}
    exec(check.camera.numpy_line, names)
    np.testing.assert_allclose(names['K'], scene.frames[0].K_33, rtol=0.04)


def test_true_labels_pass_and_depth_confirms_metres(real, check_real):
    scene, _ = real
    check = check_real(scene.frames)
    assert check.verdict == 'fits' and not check.is_contradicted
    assert check.camera is None and check.time_shift is None and not check.bad_poses
    assert check.focal is not None and check.focal.factor == pytest.approx(1.0, abs=0.03)
    assert check.unit_ratio == pytest.approx(1.0, abs=0.03)


def test_poses_in_millimetres_contradict_the_depth_images(real, check_real):
    scene, _ = real
    T_n44 = poses_of(scene.frames)
    T_n44[:, :3, 3] *= 1000.0
    check = check_real(with_poses(scene.frames, T_n44))
    assert check.verdict == 'wrong_unit' and check.is_contradicted
    assert check.unit_ratio == pytest.approx(0.001, rel=0.03)


def test_poses_that_are_late_are_noticed(real, check_real):
    scene, _ = real
    check = check_real(with_poses(scene.frames, np.roll(poses_of(scene.frames), 2, axis=0)))
    assert check.time_shift is not None and check.is_contradicted
    assert check.time_shift.key == 'shifted_+2'


def test_one_bad_pose_among_good_ones_is_found(real, check_real):
    scene, _ = real
    T_n44 = poses_of(scene.frames)
    T_n44[30] = T_n44[30] @ camera_pose((0.3, 0.2, 0.4), 80.0)
    check = check_real(with_poses(scene.frames, T_n44), find_suspects=lambda T: [30, 31])
    assert check.verdict == 'fits' and not check.is_contradicted
    assert [bad.index for bad in check.bad_poses] == [30]
    assert check.bad_poses[0].name == scene.frames[30].name
