# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`inspect`: figures of a scene, the text, the JSON, the picture and the exit status."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_room import camera_pose, sweep, write_box_room
from PIL import Image
from scipy.spatial.transform import Rotation

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.frames import Frame, Scene, SkippedFrame
from implicit_relocalizer.evaluation.inspect_scene import inspect_scene
from implicit_relocalizer.evaluation.inspection import describe_scene, group_reasons
from implicit_relocalizer.evaluation.inspection_picture import choose_view, draw_inspection
from implicit_relocalizer.evaluation.inspection_text import describe_statistics, format_length

K_33 = np.array([[320.0, 0, 319.5], [0, 320.0, 239.5], [0, 0, 1]])


def scene_of(poses, test=(), **fields) -> Scene:
    """A scene whose images need not exist; `fields` hold a value for every frame."""
    frames = tuple(
        Frame(f'{i:04d}', Path(f'{i:04d}.png'), K_33, T, 'test' if i in test else 'train',
              **{name: values[i] for name, values in fields.items()})
        for i, T in enumerate(poses))
    return Scene('corridor', Path('corridor'), frames, (640, 480))


def walk(count: int, step_m: float = 0.5, turn_deg: float = 0.0):
    return [camera_pose((step_m * i, 0.0, 1.5), turn_deg * i) for i in range(count)]


def statistics_of(scene: Scene):
    return describe_scene(scene, np.stack([f.T_world_camera for f in scene.frames]))


def test_counts_extent_path_and_field_of_view():
    figures = statistics_of(scene_of(walk(11, turn_deg=2.0), test=(3, 8)))
    assert (figures.train, figures.test, figures.image_size) == (9, 2, (640, 480))
    assert figures.extent_m == pytest.approx((5.0, 0.0, 0.0))
    assert figures.path_length_m == pytest.approx(5.0)
    assert (figures.step_m, figures.step_deg) == pytest.approx((0.5, 2.0))
    assert figures.field_of_view_deg == pytest.approx((90.0, 2 * np.degrees(np.arctan(0.75))))
    assert figures.jumps == () and figures.frozen == 0 and figures.time is None


def test_the_way_between_sequences_is_no_path_and_no_jump():
    poses = [*walk(5), *[T + np.eye(4, k=3) * 100.0 for T in walk(5)]]
    whole = statistics_of(scene_of(poses))
    parts = statistics_of(scene_of(poses, sequence=['a'] * 5 + ['b'] * 5))
    assert len(whole.jumps) == 1 and whole.path_length_m > 90.0
    assert parts.jumps == () and parts.path_length_m == pytest.approx(4.0)
    assert parts.sequences == {'a': 5, 'b': 5}


def test_nearest_training_view_weighs_distance_and_angle():
    here = camera_pose((0.0, 0.0, 1.5), 0.0)
    poses = [here, camera_pose((0.0, 0.05, 1.5), 90.0), camera_pose((0.0, 0.3, 1.5), 5.0)]
    nearest = statistics_of(scene_of(poses, test=(0,))).nearest
    assert nearest is not None and nearest.identical == 0
    assert nearest.distances_m == pytest.approx([0.3])
    assert nearest.angles_deg == pytest.approx([5.0])
    assert statistics_of(scene_of([here, here], test=(0,))).nearest.identical == 1
    assert statistics_of(scene_of(poses)).nearest is None


@pytest.mark.parametrize('bad', [camera_pose((0.0, 3.0, 0.0), 0.0), camera_pose((0, 0, 0), 70.0)])
def test_a_pose_that_leaves_the_path_is_a_jump_there_and_back(bad):
    poses = walk(30)
    poses[12] = poses[12] @ bad
    assert [(jump.first, jump.second) for jump in statistics_of(scene_of(poses)).jumps] == [
        (11, 12), (12, 13)]


def test_repeated_poses_and_irregular_stamps_are_counted():
    poses = walk(10)
    poses[4] = poses[3]
    stamps = [0.0, 0.1, 0.2, 0.3, 0.3, 0.5, 0.4, 2.0, 2.1, None]
    figures = statistics_of(scene_of(poses, stamp_s=stamps))
    assert figures.frozen == 1
    assert figures.time is not None
    assert (figures.time.stamped, figures.time.repeated, figures.time.backwards) == (9, 1, 1)
    assert figures.time.gaps == 1 and figures.time.longest_gap_s == pytest.approx(1.6)
    assert figures.time.rate_hz == pytest.approx(10.0)
    text = describe_statistics(scene_of(poses, stamp_s=stamps), figures)
    for part in ('1 frame without stamp', '1 gap, the longest 1.6 s', '1 step back in time',
                 '1 repeated stamp', '1 frame with exactly the pose of the one before'):
        assert part in ' '.join(text.split())


def test_skipped_frames_are_grouped_by_reason():
    skipped = [SkippedFrame(f'img{i}', f'img{i}.png: cut off after {100 * i} bytes')
               for i in range(1, 4)] + [SkippedFrame('img9', 'pose holds NaN')]
    assert group_reasons(skipped) == {'img1.png: cut off after 100 bytes': 3, 'pose holds NaN': 1}
    scene = replace(scene_of(walk(4)), skipped=tuple(skipped))
    text = describe_statistics(scene, statistics_of(scene))
    assert 'skipped           4 frames' in text
    assert '3 x img1.png: cut off after 100 bytes (and alike)' in text


@pytest.mark.parametrize(('metres', 'text'), [
    (0.0123, '1.2 cm'), (0.08, '8 cm'), (0.5, '50 cm'), (0.996, '1.00 m'), (30.61, '30.6 m')])
def test_lengths_read_well(metres, text):
    assert format_length(metres) == text


def test_the_map_is_seen_from_above_or_says_that_it_is_not():
    upright, what = choose_view(np.stack(sweep(20)))
    assert 'from above (z is up' in what and upright.up_3 == pytest.approx([0, 0, 1])
    tumbling = np.stack(walk(20))
    tumbling[:, 2, 3] += np.linspace(0.0, 4.0, 20)
    tumbling[:, :3, :3] = Rotation.random(20, random_state=1).as_matrix()
    view, what = choose_view(tumbling)
    assert 'two largest extents, x and z' in what
    assert (view.right_name, view.up_name) == ('x', 'z')
    assert view.project(np.array([[1.0, 2.0, 3.0]]))[0] == pytest.approx([1.0, 3.0])


@pytest.mark.parametrize(('count', 'test'), [
    (1, ()), (12, (5,)), (1200, range(0, 1200, 8))], ids=['one', 'few', 'many'])
def test_the_picture_is_drawn_for_any_number_of_frames(tmp_path, count, test):
    scene = scene_of(walk(count, 0.05, 0.3), test=set(test))
    draw_inspection(tmp_path / 'map.png', inspect_scene(scene, 0))
    with Image.open(tmp_path / 'map.png') as picture:
        assert picture.size == (1700, 1000)
        colours = {colour for _, colour in picture.convert('RGB').getcolors(1 << 21)}
    assert len(colours) > 20


@pytest.fixture(scope='module')
def room(tmp_path_factory) -> Path:
    return write_box_room(tmp_path_factory.mktemp('inspected') / 'room', 24)


def test_inspect_finds_true_labels_true(room, tmp_path, capsys):
    report, picture = tmp_path / 'new' / 'room.json', tmp_path / 'new' / 'room.png'
    assert main(['inspect', str(room), '--pairs', '9', '--json', str(report),
                 '--picture', str(picture)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('room: 20 training and 4 test frames of 160x120 pixels\n')
    assert 'FITS: camera-to-world with OpenCV axes' in printed and '<- fits' in printed
    assert 'images alone cannot tell it' in printed

    def refuse(constant: str):
        raise AssertionError(f'{constant} is no JSON')
    result = json.loads(report.read_text(), parse_constant=refuse)
    assert result['frames'] == {'train': 20, 'test': 4}
    assert result['check']['verdict'] == 'fits'
    errors = {key: row['median_error_px']
              for key, row in result['check']['pose_convention']['conventions'].items()}
    assert min(errors, key=errors.get) == 'camera_to_world_opencv'
    with Image.open(picture) as image:
        assert image.size == (1700, 1000)


def test_inspect_names_the_convention_that_fits_and_ends_with_status_three(room, tmp_path, capsys):
    import shutil
    other = Path(shutil.copytree(room, tmp_path / 'room'))
    for path in (other / 'poses').glob('*.txt'):
        np.savetxt(path, np.linalg.inv(np.loadtxt(path)))
    report = tmp_path / 'room.json'
    assert main(['inspect', str(other), '--pairs', '9', '--json', str(report),
                 '--picture', str(tmp_path / 'room.png')]) == 3
    printed = capsys.readouterr().out
    assert 'ANOTHER CONVENTION FITS' in printed
    assert 'T_world_camera = np.linalg.inv(T)' in printed
    result = json.loads(report.read_text())
    assert result['check']['pose_convention']['conversion']['numpy'] == (
        'T_world_camera = np.linalg.inv(T)')
    # The figures are those of the poses as they should be read.
    assert main(['inspect', str(room), '--pairs', '0', '--json', str(report)]) == 0
    truth = json.loads(report.read_text())
    assert truth['check'] is None
    assert result['extent_m'] == pytest.approx(truth['extent_m'])


def test_inspect_answers_mistakes_without_traceback(tmp_path, capsys):
    assert main(['inspect', str(tmp_path / 'nowhere')]) == 1
    assert 'nowhere: no such folder' in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(['inspect', str(tmp_path), '--pairs', 'many'])
    assert ended.value.code == 2
    assert "'many' is no count" in capsys.readouterr().err
