# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One room in every format: the same frames from every reader, and the real samples."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scene_writers
from box_room import IMAGE_SIZE, K_33
from PIL import Image
from scene_writers import COUNT, WRITERS

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.image_files import image_size
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.colmap_model import read_cameras
from implicit_relocalizer.data.scenes import FORMATS, detect_format, format_names, read_scene

HELD_OUT = {
    'folder': {0, 8}, '7scenes': {0, 2, 4, 6, 8}, '12scenes': {0, 1, 2, 3},
    'cambridge': {0, 1, 2}, 'colmap-text': {0, 8}, 'colmap-binary': {0, 8},
    'nerfstudio': {0, 8}, 'blender': {7, 8, 9}, 'tum': {0, 8}}


@pytest.fixture(scope='session')
def shots():
    return scene_writers.take_shots()


@pytest.fixture(scope='session')
def scenes(shots, tmp_path_factory):
    root = tmp_path_factory.mktemp('formats')
    for name, (_, write) in WRITERS.items():
        write(root / name, shots)
    return root


@pytest.fixture(scope='session')
def shared_data(two_rooms):
    return two_rooms.parent


def index_of(name: str, format_name: str) -> int:
    """Which shot a frame of this name is."""
    number = int(re.findall(r'\d+', name)[-1])
    if format_name == '7scenes':
        return 2 * number + (name.startswith('seq-02'))
    return round((number - 175304) / 33001) if format_name == 'tum' else number


@pytest.mark.parametrize('name', WRITERS)
def test_every_format_gives_the_same_frames(name, scenes, shots):
    scene = read_scene(scenes / name)
    assert len(scene.frames) == COUNT and scene.image_size == IMAGE_SIZE
    assert scene.name == name and not scene.skipped
    indices = [index_of(frame.name, name) for frame in scene.frames]
    assert sorted(indices) == list(range(COUNT))
    # 7-Scenes writes eight digits, of which the largest positions keep seven decimals.
    tolerance = 2e-7 if name == '7scenes' else 1e-9
    for frame, index in zip(scene.frames, indices, strict=True):
        np.testing.assert_allclose(frame.T_world_camera, shots.poses[index], atol=tolerance)
        np.testing.assert_allclose(frame.K_33, K_33, atol=1e-9)
        assert frame.lens is None
        np.testing.assert_array_equal(read_frame_image(frame).numpy(), shots.images[index])
    held_out = {index_of(frame.name, name) for frame in scene.split('test')}
    assert held_out == HELD_OUT[name]


@pytest.mark.parametrize('name', WRITERS)
def test_the_format_is_detected_and_can_be_said(name, scenes):
    format_name = WRITERS[name][0]
    assert detect_format(scenes / name).name == format_name
    assert len(read_scene(scenes / name, format_name).frames) == COUNT
    assert format_name in format_names()


@pytest.mark.parametrize('name', WRITERS)
def test_a_list_of_names_holds_out_what_it_names(name, scenes, tmp_path):
    root = shutil.copytree(scenes / name, tmp_path / name)
    names = [frame.name for frame in read_scene(root).frames]
    (root / 'splits').mkdir()
    (root / 'splits' / 'hard.txt').write_text(f'{names[2]}\n\n{names[5]}.png\n')
    scene = read_scene(root, split='hard')
    assert [frame.name for frame in scene.split('test')] == [names[2], names[5]]
    assert len(scene.split('train')) == COUNT - 2
    with pytest.raises(SceneError, match=r"easy\.txt: no such split; the folder has \['hard'\]"):
        read_scene(root, split='easy')


@pytest.mark.parametrize('name', ['colmap-text', 'nerfstudio'])
def test_lists_beside_the_data_are_its_split(name, scenes, tmp_path):
    root = shutil.copytree(scenes / name, tmp_path / name)
    names = [frame.name for frame in read_scene(root).frames]
    (root / 'test.txt').write_text('\n'.join(f'{name}.jpg' for name in names[:3]))
    assert [frame.name for frame in read_scene(root).split('test')] == names[:3]
    assert len(read_scene(root).split('train')) == COUNT - 3
    (root / 'train.txt').write_text('\n'.join(names[5:]))
    scene = read_scene(root)
    assert [frame.name for frame in scene.split('train')] == names[5:]
    assert {skipped.name for skipped in scene.skipped} == set(names[3:5])
    (root / 'train.txt').write_text('\n'.join(names[2:]))
    with pytest.raises(SceneError, match=r'train\.txt and test\.txt both name'):
        read_scene(root)
    (root / 'train.txt').write_text('elsewhere\n')
    with pytest.raises(SceneError, match=r'train\.txt: none of its 1 names'):
        read_scene(root)


def test_lists_inside_nerfstudio_files_are_its_split(scenes, tmp_path):
    root = shutil.copytree(scenes / 'nerfstudio', tmp_path / 'room')
    values = json.loads((root / 'transforms.json').read_text())
    values['train_filenames'] = [frame['file_path'] for frame in values['frames'][:6]]
    values['test_filenames'] = [frame['file_path'] for frame in values['frames'][6:]]
    (root / 'transforms.json').write_text(json.dumps(values))
    assert len(read_scene(root).split('test')) == COUNT - 6


def test_sequences_and_stamps_arrive(scenes):
    frame = read_scene(scenes / 'tum').frames[1]
    assert frame.sequence == 'tum' and frame.stamp_s == pytest.approx(1305031102.208305, abs=1e-6)
    assert read_scene(scenes / '7scenes').frames[0].sequence == 'seq-01'
    assert read_scene(scenes / '12scenes').frames[4].sequence == 'sequence1'
    assert read_scene(scenes / 'cambridge').frames[0].sequence == 'seq1'


def test_poses_between_two_of_the_ground_truth_are_interpolated(scenes, shots, tmp_path):
    root = shutil.copytree(scenes / 'tum', tmp_path / 'tum')
    lines = (root / 'groundtruth.txt').read_text().splitlines()
    del lines[3], lines[-1]  # shot 2 lies between its neighbours, shot 9 after the last
    (root / 'groundtruth.txt').write_text('\n'.join(lines))
    scene = read_scene(root)
    assert len(scene.frames) == COUNT - 1 and 'after the last pose' in scene.skipped[0].reason
    middle = (shots.poses[1][:3, 3] + shots.poses[3][:3, 3]) / 2.0
    np.testing.assert_allclose(scene.frames[2].T_world_camera[:3, 3], middle, atol=1e-6)
    scene = read_scene(root, max_gap_s=0.05)
    assert len(scene.frames) == COUNT - 2
    assert re.search(r'rgb\.txt, line 5.*more than 0\.05 s', scene.skipped[0].reason)


def test_what_is_no_known_format_is_told_what_each_needs(tmp_path, scenes):
    with pytest.raises(SceneError, match='looks like no known format') as error:
        read_scene(tmp_path)
    for scene_format in FORMATS:
        assert scene_format.needs in str(error.value)
    with pytest.raises(SceneError, match='nowhere: no such folder'):
        read_scene(tmp_path / 'nowhere')
    with pytest.raises(SceneError, match=r"no format is named 'kitti'; there are folder"):
        read_scene(tmp_path, 'kitti')
    with pytest.raises(SceneError, match=r'images = x does not go with the format folder, only '
                                         r'with colmap'):
        read_scene(scenes / 'folder', images=Path('x'))


def test_what_looks_like_two_formats_is_not_guessed(scenes, tmp_path):
    root = shutil.copytree(scenes / 'colmap-text', tmp_path / 'both')
    shutil.copy(scenes / 'nerfstudio' / 'transforms.json', root)
    shutil.copytree(scenes / 'nerfstudio' / 'images', root / 'images', dirs_exist_ok=True)
    with pytest.raises(SceneError, match=r'looks like colmap and transforms; say .*--format'):
        read_scene(root)
    assert read_scene(root, 'transforms').frames[0].name == 'images/r_0'
    assert read_scene(root, 'colmap').frames[0].name == 'left eye/0'


def test_the_sample_of_seven_scenes_reads_as_published(shared_data):
    root = shared_data / 'seven_scenes_sample'
    scene = read_scene(root)
    assert detect_format(root).name == '7scenes'
    assert len(scene.frames) == 12 and scene.image_size == (640, 480) and not scene.skipped
    assert {f.sequence for f in scene.split('test')} == {'seq-01', 'seq-04'}
    assert {f.sequence for f in scene.split('train')} == {'seq-02', 'seq-03'}
    frame = scene.frames[0]
    np.testing.assert_allclose(frame.K_33, [[585, 0, 320], [0, 585, 240], [0, 0, 1]])
    np.testing.assert_allclose(frame.T_world_camera[:3, 3],
                               [-1.4903377, -0.49737796, -0.054694783])
    R_33 = frame.T_world_camera[:3, :3]  # printed with eight digits, and yet off by 1e-4
    np.testing.assert_allclose(R_33 @ R_33.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R_33[0], [0.93817085, -0.26860735, 0.21809216], atol=1e-3)
    assert read_frame_image(frame).shape == (480, 640, 3) and frame.depth_path is None


def test_the_sample_of_colmap_becomes_pinhole_images(shared_data, tmp_path):
    root = shutil.copytree(shared_data / 'colmap_sample', tmp_path / 'sample')
    with pytest.raises(SceneError, match=r'frame_000000001\.jpg .*say where with --images'):
        read_scene(root)
    for side in ('leftraw', 'rightraw'):
        for index in range(1, 4):
            path = tmp_path / 'photos' / side / f'frame_{index:09d}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (848, 800), 90).save(path)
    scene = read_scene(root, images=tmp_path / 'photos')
    assert detect_format(root).name == 'colmap' and len(scene.frames) == 6
    assert [f.name for f in scene.split('test')] == ['leftraw/frame_000000001']
    assert scene.image_size == (848, 800)
    left, right = scene.frames[0], scene.frames[3]
    assert left.lens is not None and left.lens.model == 'fisheye'
    np.testing.assert_array_equal(left.K_33, right.K_33)  # two lenses, one pinhole camera
    assert read_frame_image(right).shape == (800, 848, 3)
    # The rig's baseline, from world-to-camera translations 64 mm apart.
    T_left_right = np.linalg.inv(left.T_world_camera) @ right.T_world_camera
    np.testing.assert_allclose(T_left_right[:3, 3], [0.064, 0.0, 0.0], atol=1e-9)
    assert read_cameras(root)[1].parameters[:4] == (284.468, 285.51, 424.355, 393.742)


def test_two_rooms_reads_with_both_of_its_splits(two_rooms):
    standard, hard = read_scene(two_rooms), read_scene(two_rooms, split='hard')
    assert len(standard.frames) == 373 and len(standard.split('test')) == 47
    assert [f.split == 'test' for f in hard.frames] == [i // 10 % 5 == 4 for i in range(373)]


def test_a_transforms_file_may_be_named_itself(scenes):
    scene = read_scene(scenes / 'nerfstudio' / 'transforms.json')
    assert scene.name == 'nerfstudio' and len(scene.frames) == COUNT


def test_jpeg_files_that_are_whole_pass_whatever_follows_them(shots, tmp_path):
    path = tmp_path / 'photo.jpg'
    scene_writers.save(shots.images[0], path)
    data = path.read_bytes()
    path.write_bytes(data + b'a phone appends its film here' * 100)
    assert image_size(path) == IMAGE_SIZE
    for size in (len(data) - 30, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(SceneError, match=r'photo\.jpg: cut off or damaged'):
            image_size(path)
    path.write_bytes(b'')
    with pytest.raises(SceneError, match=r'photo\.jpg: not a readable image \(0 bytes\)'):
        image_size(path)
