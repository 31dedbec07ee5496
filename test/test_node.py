# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node as a user starts it, in a process of its own, spoken to over DDS."""

import signal
import uuid
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

from colour_model import write_model
from node_peer import HEIGHT, WAIT_S, WIDTH, Peer, colour_image, info
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient


@pytest.fixture(scope='module')
def start(spawn, relocalizer_command, context):
    """Starts a node with some parameters, in a namespace of its own."""
    def start_node(model: Path, **parameters):
        namespace = f'/robot_{uuid.uuid4().hex[:8]}'
        # Not auto: no image shall be lost while it changes the subscription.
        values = {'model': model, 'image_reliability': 'reliable', 'consensus_fixes': 1,
                  'min_confidence': 0.0, 'max_position_std_m': 0.0,
                  'announce_initialpose': 'false', **parameters}
        process = spawn([*relocalizer_command, '--ros-args', '-r', f'__ns:={namespace}',
                         '-r', '/tf:=tf', *(part for name, value in values.items()
                                            for part in ('-p', f'{name}:={value}'))])
        process.wait_for('ready')
        return process, Peer(namespace, context)
    return start_node


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'colours.pt')


@pytest.fixture(scope='module')
def robot(start, model):
    """A node that answers, and its peer."""
    process, peer = start(model, min_confidence=0.5, map_frame='office')
    peer.answer(colour_image((1, 2, 3), stamp=1), info())
    return process, peer


def test_it_says_what_it_runs(robot):
    # A pose leaves before the state that it brings is told.
    output = robot[0].wait_for('state SEARCHING -> LOCALIZED: fixes_agree', WAIT_S)
    for text in ("scene 'colours'", 'on cpu', 'held_out_median_m', '0.125'):
        assert text in output


def test_an_image_is_answered_by_one_pose_thrice_told(robot):
    pose, covariance, transform = robot[1].answer(
        colour_image((20, 30, 40), stamp=10), info())
    assert pose.header.frame_id == covariance.header.frame_id == 'office'
    assert (transform.header.frame_id, transform.child_frame_id) == ('office', 'lens')
    assert covariance.pose.pose == pose.pose
    p, t = pose.pose.position, transform.transform.translation
    assert (p.x, p.y, p.z) == (t.x, t.y, t.z) == (20.0, 30.0, 40.0)
    assert transform.transform.rotation == pose.pose.orientation
    q = pose.pose.orientation
    turn = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_rotvec()
    np.testing.assert_allclose(turn, [0.0, 0.0, 0.3], atol=1e-6)
    np.testing.assert_allclose(
        np.reshape(covariance.pose.covariance, (6, 6)),
        np.diag([60.0, 61.0, 31.5, 23.5, 1.0, 1.0]))


@pytest.mark.parametrize(('stamp', 'image', 'expected'), [
    (20, {'colour': (50, 60, 70), 'padding': 7}, [50.0, 60.0, 70.0]),
    (21, {'colour': (70, 60, 50), 'encoding': 'bgr8'}, [50.0, 60.0, 70.0]),
    (22, {'colour': (90,), 'encoding': 'mono8', 'padding': 64}, [90.0, 90.0, 90.0]),
])
def test_other_layouts_are_the_same_image(robot, stamp, image, expected):
    assert robot[1].position(colour_image(stamp=stamp, **image), info()) == expected


def test_region_and_binning_reach_the_model(robot):
    binned = info(width=2 * WIDTH + 8, height=2 * HEIGHT + 4, binning_x=2, binning_y=2)
    binned.roi.x_offset, binned.roi.y_offset = 8, 4
    binned.roi.width, binned.roi.height = 2 * WIDTH, 2 * HEIGHT
    _, covariance, _ = robot[1].answer(colour_image((1, 1, 1), stamp=30), binned)
    np.testing.assert_allclose(np.diag(np.reshape(covariance.pose.covariance, (6, 6)))[:4],
                               [30.0, 30.5, (31.5 - 8 + 0.5) / 2 - 0.5, (23.5 - 4) / 2 - 0.25])


@pytest.mark.parametrize(('stamp', 'image', 'camera_info', 'reason'), [
    (40, {'width': 32, 'height': 24}, {}, 'has 32x24 pixels but its CameraInfo announces 64x48'),
    (41, {}, {'k': [0.0] * 9}, 'uncalibrated'),
    (42, {'encoding': 'klingon8'}, {}, 'klingon8'),
    (43, {'frame_id': ''}, {}, 'camera_frame'),
    (44, {'colour': (255, 0, 0)}, {}, 'not finite'),
    (45, {'colour': (0, 0, 255)}, {}, 'confidence 0.100 is below min_confidence 0.500'),
])
def test_an_image_without_a_pose_has_a_reason_and_the_node_lives_on(
        robot, stamp, image, camera_info, reason):
    process, peer = robot
    count = len(peer.poses)
    peer.show(colour_image(stamp=stamp, **{'colour': (9, 9, 9), **image}), info(**camera_info))
    assert 'no pose: ' in process.wait_for(reason, WAIT_S)
    assert peer.position(colour_image((7, 8, 9), stamp=100 + stamp), info()) == [7.0, 8.0, 9.0]
    assert len(peer.poses) == count + 1


def test_a_stamp_is_answered_once(robot):
    process, peer = robot
    peer.answer(colour_image((4, 4, 4), stamp=60), info())
    peer.show(colour_image((5, 5, 5), stamp=60))
    process.wait_for('stamp_repeated: the stamp 60.000000000 came already', WAIT_S)
    peer.answer(colour_image((6, 6, 6), stamp=61))
    assert [pose.header.stamp.sec for pose in peer.poses[-2:]] == [60, 61]
    assert [tf.header.stamp.sec for tf in peer.transforms[-2:]] == [60, 61]


def test_the_confidence_asked_for_can_be_changed_while_it_runs(robot):
    peer = robot[1]
    client = AsyncParameterClient(peer.node, 'relocalizer')

    def set_min_confidence(value: float) -> None:
        done = client.set_parameters([Parameter('min_confidence', value=value)])
        peer.wait_until(done.done)
        assert done.result().results[0].successful

    unsure = (0, 0, 255)
    set_min_confidence(0.05)
    peer.answer(colour_image(unsure, stamp=70), info())
    set_min_confidence(0.5)
    peer.show(colour_image(unsure, stamp=71))
    peer.spin(0.2)
    peer.answer(colour_image((0, 0, 1), stamp=72))
    assert [pose.header.stamp.sec for pose in peer.poses[-2:]] == [70, 72]


def test_start_without_calibration_then_with_distortion_then_an_interrupt(start, model):
    process, peer = start(model, tf_mode='none', image_reliability='reliable')
    peer.show(colour_image((1, 1, 1), stamp=1))
    process.wait_for("no CameraInfo came on '/robot_", WAIT_S)
    peer.show(colour_image((2, 2, 2), stamp=2), info(d=[0.1, 0.0, 0.0, 0.0, 0.0]))
    peer.wait_until(lambda: len(peer.covariances) == 1)
    assert 'rectified' in process.output()
    assert peer.covariances[0].header.frame_id == 'map'
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    output = process.output()
    assert '2 images received, 1 answered' in output
    assert '1 rejected (no_camera_info)' in output
    assert 'Traceback' not in output
    assert peer.transforms == []


def test_under_overload_the_newest_image_wins(start, tmp_path):
    process, peer = start(write_model(tmp_path / 'slow.pt', work=60), rectified=True,
                          camera_frame='eye', num_threads=1)
    _, covariance, transform = peer.answer(colour_image((0, 0, 0), stamp=1), info())
    assert transform.child_frame_id == 'eye'
    assert covariance.pose.covariance[0] == 50.0  # of P
    for number in range(1, 61):
        peer.show(colour_image((number, 0, 0), stamp=1 + number))
        peer.spin(0.02)
    peer.wait_until(lambda: peer.poses[-1].header.stamp.sec == 61)
    # The covariance is published last; an end before that is an answer that does not count.
    peer.wait_until(lambda: peer.covariances[-1].header.stamp.sec == 61)
    peer.spin(0.2)
    stamps = [pose.header.stamp.sec for pose in peer.poses]
    assert stamps == sorted(set(stamps))
    assert [pose.pose.position.x for pose in peer.poses] == [stamp - 1.0 for stamp in stamps]
    assert len(stamps) < 30  # the load was an overload
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    output = process.output()
    assert f'{len(stamps)} answered' in output
    assert 'rejected' not in output and 'Traceback' not in output


def test_a_start_that_cannot_succeed_ends_with_one_clear_line(
        spawn, relocalizer_command, model, tmp_path):
    torn = tmp_path / 'torn.pt'
    torn.write_bytes(model.read_bytes()[:2000])
    cases = {f'model:={torn}': f'{torn}: not a TorchScript file, or cut off while copying',
             'device:=tpu': "parameter 'device' is 'tpu'; allowed are auto, cpu, cuda"}
    processes = {
        line: spawn([*relocalizer_command, '--ros-args', '-p', f'model:={model}', '-p', argument])
        for argument, line in cases.items()}
    for line, process in processes.items():
        assert process.wait() == 1
        output = process.output()
        assert line in output and '[FATAL]' in output
        assert len(output.splitlines()) == 1, output
