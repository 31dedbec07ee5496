# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a running node: time, publishers, calibration, parameters, its end."""

import re
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

from colour_model import write_model
from node_manager import to_ns
from node_peer import HEIGHT, WIDTH, info
from node_services import ACTIVATE, CONFIGURE
from rclpy.qos import QoSProfile, ReliabilityPolicy

SECOND_NS = 10**9
UNSURE, SURE = (10, 20, 255), (10, 20, 30)
AGE_LIMIT_S = 1.0  # of an image, on a busy machine
SLOW_WORK = 40  # of the model: an image takes long enough to be hit in the middle


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'colours.pt')


@pytest.fixture(scope='module')
def slow_model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'slow.pt', work=SLOW_WORK)


@pytest.fixture(scope='module')
def continuous(start, model):
    return start(model, consensus_fixes=3, min_confidence=0.5, lost_after_s=2.0,
                 image_reliability='auto').begin()


@pytest.fixture
def robot(continuous):
    """A node that is searching, and a camera that is off."""
    continuous.cut()
    continuous.colour, continuous.camera_info = SURE, info()
    yield continuous
    continuous.cut()


def localize(robot) -> int:
    """Film until poses come again; the stamp of the last one."""
    robot.film(20.0)
    stamp_ns = robot.await_pose(robot.now_ns())
    robot.await_message('LOCALIZED: fixes_agree')
    return stamp_ns


def test_a_recording_that_begins_again_clears_the_consensus(robot):
    localize(robot)
    robot.cut()
    robot.spin(0.3)
    begin_ns = time.time_ns() - 5 * SECOND_NS
    count = len(robot.poses)
    # Two fixes before the jump and two after it: three would agree.
    robot.set(consensus_fixes=4)
    for number in range(3):
        robot.show_at(begin_ns + number * SECOND_NS // 20)
        robot.spin(0.15)
    robot.await_message('SEARCHING: time_jump')
    assert len(robot.poses) == count
    output = robot.process.output()
    assert 'LOCALIZED -> SEARCHING: time_jump (the stamps of camera_info went back by ' in output
    robot.show_at(begin_ns - SECOND_NS)
    robot.spin(0.3)
    for number in range(1, 4):
        assert len(robot.poses) == count  # three of before and these would have been enough
        robot.show_at(begin_ns - SECOND_NS + number * SECOND_NS // 20)
        robot.spin(0.15)
    robot.wait_until(lambda: len(robot.poses) == count + 1)
    robot.set(consensus_fixes=3)


def test_a_jump_back_under_load_does_not_leave_it_deaf(start, slow_model):
    """Images of before the jump are under way, and wait, when the new time begins."""
    robot = start(slow_model).begin()
    before_ns = time.time_ns()
    after_ns = before_ns - 20 * SECOND_NS
    for number in range(5):
        robot.show_at(before_ns + number * SECOND_NS // 10)
        robot.spin(0.02)
    robot.show_calibration(after_ns)  # images are bigger, and come a little later
    robot.wait_until(lambda: 'time_jump' in robot.process.output())
    count = len(robot.poses)
    inference_s = 1e-3 * float(re.findall(r'the last of (\d+) ms', robot.process.output())[0])
    robot.spin(0.2 + 3.0 * inference_s)
    for number in range(20):
        robot.show_at(after_ns + number * SECOND_NS // 10)
        robot.spin(0.1)
    robot.wait_until(lambda: robot.pose_stamps_ns()[-1:] < [before_ns])
    assert max(robot.pose_stamps_ns()[count:]) < before_ns  # nothing of before left late
    assert 'stamp_out_of_order' not in robot.process.output()


def test_a_simulation_that_is_reset(start, model):
    robot = start(model, use_sim_time=True, consensus_fixes=3, tf_mode='map_to_odom',
                  min_confidence=0.5, odometry='required')
    robot.simulate_from(100 * SECOND_NS)
    robot.mount_m = (1.0, 2.0, 0.5)
    robot.begin()
    robot.film(20.0)
    first_ns = robot.await_pose()
    assert first_ns > 100 * SECOND_NS
    robot.await_message('LOCALIZED: fixes_agree')
    robot.wait_until(lambda: bool(map_to_odom(robot)))
    translation = map_to_odom(robot)[-1].transform.translation
    assert translation.z == pytest.approx(30.0 - 0.5)
    assert 0.0 <= float(robot.next_values()['image_age_s']) < AGE_LIMIT_S

    robot.simulate_from(0)
    robot.mount_m = (3.0, 2.0, 0.5)
    robot.wait_until(lambda: 'SEARCHING: time_jump' in robot.process.output())
    robot.wait_until(lambda: robot.pose_stamps_ns()[-1] < 100 * SECOND_NS)
    robot.await_message('LOCALIZED: fixes_agree')
    # Nothing of before is left: neither in the transform nor in its stamps, sent on time again.
    robot.wait_until(lambda: to_ns(map_to_odom(robot)[-1].header.stamp) < 100 * SECOND_NS)
    assert 0.0 <= float(robot.next_values()['image_age_s']) < AGE_LIMIT_S
    robot.cut()
    robot.spin(0.5)
    count = len(map_to_odom(robot))
    robot.wait_until(lambda: len(map_to_odom(robot)) >= count + 5)
    assert all(to_ns(t.header.stamp) < 100 * SECOND_NS for t in map_to_odom(robot)[count:])
    robot.film(20.0)
    # Time stands still: the node does not.
    robot.simulate_from(robot.now_ns(), speed=0.0)
    count = len(robot.reports)
    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert len(robot.reports) > count


def map_to_odom(robot):
    return [t for t in robot.transforms if t.header.frame_id == 'map']


@pytest.mark.parametrize('reliability', [
    ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE])
def test_a_camera_driver_that_restarts_is_heard_again(robot, reliability):
    localize(robot)
    robot.remove_camera()
    robot.await_message('LOST: no_images')
    robot.plug_in_camera(QoSProfile(depth=10, reliability=reliability))
    robot.film(20.0)
    robot.await_pose(robot.now_ns())
    robot.await_message('LOCALIZED: fixes_agree')
    robot.wait_until(lambda: [info.qos_profile.reliability for info in
                              robot.node.get_subscriptions_info_by_topic('image')
                              ] == [reliability])
    robot.await_pose(robot.now_ns())


def test_calibration_that_comes_late(start, model):
    robot = start(model).begin()
    robot.calibrates = False
    robot.film(20.0)
    robot.wait_until(lambda: 'no_camera_info: no CameraInfo came' in robot.process.output())
    robot.wait_until(lambda: robot.values()['last_refusal'] == 'no_camera_info')
    assert not robot.poses
    robot.calibrates = True
    robot.await_pose()


def test_calibration_that_changes_its_size_in_flight(robot):
    localize(robot)
    # The images keep their size: they and their calibration do not belong together any more.
    robot.camera_info = info(width=WIDTH // 2, height=HEIGHT // 2)
    robot.wait_until(lambda: robot.values()['last_refusal'] == 'wrong_resolution')
    robot.await_message('LOST: no_fix')
    assert ('has 64x48 pixels but its CameraInfo announces 32x24'
            in robot.values()['last_refusal_text'])
    count = len(robot.poses)
    robot.spin(0.5)
    assert len(robot.poses) == count
    # Now both change: the camera's mode was changed.
    robot.camera_info = info(width=2 * WIDTH, height=2 * HEIGHT)
    robot.image_scale = 2
    robot.await_pose(robot.now_ns())
    robot.await_message('LOCALIZED: fixes_agree')
    robot.image_scale = 1
    robot.camera_info = info()
    robot.await_pose(robot.now_ns())


def test_parameters_change_while_images_come(robot):
    localize(robot)
    robot.colour = UNSURE
    assert robot.set(min_confidence=0.05)[0].successful
    robot.await_pose(robot.now_ns())
    assert robot.set(min_confidence=0.5, lost_after_s=0.3)[1].successful
    robot.await_message('LOST: no_fix')
    robot.colour = SURE
    robot.await_message('LOCALIZED: fixes_agree')
    # Fixed ones are refused with the reason, and so is what comes with them.
    for name, value in (('model', '/elsewhere.pt'), ('mode', 'startup'), ('map_frame', 'office'),
                        ('tf_mode', 'none'), ('rectified', True), ('device', 'cpu')):
        refused, = robot.set(**{name: value})
        assert not refused.successful
        assert refused.reason == (f"parameter '{name}' holds while the node is configured; "
                                  f'deactivate it and clean it up first')
    refused = robot.set_together(min_confidence=0.05, mode='startup')
    assert not refused.successful and "'mode' holds" in refused.reason
    refused = robot.set_together(min_confidence=0.05, consensus_fixes=0)
    assert not refused.successful and 'consensus_fixes' in refused.reason
    assert robot.get('min_confidence') == 0.5 and robot.get('consensus_fixes') == 3
    # Together: nothing may pass between an unsure answer's admission and a rate of nearly none.
    assert robot.set_together(min_confidence=0.05, max_rate_hz=5.0).successful
    robot.colour = UNSURE
    robot.spin(0.3)
    count = len(robot.poses)
    robot.spin(2.0)
    assert 5 <= len(robot.poses) - count <= 12
    assert robot.set_together(min_confidence=0.5, max_rate_hz=0.0, lost_after_s=2.0).successful
    assert 'Traceback' not in robot.process.output()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('state', [
    'unconfigured', 'inactive', 'idle', 'under load', 'asked'])
def test_a_signal_ends_it_soon_and_in_good_order(start, model, slow_model, state, number):
    robot = start(slow_model if state == 'under load' else model)
    robot.await_services()
    for transition in () if state == 'unconfigured' else (CONFIGURE,):
        assert robot.change(transition)
    if state not in ('unconfigured', 'inactive'):
        assert robot.change(ACTIVATE)
        robot.connect()
    if state == 'under load':
        robot.film(100.0)
        robot.await_pose()
    if state == 'asked':
        answer = robot.relocalize()
        robot.await_message('SEARCHING: requested')
        assert not answer.done()
    took_s = robot.process.end_by(number)
    assert robot.process.wait() == 0, robot.process.output()
    assert took_s < 2.0
    assert 'Traceback' not in robot.process.output()
    assert 'never awaited' not in robot.process.output()
