# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Whole recordings: topics found, poses composed, frames chosen, damage named."""

from collections import Counter

import numpy as np
import pytest
import yaml
from bag_writer import (
    OPTICAL,
    R_BODY_OPTICAL,
    BagWriter,
    camera_info,
    compressed_image,
    jpeg,
    odometry,
    pose_stamped,
    pose_with_covariance,
    raw_image,
    transform,
)
from conftest import SHARED_DATA
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.ros_bag import TOO_NEAR, read_ros_bag
from implicit_relocalizer.data.scenes import detect_format, read_scene

S = 10**9
START_NS = 1_700_000_000 * S
STEP_NS = S // 10
SIZE = (48, 32)
K_33 = np.array([[40.0, 0.0, 23.5], [0.0, 40.0, 15.5], [0.0, 0.0, 1.0]])
COUNT = 17

T_BASE_CAMERA = np.eye(4)
T_BASE_CAMERA[:3, :3] = Rotation.from_euler('zyx', [20, 10, -5], degrees=True).as_matrix() \
    @ R_BODY_OPTICAL
T_BASE_CAMERA[:3, 3] = 0.3, -0.1, 0.5


def body_pose(time_s):
    """A robot that drives a curve; between samples 20 ms apart its path is straight enough."""
    T_world_base = np.eye(4)
    T_world_base[:3, :3] = Rotation.from_euler(
        'zyx', [0.8 * np.sin(time_s), 0.05 * np.cos(3 * time_s), 0.1 * time_s]).as_matrix()
    T_world_base[:3, 3] = time_s, np.cos(time_s), 0.1 * np.sin(2 * time_s)
    return T_world_base


def image_stamps():
    return [START_NS + 12_345_678 + i * STEP_NS for i in range(COUNT)]


def rgb_of(index):
    return np.random.default_rng(index).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)


def camera_pose(stamp_ns):
    return body_pose((stamp_ns - START_NS) / S) @ T_BASE_CAMERA


def add_images(bag, stamps=None, topic='/camera/image_raw', **options):
    stamps = image_stamps() if stamps is None else stamps
    for index, stamp_ns in enumerate(stamps):
        bag.add(topic, raw_image(stamp_ns, rgb_of(index), **options))
        bag.add(topic.rsplit('/', 1)[0] + '/camera_info', camera_info(stamp_ns, K_33, SIZE))


def pose_stamps(step_ns=S // 50):
    return range(START_NS, START_NS + (COUNT + 1) * STEP_NS, step_ns)


def add_odometry(bag, topic='/odom', **options):
    for stamp_ns in pose_stamps():
        bag.add(topic, odometry(stamp_ns, body_pose((stamp_ns - START_NS) / S), **options))


def add_mounting(bag):
    """The camera on the robot in two steps, as in a URDF."""
    T_base_link = np.eye(4)
    T_base_link[:3, 3] = 0.1, 0.2, 0.3
    bag.add('/tf_static', transform(0, 'base_link', 'camera_link', T_base_link))
    bag.add('/tf_static', transform(0, 'camera_link', OPTICAL,
                                    np.linalg.inv(T_base_link) @ T_BASE_CAMERA))


@pytest.fixture(params=['mcap', 'sqlite3'])
def storage(request):
    return request.param


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """An ordinary recording, to be read only."""
    path = tmp_path_factory.mktemp('bags') / 'drive'
    with BagWriter(path) as bag:
        add_images(bag)
        add_odometry(bag)
        add_mounting(bag)
    return path


def poses_differ_by(scene):
    """Largest difference to the true camera poses, metres and degrees."""
    errors = []
    for frame in scene.frames:
        true = camera_pose(round(frame.stamp_s * S))
        turn = Rotation.from_matrix(true[:3, :3].T @ frame.T_world_camera[:3, :3])
        errors.append((np.linalg.norm(true[:3, 3] - frame.T_world_camera[:3, 3]),
                       np.degrees(turn.magnitude())))
    return np.max(errors, axis=0)


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


def test_several_topics_are_listed_and_a_name_chooses(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for side in ('left', 'right'):
            add_images(bag, topic=f'/{side}/image_raw')
        depth = np.zeros((SIZE[1], SIZE[0]), np.uint16)
        bag.add('/depth/image_raw', raw_image(START_NS, depth, '16UC1'))
        bag.topic('/pose', 'geometry_msgs/msg/PoseStamped')
        add_odometry(bag)
        add_odometry(bag, '/other_odom')
        add_mounting(bag)

    def fails(message, **options):
        with pytest.raises(SceneError, match=message):
            read_scene(tmp_path / 'bag', **options)

    images = (r'several topics with images; choose one with --image-topic: /left/image_raw '
              r'\(sensor_msgs/msg/Image, 17 messages\), /right/image_raw \([^)]*\)$')
    fails(images)
    chosen = {'image_topic': '/left/image_raw'}
    fails(r'several topics with poses; choose one with --pose-topic: /odom .*, /other_odom '
          r'\(nav_msgs/msg/Odometry', **chosen)
    fails(r'no topic /odo; fitting topics: .*/odom', pose_topic='/odo', **chosen)
    fails(r'/pose .* is empty', pose_topic='/pose', **chosen)
    fails(r'/odom .* is of another type; fitting topics: .*/left', image_topic='/odom')
    fails(r'several topics with calibrations; .*--camera-info-topic.*--camera-info-file',
          image_topic='/depth/image_raw')
    scene = read_scene(tmp_path / 'bag', pose_topic='odom', **chosen)
    assert len(scene.frames) == COUNT


def test_a_bag_without_images_poses_or_calibration_says_what_it_has(tmp_path):
    with BagWriter(tmp_path / 'blind') as bag:
        add_odometry(bag)
    with pytest.raises(SceneError, match=r'no topic with images; expected .*the bag has: /odom'):
        read_scene(tmp_path / 'blind')
    with BagWriter(tmp_path / 'lost') as bag:
        add_images(bag)
    with pytest.raises(SceneError, match=r'holds no poses: .*record /tf'):
        read_scene(tmp_path / 'lost')
    with BagWriter(tmp_path / 'empty') as bag:
        bag.topic('/camera/image_raw', 'sensor_msgs/msg/Image')
    with pytest.raises(SceneError, match=r'no topic with images; fitting topics: .* 0 messages'):
        read_scene(tmp_path / 'empty')


def test_a_calibration_that_changes_holds_from_its_stamp_on(tmp_path):
    other_33 = K_33 * [[1.5], [1.5], [1.0]]
    other_33[:2, 2] = K_33[:2, 2]
    stamps = image_stamps()
    with BagWriter(tmp_path / 'bag') as bag:
        for index, stamp_ns in enumerate(stamps):
            bag.add('/camera/image_raw', raw_image(stamp_ns, rgb_of(index)))
        bag.add('/camera/camera_info', camera_info(stamps[0], K_33, SIZE))
        bag.add('/camera/camera_info', camera_info(stamps[9], other_33, SIZE))
        add_odometry(bag)
        add_mounting(bag)
    scene = read_scene(tmp_path / 'bag')
    focal_px = [frame.K_33[0, 0] for frame in scene.frames]
    assert focal_px == [40.0] * 9 + [60.0] * 8


def test_images_of_another_size_than_their_calibration_are_left_out(tmp_path, drive):
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag)
        bag.add('/camera/image_raw', raw_image(image_stamps()[-1] + 5, np.zeros((16, 24, 3),
                                                                                 np.uint8)))
        add_odometry(bag)
        add_mounting(bag)
    scene = read_scene(tmp_path / 'bag', min_distance_m=0.0)
    assert len(scene.frames) == COUNT
    assert [f.reason[:50] for f in scene.skipped] == [
        '24x16 pixels while /camera/camera_info is for 48x3']
    calibration = {'image_width': 24, 'image_height': 16,
                   'camera_matrix': {'data': [20.0, 0, 11.5, 0, 20.0, 7.5, 0, 0, 1]}}
    (tmp_path / 'small.yaml').write_text(yaml.safe_dump(calibration))
    with pytest.raises(SceneError, match=r'no image of /camera/image_raw .* can be used: 17 48x32 '
                                         r'pixels while .*small.yaml is for 24x16'):
        read_scene(drive, camera_info_file=tmp_path / 'small.yaml')


def test_rectified_topics_have_P(tmp_path):
    P_34 = np.array([[30.0, 0, 23, 0], [0, 30, 15, 0], [0, 0, 1, 0]])
    with BagWriter(tmp_path / 'bag') as bag:
        for index, stamp_ns in enumerate(image_stamps()):
            bag.add('/camera/image_rect/compressed', compressed_image(
                stamp_ns, jpeg(rgb_of(index)), 'rgb8; jpeg compressed bgr8'))
        bag.add('/camera/camera_info', camera_info(
            START_NS, K_33, SIZE, 'plumb_bob', (-0.1, 0.01, 0, 0, 0), P_34))
        add_odometry(bag)
        add_mounting(bag)
    frame = read_scene(tmp_path / 'bag').frames[2]
    np.testing.assert_array_equal(frame.K_33, P_34[:, :3])
    assert frame.lens is None and frame.image_bytes == jpeg(rgb_of(2))
    raw = read_scene(tmp_path / 'bag', rectified=False).frames[2]
    assert raw.lens is not None and raw.lens.coefficients == (-0.1, 0.01, 0, 0, 0)
    assert read_frame_image(raw).shape == (SIZE[1], SIZE[0], 3)


def test_damaged_images_are_left_out_and_counted(tmp_path, storage):
    stamps = image_stamps()
    with BagWriter(tmp_path / 'bag', storage) as bag:
        for index, stamp_ns in enumerate(stamps):
            data = jpeg(rgb_of(index))
            bag.add('/camera/image_raw/compressed', compressed_image(
                stamp_ns, data[:len(data) // 2] if index == 3 else data),
                cut_bytes=100 if index == 5 else 0)
        bag.add('/camera/image_raw/compressed', compressed_image(0, jpeg(rgb_of(0))))
        bag.add('/camera/image_raw/compressed', compressed_image(stamps[2], jpeg(rgb_of(0))))
        bag.add('/camera/camera_info', camera_info(START_NS, K_33, SIZE))
        add_odometry(bag)
        add_mounting(bag)
    scene = read_scene(tmp_path / 'bag')
    assert Counter(f.reason for f in scene.skipped) == {
        'cannot be decoded (cut off or damaged)': 1, 'the message is damaged': 1,
        'no stamp in the header': 1, 'the stamp of an earlier image': 1}
    assert len(scene.frames) == COUNT - 2


def test_files_that_are_cut_off_are_named_with_the_remedy(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        add_images(bag)
        add_odometry(bag)
        add_mounting(bag)
    file = next((tmp_path / 'bag').glob('bag.*'))
    whole = file.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        file.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(SceneError, match=r'bag: damaged, or cut off .*mcap recover.*reindex'):
            read_scene(tmp_path / 'bag')
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(8192) + whole[middle + 8192:])
    try:  # zeros in the middle hit an image, or what holds the file together
        assert len(read_scene(tmp_path / 'bag').frames) <= COUNT
    except SceneError as error:
        assert 'damaged, or cut off' in str(error)
    file.unlink()
    with pytest.raises(SceneError, match=r'damaged, or cut off .*missing'):
        read_scene(tmp_path / 'bag')


def test_folders_without_metadata(tmp_path, drive, caplog):
    with BagWriter(tmp_path / 'bag') as bag:
        add_images(bag)
        add_odometry(bag)
        add_mounting(bag)
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    assert len(read_scene(tmp_path / 'bag').frames) == COUNT
    assert 'has no metadata.yaml' in caplog.text
    (tmp_path / 'bag' / 'bag_1.mcap').write_bytes(b'')
    with pytest.raises(SceneError, match=r'2 \.mcap or \.db3 files.*ros2 bag reindex'):
        read_scene(tmp_path / 'bag')
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    with pytest.raises(SceneError, match=r'old.bag: a ROS 1 bag; convert .*rosbags-convert'):
        read_ros_bag(tmp_path / 'old.bag')
    with pytest.raises(SceneError, match='no such'):
        read_scene(tmp_path / 'nowhere', format='ros2_bag')


@pytest.mark.parametrize(('options', 'message'), [
    ({'pose_topic': '/odom', 'world_frame': 'map'}, 'give one of the two'),
    ({'pose_is_camera': True, 'T_body_camera': np.eye(4)}, 'give one of the two'),
    ({'world_frame': 'map', 'pose_is_camera': True}, 'those of the camera frame'),
    ({'max_gap_s': 0.0}, 'max_gap_s is 0'), ({'min_angle_deg': -1.0}, 'cannot be negative'),
    ({'held_out_tail': 1.0}, 'held_out_tail is 1'), ({'max_gap_s': float('nan')}, 'nan')])
def test_options_that_make_no_sense(drive, options, message):
    with pytest.raises(ValueError, match=message):
        read_scene(drive, **options)


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
