# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Whole recordings: poses composed, frames chosen, splits."""

from collections import Counter

import numpy as np
import pytest
import yaml
from bag_drive import (
    COUNT,
    K_33,
    SIZE,
    START_NS,
    STEP_NS,
    T_BASE_CAMERA,
    S,
    add_images,
    add_mounting,
    add_odometry,
    body_pose,
    camera_pose,
    image_stamps,
    pose_stamps,
    poses_differ_by,
    rgb_of,
    write_drive,
)
from bag_writer import (
    OPTICAL,
    BagWriter,
    odometry,
    pose_stamped,
    pose_with_covariance,
    transform,
)
from conftest import SHARED_DATA
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.ros_bag import TOO_NEAR, read_ros_bag
from implicit_relocalizer.data.scenes import detect_format, read_scene


@pytest.fixture(params=['mcap', 'sqlite3'])
def storage(request):
    return request.param


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """An ordinary recording, to be read only."""
    return write_drive(tmp_path_factory.mktemp('bags') / 'drive')


def test_odometry_and_a_mounted_camera(tmp_path, storage):
    with BagWriter(tmp_path / 'office', storage) as bag:
        add_images(bag)
        add_odometry(bag)
        add_mounting(bag)
    for path in (tmp_path / 'office', next((tmp_path / 'office').glob('office.*'))):
        assert detect_format(path).name == 'ros2_bag'
        scene = read_scene(path)
        assert (scene.name, scene.image_size, scene.skipped) == ('office', SIZE, ())
        assert len(scene.frames) == COUNT
        translation_m, rotation_deg = poses_differ_by(scene)
        assert translation_m < 2e-4 and rotation_deg < 0.01
        for index, frame in enumerate(scene.frames):
            assert (frame.sequence, frame.lens) == ('office', None)
            assert frame.stamp_s == pytest.approx(image_stamps()[index] / S, abs=1e-6)
            assert frame.split == ('train' if index % 8 else 'test')
            np.testing.assert_array_equal(frame.K_33, K_33)
            np.testing.assert_array_equal(read_frame_image(frame).numpy(), rgb_of(index))


def test_a_fixed_transform_given_by_hand_replaces_the_recorded_ones(drive):
    moved = T_BASE_CAMERA.copy()
    moved[0, 3] += 1.0
    frames = [read_ros_bag(drive, options=options).frames for options in (
        BagOptions(), BagOptions(T_body_camera=moved), BagOptions(T_body_camera=T_BASE_CAMERA))]
    for recorded, wrong, same in zip(*frames, strict=True):
        np.testing.assert_allclose(same.T_world_camera, recorded.T_world_camera, atol=1e-12)
        assert np.linalg.norm(wrong.T_world_camera - recorded.T_world_camera) == pytest.approx(1.0)


@pytest.mark.parametrize('make_pose', [pose_stamped, pose_with_covariance])
def test_poses_that_do_not_say_whose_they_are(tmp_path, make_pose):
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag)
        add_mounting(bag)
        for stamp_ns in pose_stamps():
            bag.add('/pose', make_pose(stamp_ns, body_pose((stamp_ns - START_NS) / S)))
    with pytest.raises(SceneError, match=r"/pose .* does not say whose poses it holds; pass "
                                         r'--pose-is-camera .* --T-body-camera .* --pose-frame .*'
                                         r"\['base_link', 'camera_link', 'camera_optical'\]"):
        read_scene(tmp_path / 'bag')
    scene = read_scene(tmp_path / 'bag', pose_frame='base_link')
    assert poses_differ_by(scene)[0] < 2e-4
    bodies = read_scene(tmp_path / 'bag', pose_is_camera=True, min_distance_m=0.0)
    np.testing.assert_allclose(bodies.frames[3].T_world_camera @ T_BASE_CAMERA,
                               scene.frames[3].T_world_camera, atol=1e-9)


def test_odometry_of_the_camera_itself_needs_nothing_else(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag)
        for stamp_ns in pose_stamps():
            bag.add('/odom', odometry(stamp_ns, camera_pose(stamp_ns), child='/' + OPTICAL))
    assert poses_differ_by(read_scene(tmp_path / 'bag'))[0] < 2e-4


def test_a_body_that_nothing_connects_to_the_camera_is_an_error(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag)
        add_odometry(bag)
    with pytest.raises(SceneError, match=r"holds poses of 'base_link', the images are from "
                                         r"'camera_optical', and no chain .*--T-body-camera"):
        read_scene(tmp_path / 'bag')


def test_poses_from_transforms_alone(tmp_path, storage):
    T_map_odom = np.eye(4)
    T_map_odom[:3, 3] = 5.0, 6.0, 0.0
    with BagWriter(tmp_path / 'bag', storage) as bag:
        add_images(bag)
        add_mounting(bag)
        for stamp_ns in pose_stamps():
            bag.add('/tf', transform(stamp_ns, 'odom', 'base_link',
                                     body_pose((stamp_ns - START_NS) / S)))
        for stamp_ns in pose_stamps(S // 10):
            bag.add('/tf', transform(stamp_ns, 'map', 'odom', T_map_odom))
    scene = read_scene(tmp_path / 'bag', world_frame='odom')
    assert len(scene.frames) == COUNT and poses_differ_by(scene)[0] < 2e-4
    # The highest frame is the world where nothing is said.
    for frame, mapped in zip(scene.frames, read_scene(tmp_path / 'bag').frames, strict=True):
        np.testing.assert_allclose(mapped.T_world_camera, T_map_odom @ frame.T_world_camera,
                                   atol=1e-9)
    with pytest.raises(SceneError, match=r"'moon' and 'camera_optical'.*--world-frame"):
        read_scene(tmp_path / 'bag', world_frame='moon')
    with pytest.raises(SceneError, match=r"never moves in 'base_link'"):
        read_scene(tmp_path / 'bag', world_frame='base_link')


def test_images_without_a_pose_around_them_are_left_out_and_counted(tmp_path):
    stamps = [START_NS - 1, *image_stamps(), START_NS + 60 * S]
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag, stamps)
        add_mounting(bag)
        for stamp_ns in pose_stamps():
            if not 0.5 < (stamp_ns - START_NS) / S < 1.0:
                bag.add('/odom', odometry(stamp_ns, body_pose((stamp_ns - START_NS) / S)))
    scene = read_scene(tmp_path / 'bag')
    assert Counter(frame.reason for frame in scene.skipped) == {
        'before the first pose': 1, 'after the last pose': 1,
        'poses more than 0.2 s apart': 5}
    assert len(scene.frames) == COUNT - 5 and poses_differ_by(scene)[0] < 2e-4
    assert len(read_scene(tmp_path / 'bag', max_gap_s=0.6).frames) == COUNT


def test_frames_too_near_the_previous_one_kept_are_left_out(tmp_path):
    """Standing, creeping (kept once it adds up), turning on the spot, then driving."""
    poses = [(0, 0), (0, 0), (0.009, 0), (0.018, 0), (0.027, 0), (0.027, 0.6), (0.027, 1.2),
             (0.1, 1.2)]
    kept_of = {(0.02, 1.0): [0, 4, 6, 7], (0.0, 1.0): list(range(8)), (0.05, 5.0): [0, 7]}
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag, [START_NS + i * STEP_NS for i in range(len(poses))])
        for index, (x_m, yaw_deg) in enumerate(poses):
            T_44 = np.eye(4)
            T_44[0, 3] = x_m
            T_44[:3, :3] = Rotation.from_euler('z', yaw_deg, degrees=True).as_matrix()
            bag.add('/pose', pose_stamped(START_NS + index * STEP_NS, T_44))
    for (distance_m, angle_deg), kept in kept_of.items():
        scene = read_scene(tmp_path / 'bag', pose_is_camera=True, min_distance_m=distance_m,
                           min_angle_deg=angle_deg)
        assert [round((f.stamp_s - START_NS / S) / 0.1) for f in scene.frames] == kept
        assert [f.reason for f in scene.skipped] == [TOO_NEAR] * (len(poses) - len(kept))


def test_the_end_of_the_recording_can_be_held_out(drive):
    scene = read_scene(drive, held_out_tail=0.25)
    assert [frame.split for frame in scene.frames] == ['train'] * 13 + ['test'] * 4


def test_splits_by_name_lie_in_the_folder_of_the_bag(drive):
    names = [frame.name for frame in read_scene(drive).frames]
    (drive / 'splits').mkdir()
    (drive / 'splits' / 'hard.txt').write_text('\n'.join(names[5:8]))
    scene = read_scene(drive, split='hard')
    assert [frame.name for frame in scene.split('test')] == names[5:8]
    with pytest.raises(SceneError, match=r'soft.txt: no such split'):
        read_scene(drive, split='soft')


def test_a_t265(tmp_path):
    """Mono fisheye images and odometry of another frame; no CameraInfo, no transforms."""
    path = SHARED_DATA / 'bag_sample'
    if not path.is_dir():
        pytest.skip(f'needs the recording {path}, which is not part of the repository')
    calibration = {'image_width': 848, 'image_height': 800, 'distortion_model': 'equidistant',
                   'camera_matrix': {'data': [286.0, 0, 422.0, 0, 286.0, 397.0, 0, 0, 1]},
                   'distortion_coefficients': {'data': [-0.0065, 0.043, -0.041, 0.0077, 0.0]}}
    (tmp_path / 't265.yaml').write_text(yaml.safe_dump(calibration))
    # Of the data sheet: the fisheye looks along the body's -z, the image's down is its -y.
    T_body_camera = np.diag([1.0, -1.0, -1.0, 1.0])
    chosen = {'image_topic': '/camera/fisheye1/image_raw', 'min_distance_m': 0.0}
    with pytest.raises(SceneError, match=r'no topic with calibrations; .*--camera-info-file'):
        read_scene(path, **chosen)
    chosen['camera_info_file'] = tmp_path / 't265.yaml'
    with pytest.raises(SceneError, match=r"'camera_pose_frame', the images are from "
                                         r"'camera_fisheye1_optical_frame', and no chain"):
        read_scene(path, **chosen)
    scene = read_scene(path, T_body_camera=T_body_camera, **chosen)
    assert [f.reason for f in scene.skipped] == ['before the first pose']
    assert len(scene.frames) == 2 and scene.frames[0].name == '1553180224.394249439'
    position = scene.frames[0].T_world_camera[:3, 3]
    # Between the samples of .391203165 and .396212339: see the recording.
    before, after = np.array([3.89740538, 0.63060635, 0.42192792]), np.array(
        [3.89821386, 0.63022708, 0.42146554])
    np.testing.assert_allclose(position, before + (after - before) * 3046274 / 5009174, atol=1e-6)
    image = read_frame_image(scene.frames[0])
    assert image.shape == (800, 848, 3) and image.float().std() > 10
    assert (image[..., 0] == image[..., 2]).all()
