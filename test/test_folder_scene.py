# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a scene folder: what arrives, and how each kind of damage is answered."""

import re
import shutil

import numpy as np
import pytest
from box_room import IMAGE_SIZE, K_33, sweep, write_box_room
from PIL import Image

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.images import load_posed_images, read_image
from implicit_relocalizer.data.readers.folder import read_folder_scene, read_pose
from implicit_relocalizer.data.text_files import read_intrinsics

COUNT = 6


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    return write_box_room(tmp_path_factory.mktemp('original') / 'room', COUNT, held_out_every=3)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / 'room')


def test_frames_arrive_in_order_with_their_labels(folder):
    scene = read_folder_scene(folder)
    assert scene.name == 'room' and scene.image_size == IMAGE_SIZE
    assert [frame.name for frame in scene.frames] == [f'{i:04d}' for i in range(COUNT)]
    for frame, T_world_camera in zip(scene.frames, sweep(COUNT), strict=True):
        np.testing.assert_allclose(frame.T_world_camera, T_world_camera, atol=1e-12)
        np.testing.assert_array_equal(frame.K_33, K_33)
        assert frame.image_path.name == f'{frame.name}.png'
        assert (frame.sequence, frame.stamp_s, frame.depth_path) == ('', None, None)
    assert [frame.name for frame in scene.split('test')] == ['0001', '0004']
    assert len(scene.split('train')) == 4


def test_optional_files_are_used(folder):
    (folder / 'frames.csv').write_text('name,sequence,stamp_s\n0002,monday,12.5\n')
    (folder / 'depth').mkdir()
    Image.fromarray(np.zeros((120, 160), np.uint16)).save(folder / 'depth' / '0003.png')
    (folder / 'splits' / 'hard.txt').write_text('0005\n\n  0000 \n')
    scene = read_folder_scene(folder, 'hard')
    assert (scene.frames[2].sequence, scene.frames[2].stamp_s) == ('monday', 12.5)
    assert [f.depth_path is not None for f in scene.frames] == [i == 3 for i in range(COUNT)]
    assert [f.name for f in scene.split('test')] == ['0000', '0005']


def test_jpeg_and_png_in_any_case_count_as_images(folder):
    Image.open(folder / 'rgb' / '0000.png').save(folder / 'rgb' / '0000.JPG', 'JPEG')
    (folder / 'rgb' / '0000.png').unlink()
    (folder / 'rgb' / 'readme.txt').write_text('taken on a Monday')
    assert len(read_folder_scene(folder).frames) == COUNT


def break_missing_folder(folder):
    folder.rename(folder.with_name('elsewhere'))


def break_no_images(folder):
    for path in (folder / 'rgb').iterdir():
        path.unlink()


def break_missing_intrinsics(folder):
    (folder / 'K.txt').unlink()


def break_focal_length(folder):
    np.savetxt(folder / 'K.txt', np.diag([-100.0, 100.0, 1.0]))


def break_intrinsics_shape(folder):
    (folder / 'K.txt').write_text('500 500 320 240\n')


def break_missing_pose(folder):
    (folder / 'poses' / '0002.txt').unlink()


def break_pose_text(folder):
    (folder / 'poses' / '0002.txt').write_text('x y z\n')


def break_pose_nan(folder):
    T = np.eye(4)
    T[0, 3] = np.nan
    np.savetxt(folder / 'poses' / '0002.txt', T)


def break_pose_scale(folder):
    np.savetxt(folder / 'poses' / '0002.txt', np.diag([2.0, 2.0, 2.0, 1.0]))


def break_pose_mirror(folder):
    np.savetxt(folder / 'poses' / '0002.txt', np.diag([1.0, 1.0, -1.0, 1.0]))


def break_pose_last_row(folder):
    T = np.eye(4)
    T[3, 0] = 1.0
    np.savetxt(folder / 'poses' / '0002.txt', T)


def break_unknown_test_name(folder):
    (folder / 'splits' / 'standard.txt').write_text('0001\n9999\n')


def break_all_held_out(folder):
    (folder / 'splits' / 'standard.txt').write_text('\n'.join(f'{i:04d}' for i in range(COUNT)))


def break_nothing_held_out(folder):
    (folder / 'splits' / 'standard.txt').write_text('')


def break_image_size(folder):
    Image.new('RGB', (80, 60)).save(folder / 'rgb' / '0002.png')


def break_image(folder):
    (folder / 'rgb' / '0002.png').write_text('not found')


def break_image_end(folder):
    path = folder / 'rgb' / '0002.png'
    path.write_bytes(path.read_bytes()[:2000])  # its header is whole


def break_details(folder):
    (folder / 'frames.csv').write_text('name,when\n0001,noon\n')


def break_stamp(folder):
    (folder / 'frames.csv').write_text('name,sequence,stamp_s\n0001,a,noon\n')


def break_double_name(folder):
    Image.open(folder / 'rgb' / '0003.png').save(folder / 'rgb' / '0003.jpg')


@pytest.mark.parametrize(('damage', 'message'), [
    (break_missing_folder, r'room: no such folder; expected one with rgb/'),
    (break_no_images, r'rgb: no \.jpg or \.png images'),
    (break_missing_intrinsics, r'K\.txt: missing; expected a 3x3 matrix'),
    (break_focal_length, r'K\.txt: .*no camera matrix'),
    (break_intrinsics_shape, r'K\.txt: 1 rows of 4 numbers, expected 3 rows of 3'),
    (break_unknown_test_name, r"standard\.txt: names \['9999'\] that have no image"),
    (break_all_held_out, r'standard\.txt: holds out 6 of 6 frames'),
    (break_nothing_held_out, r'standard\.txt: holds out 0 of 6 frames'),
    (break_details, r'frames\.csv: expected columns name,sequence,stamp_s'),
    (break_stamp, r'frames\.csv: expected columns .*noon'),
    (break_double_name, r'0003\.png: has the name of 0003\.jpg'),
])
def test_damage_is_answered_with_the_file_and_the_value(folder, damage, message):
    damage(folder)
    with pytest.raises(SceneError, match=message):
        read_folder_scene(folder)


@pytest.mark.parametrize(('damage', 'message'), [
    (break_missing_pose, r'0002\.txt: missing; expected a 4x4 matrix'),
    (break_pose_text, r'0002\.txt: not a table of numbers'),
    (break_pose_nan, r'0002\.txt: holds NaN or infinity'),
    (break_pose_scale, r'0002\.txt: .*no rotation'),
    (break_pose_mirror, r'0002\.txt: .*no rotation.*determinant -1'),
    (break_pose_last_row, r'0002\.txt: last row is \[1\.0'),
    (break_image_size, r'0002\.png: 80x60 while its camera is calibrated at 160x120'),
    (break_image, r'0002\.png: not a readable image'),
    (break_image_end, r'0002\.png: cut off or damaged'),
])
def test_one_bad_frame_is_left_out_and_named(folder, damage, message, caplog):
    damage(folder)
    scene = read_folder_scene(folder)
    assert [f.name for f in scene.frames] == ['0000', '0001', '0003', '0004', '0005']
    assert [f.name for f in scene.split('test')] == ['0001', '0004']
    (skipped,) = scene.skipped
    assert skipped.name == '0002' and re.search(message, skipped.reason)
    assert '1 of 6 frames left out' in caplog.text and skipped.reason in caplog.text


def test_if_all_frames_are_bad_the_first_is_named(folder):
    for path in (folder / 'poses').iterdir():
        np.savetxt(path, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(SceneError, match=r'none of the 6 frames.*0000\.txt: .*no rotation'):
        read_folder_scene(folder)


def test_without_a_list_every_eighth_frame_by_name_is_held_out(tmp_path):
    folder = write_box_room(tmp_path / 'room', 18)
    (folder / 'splits' / 'standard.txt').rename(folder / 'splits' / 'other.txt')
    (folder / 'poses' / '0001.txt').unlink()  # a bad frame does not shift the others
    scene = read_folder_scene(folder)
    assert [f.name for f in scene.split('test')] == ['0000', '0008', '0016']
    assert len(scene.split('train')) == 14
    with pytest.raises(SceneError, match=r"hard\.txt: no such split; the folder has \['other'\]"):
        read_folder_scene(folder, 'hard')


def test_a_readable_folder_gives_poses_and_intrinsics_one_by_one(folder):
    np.testing.assert_array_equal(read_intrinsics(folder / 'K.txt'), K_33)
    np.testing.assert_allclose(read_pose(folder / 'poses' / '0000.txt'), sweep(COUNT)[0])


def test_an_image_damaged_inside_is_named_when_its_pixels_are_read(folder):
    path = folder / 'rgb' / '0002.png'
    data = bytearray(path.read_bytes())
    data[1000:1100] = bytes(100)  # its header and its end are whole
    path.write_bytes(data)
    scene = read_folder_scene(folder)
    with pytest.raises(SceneError, match=r'0002\.png: cannot be decoded'):
        load_posed_images(scene.frames)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(SceneError, match=r'absent\.png: no such image'):
        read_image(tmp_path / 'absent.png')


def test_images_come_as_rgb_whatever_the_file_holds(tmp_path):
    colour = np.zeros((4, 6, 4), np.uint8)
    colour[..., 0], colour[..., 3] = 200, 255
    Image.fromarray(colour, 'RGBA').save(tmp_path / 'rgba.png')
    Image.fromarray(colour[..., 0], 'L').save(tmp_path / 'grey.png')
    assert read_image(tmp_path / 'rgba.png')[0, 0].tolist() == [200, 0, 0]
    assert read_image(tmp_path / 'grey.png')[0, 0].tolist() == [200, 200, 200]
    assert read_image(tmp_path / 'grey.png').shape == (4, 6, 3)


def test_positions_are_relative_to_an_origin_in_double_precision(folder):
    for path in (folder / 'poses').iterdir():
        T = np.loadtxt(path)
        T[:3, 3] += [5e5, 4e6, 100.0]
        np.savetxt(path, T)
    frames = read_folder_scene(folder).frames
    images = load_posed_images(frames)
    assert len(images) == COUNT and images.origin_world_3.dtype.is_floating_point
    assert images.t_local_camera_b3.abs().max() < 2.0
    position = images.t_local_camera_b3.double() + images.origin_world_3
    truth = np.stack([frame.T_world_camera[:3, 3] for frame in frames])
    np.testing.assert_allclose(position.numpy(), truth, rtol=0, atol=1e-6)
    other = load_posed_images(frames[:2], images.origin_world_3)
    np.testing.assert_array_equal(other.t_local_camera_b3, images.t_local_camera_b3[:2])


def test_the_scene_of_two_rooms_reads_as_described(two_rooms):
    scene = read_folder_scene(two_rooms)
    assert len(scene.frames) == 373 and scene.image_size == (540, 360)
    assert [f.name for f in scene.split('test')] == [f.name for f in scene.frames[::8]]
