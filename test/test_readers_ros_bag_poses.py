# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Poses between samples, and transforms along chains of frames."""

import numpy as np
import pytest
from bag_writer import make, transform
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import SceneError
from implicit_relocalizer.data.readers.bag_tf import NotConnectedError, TransformTree, add_message
from implicit_relocalizer.data.readers.pose_track import NoPoseError, PoseSample, PoseTrack

S = 10**9
EPOCH_NS = 1_700_000_000 * S  # as on robots: float seconds have only 0.2 microseconds here


def rigid(seed, scale_m=2.0):
    generator = np.random.default_rng(seed)
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.random(rng=generator).as_matrix()
    T_44[:3, 3] = generator.normal(0.0, scale_m, 3)
    return T_44


def sample(stamp_ns, T_44):
    return PoseSample(stamp_ns, tuple(T_44[:3, 3]),
                      tuple(Rotation.from_matrix(T_44[:3, :3]).as_quat()))


def test_interpolation_turns_at_constant_speed_and_moves_straight():
    first, second = rigid(1), rigid(2)
    track = PoseTrack([sample(EPOCH_NS + 100, second), sample(EPOCH_NS, first)])
    turn = np.real(logm(first[:3, :3].T @ second[:3, :3]))
    for share in (0.01, 0.3, 0.99):
        T_44 = track.interpolate(EPOCH_NS + round(100 * share), 0.2)
        np.testing.assert_allclose(T_44[:3, :3], first[:3, :3] @ expm(share * turn), atol=1e-9)
        np.testing.assert_allclose(T_44[:3, 3], (1 - share) * first[:3, 3] + share * second[:3, 3],
                                   atol=1e-12)
        np.testing.assert_allclose(T_44[3], [0, 0, 0, 1])


def test_the_opposite_quaternion_is_the_same_rotation():
    T_44 = rigid(3)
    same = sample(EPOCH_NS + S // 10, T_44)
    opposite = same._replace(quaternion_xyzw=tuple(-q for q in same.quaternion_xyzw))
    track = PoseTrack([sample(EPOCH_NS, T_44), opposite])
    np.testing.assert_allclose(track.interpolate(EPOCH_NS + S // 20, 0.2), T_44, atol=1e-12)


def test_nothing_is_extrapolated_and_long_gaps_have_no_pose():
    track = PoseTrack([sample(EPOCH_NS + at, rigid(at % 97)) for at in (0, S // 10, S)])
    with pytest.raises(NoPoseError, match='before the first pose'):
        track.interpolate(EPOCH_NS - 1, 10.0)
    with pytest.raises(NoPoseError, match='after the last pose'):
        track.interpolate(EPOCH_NS + S + 1, 10.0)
    with pytest.raises(NoPoseError, match=r'more than 0\.2 s apart'):
        track.interpolate(EPOCH_NS + S // 2, 0.2)
    track.interpolate(EPOCH_NS + S // 2, 0.9)
    track.interpolate(EPOCH_NS + S // 20, 0.2)


def test_one_pose_is_a_track():
    track = PoseTrack([sample(EPOCH_NS, rigid(1))])
    np.testing.assert_allclose(track.interpolate(EPOCH_NS, 0.2), rigid(1), atol=1e-12)
    with pytest.raises(NoPoseError, match='after the last pose'):
        track.interpolate(EPOCH_NS + 1, 0.2)


def test_a_pose_of_the_very_stamp_needs_no_neighbour():
    poses = [rigid(i) for i in range(3)]
    track = PoseTrack([sample(EPOCH_NS + i * S, pose) for i, pose in enumerate(poses)])
    for index, pose in enumerate(poses):
        np.testing.assert_allclose(track.interpolate(EPOCH_NS + index * S, 0.2), pose, atol=1e-12)


@pytest.mark.parametrize('bad', [
    {'stamp_ns': 0}, {'position_m': (0.0, float('nan'), 0.0)},
    {'quaternion_xyzw': (0.0, 0.0, 0.0, 0.0)}, {'quaternion_xyzw': (0.0, 0.0, 0.0, 1.1)},
    {'quaternion_xyzw': (0.0, 0.0, float('inf'), 1.0)}])
def test_unusable_samples_are_counted_and_left_out(bad):
    good = sample(EPOCH_NS, rigid(0))
    track = PoseTrack([good._replace(**bad), good, good._replace(stamp_ns=EPOCH_NS + 5)])
    assert track.counts.unusable == 1 and len(track) == 2
    assert len(PoseTrack([good._replace(**bad)])) == 0


def tree_of(*edges):
    """Edges are parent, child, transform, stamp or None for a fixed one."""
    tree = TransformTree()
    for parent, child, T_44, stamp_ns in edges:
        assert add_message(tree, transform(stamp_ns or 0, parent, child, T_44),
                           stamp_ns is None) == 0
    return tree


def test_a_chain_goes_up_and_down_and_interpolates_what_moves():
    T_odom_base = [rigid(1), rigid(2)]
    T_base_camera, T_base_lidar, T_map_odom = rigid(3), rigid(4), rigid(5)
    tree = tree_of(('base', '/camera', T_base_camera, None), ('base', 'lidar', T_base_lidar, None),
                   ('map', 'odom', T_map_odom, EPOCH_NS),
                   ('map', 'odom', T_map_odom, EPOCH_NS + S),
                   ('odom', 'base', T_odom_base[0], EPOCH_NS),
                   ('odom', 'base', T_odom_base[1], EPOCH_NS + S))
    np.testing.assert_allclose(tree.lookup('map', 'camera', EPOCH_NS, 0.1),
                               T_map_odom @ T_odom_base[0] @ T_base_camera, atol=1e-12)
    np.testing.assert_allclose(tree.lookup('camera', 'lidar', 5, 0.1),
                               np.linalg.inv(T_base_camera) @ T_base_lidar, atol=1e-12)
    middle = tree.lookup('odom', 'base', EPOCH_NS + S // 4, 1.0)
    np.testing.assert_allclose(tree.lookup('map', 'camera', EPOCH_NS + S // 4, 1.0),
                               T_map_odom @ middle @ T_base_camera, atol=1e-12)
    np.testing.assert_allclose(tree.lookup('camera', 'odom', EPOCH_NS + S // 4, 1.0),
                               np.linalg.inv(middle @ T_base_camera), atol=1e-12)
    assert tree.root_of('camera') == 'map'
    assert tree.moves('map', 'camera') and not tree.moves('lidar', 'camera')
    with pytest.raises(NoPoseError, match=r'map -> odom: poses more than 0\.1 s apart'):
        tree.lookup('map', 'camera', EPOCH_NS + S // 4, 0.1)


def test_frames_that_are_not_connected_are_named_with_those_that_exist():
    tree = tree_of(('base', 'camera', rigid(1), None), ('map', 'tag', rigid(2), None))
    assert not tree.are_connected('map', 'camera') and not tree.are_connected('map', 'nowhere')
    with pytest.raises(NotConnectedError, match=r"'map' and 'camera'.*\['base', 'camera', 'map'"):
        tree.lookup('map', 'camera', EPOCH_NS, 0.1)


def test_two_parents_and_circles_are_errors():
    two = tree_of(('a', 'c', rigid(1), None), ('b', 'c', rigid(2), EPOCH_NS))
    with pytest.raises(SceneError, match=r"'c' has several parents in /tf: \['a', 'b'\]"):
        two.lookup('a', 'c', EPOCH_NS, 0.1)
    circle = tree_of(('a', 'b', rigid(1), None), ('b', 'a', rigid(2), None))
    with pytest.raises(SceneError, match='form a circle'):
        circle.lookup('a', 'b', EPOCH_NS, 0.1)


def test_unusable_transforms_are_counted():
    tree = TransformTree()
    broken = transform(EPOCH_NS, 'map', 'base', rigid(1))
    broken.transforms[0].transform.rotation = make('geometry_msgs/Quaternion', x=0.0, y=0.0, z=0.0,
                                                   w=0.0)
    assert add_message(tree, broken, False) == 1
    assert add_message(tree, transform(0, 'map', 'base', rigid(1)), False) == 1
    assert add_message(tree, transform(EPOCH_NS, '', 'base', rigid(1)), False) == 1
    assert tree.frames == []
