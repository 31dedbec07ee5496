# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Damaged scenes of every format: one bad frame is left out and named, the rest is an error."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scene_writers
from PIL import Image
from scene_writers import COUNT, WRITERS

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.poses import checked_pose, pose_from_quaternion
from implicit_relocalizer.data.scenes import read_scene

Damage = Callable[[Path], None]


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp('originals')
    shots = scene_writers.take_shots()
    for name, (_, write) in WRITERS.items():
        write(root / name, shots)
    return root


@pytest.fixture
def copy(originals, tmp_path):
    return lambda name: Path(shutil.copytree(originals / name, tmp_path / 'room'))


def replace(file: str, old: str, new: str, count: int = 1) -> Damage:
    """Replace a pattern in a file, which must hold it."""
    def damage(root: Path) -> None:
        text, found = re.subn(old, new, (root / file).read_text(), count=count,
                              flags=re.MULTILINE)
        assert found, f'{file} has no {old}'
        (root / file).write_text(text)
    return damage


def write(file: str, text: str) -> Damage:
    return lambda root: (root / file).write_text(text) and None


def remove(*files: str) -> Damage:
    def damage(root: Path) -> None:
        for file in files:
            (root / file).unlink()
    return damage


def cut(file: str, size: int) -> Damage:
    """Keep the first bytes of a file; of a negative size all but the last."""
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:size]) and None


def set_value(keys: list, value: object) -> Damage:
    """Set, or with None remove, a value in transforms.json."""
    def damage(root: Path) -> None:
        values = json.loads((root / 'transforms.json').read_text())
        target = values
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
        (root / 'transforms.json').write_text(json.dumps(values))
    return damage


def one_portrait(file: str) -> Damage:
    return lambda root: Image.new('RGB', (120, 160)).save(root / file)


SCALED = np.diag([2.0, 2.0, 2.0, 1.0]).tolist()
MIRRORED = np.diag([1.0, 1.0, -1.0, 1.0]).tolist()
SEVEN = 'seq-02/frame-000001'
TWELVE = 'data/frame-000005'
TRANSFORMS_NAME = 'images/r_3'

LEFT_OUT = [
    ('7scenes', write(f'{SEVEN}.pose.txt', '1 0 0 -1.#IND\n' * 4), SEVEN, r"'-1\.#IND'"),
    ('7scenes', write(f'{SEVEN}.pose.txt', 'nan 0 0 0\n' * 4), SEVEN,
     r'000001\.pose\.txt: holds NaN'),
    ('7scenes', write(f'{SEVEN}.pose.txt', ''), SEVEN,
     '0 rows of 0 numbers, expected 4 rows of 4'),
    ('7scenes', remove(f'{SEVEN}.pose.txt'), SEVEN, r'000001\.pose\.txt: missing'),
    ('7scenes', remove(f'{SEVEN}.color.png'), SEVEN, r'000001\.color\.png: no such image'),
    ('7scenes', cut(f'{SEVEN}.color.png', -900), SEVEN, r'000001\.color\.png: cut off or damaged'),
    ('7scenes', one_portrait(f'{SEVEN}.color.png'), SEVEN, r'120x160 while most images .*160x120'),
    ('12scenes', write(f'{TWELVE}.pose.txt', '-inf -inf -inf -inf\n' * 4), 'frame-000005',
     r'000005\.pose\.txt: .*infinity \(-inf'),
    ('12scenes', write(f'{TWELVE}.pose.txt', '1 0 0\n' * 3), 'frame-000005',
     '3 rows of 3 numbers, expected 4'),
    ('12scenes', remove(f'{TWELVE}.color.png'), 'frame-000005', 'no such image'),
    ('12scenes', one_portrait(f'{TWELVE}.color.png'), 'frame-000005', 'calibrated at 160x120'),
    ('cambridge', replace('dataset_train.txt', r'^(seq1/frame00003\.png \S+).*', r'\1 2 3'),
     'seq1/frame00003', r'dataset_train\.txt, line 4: 4 columns, expected name X Y Z W P Q R'),
    ('cambridge', replace('dataset_train.txt', r'^(seq1/frame00003\.png) \S+', r'\1 nan'),
     'seq1/frame00003', r'line 4: holds NaN or infinity'),
    ('cambridge', replace('dataset_train.txt', r'^(seq1/frame00003\.png \S+ \S+ \S+) .*',
                          r'\1 2 0 0 0'), 'seq1/frame00003', r'line 4: .*has the norm 2'),
    ('cambridge', replace('dataset_train.txt', r'^(seq1/frame00003\.png) \S+', r'\1 here'),
     'seq1/frame00003', r"line 4: expected numbers, found 'here"),
    ('cambridge', replace('reconstruction.nvm', 'seq1/frame00003', 'seq1/frame99999'),
     'seq1/frame00003', r'frame00003\.png: has no camera in reconstruction\.nvm'),
    ('cambridge', replace('reconstruction.nvm', r'(seq1/frame00003\.jpg\t)\S+', r'\1nan'),
     'seq1/frame00003', 'the camera holds NaN'),
    ('cambridge', cut('seq1/frame00003.png', 6), 'seq1/frame00003',
     r'not a readable image \(6 bytes\)'),
    ('colmap-text', replace('sparse/0/images.txt', r'7 left eye/3', '8 left eye/3'), 'left eye/3',
     r'images\.txt, line 8: camera 8 is not in the list of cameras, which has \[7\]'),
    ('colmap-text', replace('sparse/0/images.txt', r'^4 \S+', '4 nan'), 'left eye/3',
     r'images\.txt, line 8: holds NaN'),
    ('colmap-text', replace('sparse/0/images.txt', r'^4 \S+', '4 7'), 'left eye/3', 'the norm 7'),
    ('colmap-text', remove('images/left eye/3.png'), 'left eye/3', r'3\.png: no such image'),
    ('colmap-binary', cut('images/3.png', 5000), '3', r'3\.png: cut off or damaged'),
    ('nerfstudio', set_value(['frames', 3, 'transform_matrix', 0, 0], float('nan')),
     TRANSFORMS_NAME, r'transforms\.json, frame 3 \(images/r_3\): holds NaN'),
    ('nerfstudio', set_value(['frames', 3, 'transform_matrix'], SCALED), TRANSFORMS_NAME,
     r'frame 3 .*no rotation'),
    ('nerfstudio', set_value(['frames', 3, 'transform_matrix'], MIRRORED), TRANSFORMS_NAME,
     r'no rotation .*determinant -1'),
    ('nerfstudio', set_value(['frames', 3, 'transform_matrix'], [1, 2]), TRANSFORMS_NAME,
     r'shape \(2,\), expected 4x4'),
    ('nerfstudio', set_value(['frames', 3], {'file_path': 'images/r_3.png'}), TRANSFORMS_NAME,
     'has no transform_matrix'),
    ('nerfstudio', set_value(['frames', 3, 'fl_x'], 'wide'), TRANSFORMS_NAME,
     "fl_x is 'wide', expected a number"),
    ('nerfstudio', set_value(['frames', 3, 'cx'], 400.0), TRANSFORMS_NAME,
     r'principal point \(399\.5, .*outside the 160x120 image'),
    ('nerfstudio', set_value(['frames', 3, 'k4'], 0.1), TRANSFORMS_NAME,
     r'k4 = 0\.1 has no equal'),
    ('nerfstudio', set_value(['frames', 3, 'camera_model'], 'EQUIRECTANGULAR'), TRANSFORMS_NAME,
     'camera_model EQUIRECTANGULAR is not supported'),
    ('nerfstudio', remove('images/r_3.png'), TRANSFORMS_NAME, r'r_3\.png: no such image'),
    ('tum', replace('rgb.txt', r'^(1305031102\.274307) .*', r'\1'), '1305031102',
     r'rgb\.txt, line 6: 1 columns, expected stamp and file name'),
    ('tum', replace('rgb.txt', r'^1305031102\.274307', 'noon'), '1305031102.274307',
     r"line 6: expected numbers, found 'noon'"),
    ('tum', remove('rgb/1305031102.274307.png'), '1305031102.274307', 'no such image'),
]


@pytest.mark.parametrize(('name', 'damage', 'frame', 'reason'), LEFT_OUT,
                         ids=[f'{row[0]}-{row[3][:24]}' for row in LEFT_OUT])
def test_one_bad_frame_is_left_out_and_counted(name, damage, frame, reason, copy):
    root = copy(name)
    damage(root)
    scene = read_scene(root)
    assert len(scene.frames) == COUNT - 1
    (skipped,) = scene.skipped
    assert skipped.name == frame
    assert re.search(reason, skipped.reason), skipped.reason


FATAL = [
    ('7scenes', remove('TestSplit.txt'), r'TestSplit\.txt: missing; expected a list of sequences'),
    ('7scenes', write('TestSplit.txt', 'sequence9\n'), r'line 1: sequence9 has no folder seq-09'),
    ('7scenes', write('TestSplit.txt', 'the first\n'), r"line 1: 'the first' names no sequence"),
    ('7scenes', write('TestSplit.txt', 'sequence2\n'), r'line 1: sequence2 is in both'),
    ('7scenes', write('TestSplit.txt', ''), r'comes with it: holds out 0 of 5 frames'),
    ('7scenes', write('K.txt', '585 585\n'), r'K\.txt: 1 rows of 2 numbers, expected 3 rows of 3'),
    ('12scenes', remove('info.txt'), r'info\.txt: missing; expected the camera'),
    ('12scenes', replace('info.txt', 'm_colorWidth = 160', ''), r"info\.txt: .*'m_colorWidth'"),
    ('12scenes', replace('info.txt', r'(ColorIntrinsic =) \S+', r'\1'),
     r'info\.txt: m_calibrationColorIntrinsic has 15 numbers'),
    ('12scenes', write('split.txt', 'sequence0 [frames=4]\n'),
     r"split\.txt, line 1: 'sequence0 \[frames=4\]', expected a line such as"),
    ('12scenes', write('split.txt', 'sequence0 [frames=4] [start=0 ; end=3]\n'),
     r'split\.txt: 1 sequences'),
    ('cambridge', remove('dataset_test.txt'), r'dataset_test\.txt: missing'),
    ('cambridge', write('dataset_test.txt', 'Visual Landmark Dataset V1\n'),
     'holds out 0 of 7 frames'),
    ('cambridge', remove('reconstruction.nvm'),
     r'reconstruction\.nvm: missing; it holds the focal lengths.*--intrinsics'),
    ('cambridge', cut('reconstruction.nvm', 400), r'reconstruction\.nvm: .*(cut off|columns)'),
    ('cambridge', write('reconstruction.nvm', 'NVM_V3\n\n3\na.jpg 1 1 0 0 0 0 0 0 0 0\n'),
     r'reconstruction\.nvm: cut off, 1 of 3 cameras'),
    ('cambridge', write('reconstruction.nvm', 'ply\n'), r"begins with 'ply', expected NVM_V3"),
    ('colmap-text', replace('sparse/0/cameras.txt', 'PINHOLE', 'FOV'),
     r'cameras\.txt, line 2: 4 parameters, FOV has 5'),
    ('colmap-text', replace('sparse/0/cameras.txt', 'PINHOLE', 'MEI'),
     'the camera model MEI is not supported; undistort with'),
    ('colmap-text', replace('sparse/0/cameras.txt', 'PINHOLE .*', 'PINHOLE'),
     r'cameras\.txt, line 2: 2 columns'),
    ('colmap-text', write('sparse/0/cameras.txt', '# Camera list\n'), 'cameras is empty'),
    ('colmap-text', write('sparse/0/images.txt', ''), 'no image was registered'),
    ('colmap-text', replace('sparse/0/images.txt', r'^4 .*', '4 1 0 0 0'),
     r'images\.txt, line 8: 5 columns'),
    ('colmap-text', replace('sparse/0/images.txt', r'^(1\.5 2\.5) .*', r'\1'),
     r'images\.txt, line 5: expected the points .* of left eye/1\.png'),
    ('colmap-binary', cut('sparse/images.bin', -10),
     r'images\.bin: cut off in image 10 of 10 \(byte \d+ of \d+\)'),
    ('colmap-binary', cut('sparse/images.bin', 4), r'images\.bin: cut off in the number'),
    ('colmap-binary', cut('sparse/cameras.bin', 40), r'cameras\.bin: cut off in camera 1 of 1'),
    ('nerfstudio', cut('transforms.json', -200), r'transforms\.json: no JSON, or cut off'),
    ('nerfstudio', write('transforms.json', '{"frames": []}'), 'has no list "frames"'),
    ('nerfstudio', set_value(['fl_x'], None), None),
    ('blender', remove('transforms_test.json'), r'transforms_test\.json: missing'),
    ('blender', replace('transforms_train.json', r'"camera_angle_x": [\d.]+',
                        '"camera_angle_x": 60.0'),
     r'camera_angle_x = 60, expected radians'),
    ('tum', replace('groundtruth.txt', r'^(1305031102\.175304 \S+) .*', r'\1'),
     r'groundtruth\.txt, line 2: 2 columns, expected stamp tx'),
    ('tum', replace('groundtruth.txt', r'^(\d+\.\d+) \S+', r'\1 nan', 0),
     r'groundtruth\.txt: none of its 10 poses is usable; the first: .*line 2: .* nan'),
    ('tum', write('rgb.txt', '# color images\n'), 'room: lists no frames'),
    ('tum', remove('K.txt'), r'the name tells no camera of the benchmark .*--intrinsics'),
    ('tum', replace('rgb.txt', r'^1305031102', '1405031102', 0),
     r'none of the 10 frames can be used; the first, .*after the last pose'),
]


@pytest.mark.parametrize(('name', 'damage', 'message'), FATAL,
                         ids=[f'{row[0]}-{str(row[2])[:24]}' for row in FATAL])
def test_what_concerns_all_frames_is_an_error(name, damage, message, copy):
    root = copy(name)
    damage(root)
    if message is None:  # the other axis, or the angle of view, will do
        assert len(read_scene(root).frames) == COUNT
        return
    with pytest.raises(SceneError) as error:
        read_scene(root, WRITERS[name][0])
    assert re.search(message, str(error.value)), error.value


def test_sequences_that_are_still_packed_are_named(copy):
    root = copy('7scenes')
    shutil.rmtree(root / 'seq-01')
    (root / 'seq-01.zip').write_text('')
    with pytest.raises(SceneError, match=r'TestSplit\.txt, line 1: .*no folder seq-01; unzip'):
        read_scene(root)


def test_sequences_in_no_list_are_left_out(copy):
    root = copy('7scenes')
    shutil.copytree(root / 'seq-01', root / 'seq-05')
    scene = read_scene(root)
    assert len(scene.frames) == COUNT and {s.name[:6] for s in scene.skipped} == {'seq-05'}
    assert 'in neither split' in scene.skipped[0].reason


def test_the_published_camera_of_a_tum_sequence_is_known_by_its_name(originals, tmp_path):
    root = tmp_path / 'rgbd_dataset_freiburg1_desk'
    shutil.copytree(originals / 'tum', root)
    (root / 'K.txt').unlink()
    with pytest.raises(SceneError, match=r'none of the 10.*160x120 while .*calibrated at 640x480'):
        read_scene(root)
    for path in (root / 'rgb').iterdir():
        Image.new('RGB', (640, 480)).save(path)
    frame = read_scene(root).frames[0]
    assert frame.lens is not None and frame.lens.coefficients[:2] == (0.2624, -0.9531)
    assert frame.lens.K_33[0].tolist() == [517.3, 0.0, 318.6]
    root = root.rename(tmp_path / 'rgbd_dataset_freiburg3_long_office')
    frame = read_scene(root).frames[0]
    assert frame.lens is None and frame.K_33[1].tolist() == [0.0, 539.2, 247.6]


def test_small_deviations_from_a_rotation_are_removed():
    R_33 = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    R_33 *= np.sign(np.linalg.det(R_33))
    T_44 = np.eye(4)
    T_44[:3, :3] = R_33
    rounded = T_44.round(3)
    exact = checked_pose(rounded, 'pose.txt')
    np.testing.assert_allclose(exact[:3, :3] @ exact[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(exact, T_44, atol=2e-3)
    np.testing.assert_array_equal(checked_pose(T_44[:3], 'pose.txt'), T_44)
    for scale in (1.02, 0.98):
        with pytest.raises(SceneError, match=r'pose\.txt: .*no rotation'):
            checked_pose(np.diag([scale, scale, scale, 1.0]), 'pose.txt')
    with pytest.raises(SceneError, match=r'pose\.txt: last row'):
        checked_pose(T_44 + np.outer([0, 0, 0, 1], [0, 0, 1, 0]), 'pose.txt')
    with pytest.raises(SceneError, match=r'pose\.txt: shape \(3, 3\)'):
        checked_pose(R_33, 'pose.txt')
    with pytest.raises(SceneError, match=r'pose\.txt: .*\(x, y, z, w\) has the norm 0,'):
        pose_from_quaternion((0.0, 0.0, 0.0, 0.0), (1.0, 2.0, 3.0), 'pose.txt')
