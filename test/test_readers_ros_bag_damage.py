# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Whole recordings: what is damaged, missing or asked for in vain is named."""

from collections import Counter

import numpy as np
import pytest
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
)

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.readers.ros_bag import read_ros_bag
from implicit_relocalizer.data.scenes import read_scene


@pytest.fixture(params=['mcap', 'sqlite3'])
def storage(request):
    return request.param


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """An ordinary recording, to be read only."""
    return write_drive(tmp_path_factory.mktemp('bags') / 'drive')


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
