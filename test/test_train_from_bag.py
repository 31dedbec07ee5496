# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One line trains from a bag: a drive through real rooms, recorded with a camera on a robot."""

import io
import json

import numpy as np
import pytest
import torch
from bag_writer import (
    OPTICAL,
    R_BODY_OPTICAL,
    BagWriter,
    camera_info,
    compressed_image,
    odometry,
    raw_image,
    transform,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from implicit_relocalizer.cli import main
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.scenes import read_scene
from implicit_relocalizer.network.model_file import load_model, read_metadata

START_NS, STEP_NS, HALF_NS = 1_700_000_000 * 10**9, 10**8, 3 * 10**7
COUNT = 16
SMALL = ['--set', 'input_width=64', '--set', 'mapping.iterations=3', '--set', 'head.width=16',
         '--set', 'mapping.views_per_image=1', '--set', 'mapping.points_per_view=20',
         '--set', 'localizer.hypothesis_count=8', '--set', 'device=cpu']

# The camera looks to the left and a little down from a mast: nothing about it is symmetric.
T_BASE_CAMERA = np.eye(4)
T_BASE_CAMERA[:3, :3] = Rotation.from_euler('zyx', [70, 15, 4], degrees=True).as_matrix() \
    @ R_BODY_OPTICAL
T_BASE_CAMERA[:3, 3] = 0.21, -0.13, 0.84


def write_drive(path, two_rooms, storage, compressed):
    """The first frames of the scene; odometry of the robot is never at the time of an image."""
    K_33 = np.loadtxt(two_rooms / 'K.txt')
    T_base_mast = np.eye(4)
    T_base_mast[:3, 3] = 0.2, 0.0, 0.8
    generator = np.random.default_rng(0)
    names = sorted(file.stem for file in (two_rooms / 'rgb').iterdir())[:COUNT]
    with BagWriter(path, storage) as bag:
        bag.add('/tf_static', transform(START_NS, 'base_link', 'mast', T_base_mast))
        bag.add('/tf_static', transform(START_NS, 'mast', OPTICAL,
                                        np.linalg.inv(T_base_mast) @ T_BASE_CAMERA))
        for index, name in enumerate(names):
            stamp_ns = START_NS + index * STEP_NS
            data = (two_rooms / 'rgb' / f'{name}.jpg').read_bytes()
            rgb = np.asarray(Image.open(io.BytesIO(data)))
            if compressed:
                bag.add('/camera/image_raw/compressed', compressed_image(stamp_ns, data))
            else:
                bag.add('/camera/image_raw', raw_image(stamp_ns, rgb[..., ::-1], 'bgr8'))
            bag.add('/camera/camera_info', camera_info(
                stamp_ns, K_33, (rgb.shape[1], rgb.shape[0]), 'plumb_bob', (0.0,) * 5))
            T_odom_base = np.loadtxt(two_rooms / 'poses' / f'{name}.txt') @ np.linalg.inv(
                T_BASE_CAMERA)
            velocity, turn = generator.normal(0.0, 0.02, (2, 3))
            for sign in (-1, 1):
                sample = T_odom_base.copy()
                sample[:3, :3] = T_odom_base[:3, :3] @ Rotation.from_rotvec(
                    sign * turn).as_matrix()
                sample[:3, 3] += sign * velocity
                bag.add('/odom', odometry(stamp_ns + sign * HALF_NS, sample))
    return names


@pytest.mark.parametrize(('storage', 'compressed'), [('mcap', True), ('sqlite3', False)])
def test_poses_and_images_are_those_of_the_scene(two_rooms, tmp_path, storage, compressed):
    names = write_drive(tmp_path / 'my_bag', two_rooms, storage, compressed)
    scene = read_scene(tmp_path / 'my_bag', image_topic='/camera/image_raw', pose_topic='/odom')
    kept = [round((frame.stamp_s - START_NS / 1e9) * 10) for frame in scene.frames]
    assert len(kept) + len(scene.skipped) == COUNT and len(kept) > COUNT / 2
    for index, frame in zip(kept, scene.frames, strict=True):
        true = np.loadtxt(two_rooms / 'poses' / f'{names[index]}.txt')
        np.testing.assert_allclose(frame.T_world_camera, true, atol=1e-5)  # rounded in the file
        image = np.asarray(Image.open(two_rooms / 'rgb' / f'{names[index]}.jpg'))
        np.testing.assert_array_equal(read_frame_image(frame).numpy(), image)


def test_one_line_trains_from_a_bag(two_rooms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_drive(tmp_path / 'my_bag', two_rooms, 'mcap', True)
    source = ['my_bag/', '--pose-topic', '/odom', '--image-topic', '/camera/image_raw']
    assert main(['train', *source, '--out', 'models/office.pt', *SMALL]) == 0
    assert 'models/office.pt: ' in capsys.readouterr().out.splitlines()[-1]

    scene = read_scene(tmp_path / 'my_bag')
    model = tmp_path / 'models' / 'office.pt'
    run_dir = tmp_path / 'models' / 'office_run'
    assert model.read_bytes() == (run_dir / 'model.pt').read_bytes()
    assert [file.name for file in model.parent.iterdir() if file.is_file()] == ['office.pt']
    metadata = read_metadata(model)
    assert (metadata.scene, metadata.image_size) == ('my_bag', (540, 360))
    np.testing.assert_allclose(metadata.K_33, np.loadtxt(two_rooms / 'K.txt'))
    result = json.loads((run_dir / 'result.json').read_text())
    assert result['test']['frames'] == len(scene.split('test')) == -(-len(scene.frames) // 8)
    positions = np.array([frame.T_world_camera[:3, 3] for frame in scene.frames])
    assert (positions.min(axis=0) - 1e-6 <= metadata.position_min_m).all()
    assert (positions.max(axis=0) + 1e-6 >= metadata.position_max_m).all()
    module, _ = load_model(model)
    with torch.inference_mode():
        answer = module(read_frame_image(scene.frames[0]),
                        torch.from_numpy(scene.frames[0].K_33).float())
    assert torch.isfinite(answer['t_world_camera']).all()


def test_what_is_missing_in_the_command_is_said_before_training(two_rooms, tmp_path, monkeypatch,
                                                                capsys):
    monkeypatch.chdir(tmp_path)
    write_drive(tmp_path / 'my_bag', two_rooms, 'mcap', True)

    def fails(*arguments):
        assert main(['train', 'my_bag', '--out', 'office.pt', *SMALL, *arguments]) == 1
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return captured.err

    assert 'has no topic /pose; fitting topics: /odom (nav_msgs/msg/Odometry, 32' in fails(
        '--pose-topic', '/pose')
    assert "'moon' and 'camera_optical'" in fails('--world-frame', 'moon')
    assert '--T-body-camera' in fails('--T-body-camera', '-0.1', *['0'] * 6)
    assert 'max_gap_s is 0' in fails('--max-gap-s', '0')
    assert 'poses more than 0.05 s apart' in fails('--max-gap-s', '0.05')
    assert sorted(file.name for file in tmp_path.iterdir()) == ['my_bag']
    (tmp_path / 'folder.pt').mkdir()
    assert main(['train', 'my_bag', '--out', 'folder.pt', *SMALL]) == 1
    assert 'folder.pt: is a folder' in capsys.readouterr().err


def test_options_for_bags_do_not_go_with_other_scenes(two_rooms, capsys):
    assert main(['train', str(two_rooms), '--pose-topic', '/odom', *SMALL]) == 1
    assert 'pose_topic = /odom does not go with the format folder, only with ros2_bag' in (
        capsys.readouterr().err)
