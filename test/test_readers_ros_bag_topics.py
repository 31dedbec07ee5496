# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Whole recordings: topics found or asked for, calibrations and the images they are for."""


import numpy as np
import pytest
import yaml
from bag_drive import (
    COUNT,
    K_33,
    SIZE,
    START_NS,
    add_images,
    add_mounting,
    add_odometry,
    image_stamps,
    rgb_of,
    write_drive,
)
from bag_writer import (
    BagWriter,
    camera_info,
    compressed_image,
    jpeg,
    raw_image,
)

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.scenes import read_scene


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """An ordinary recording, to be read only."""
    return write_drive(tmp_path_factory.mktemp('bags') / 'drive')


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
