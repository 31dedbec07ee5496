# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the node does when it is asked, and when it listens: services, modes, points."""

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

from colour_model import write_model
from diagnostic_msgs.msg import DiagnosticStatus
from node_services import ACTIVATE, CONFIGURE, DEACTIVATE
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Empty

UNSURE = (10, 20, 255)  # an answer with confidence 0.1
SURE = (10, 20, 30)  # 0.9


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'colours.pt')


@pytest.fixture
def robot(continuous):
    """A node in mode continuous without images, whose consensus needs three sure ones."""
    continuous.colour = SURE
    yield continuous
    continuous.cut()


@pytest.fixture(scope='module')
def continuous(start, model):
    return start(model, consensus_fixes=3, min_confidence=0.5, request_timeout_s=2.0,
                 lost_after_s=1.5).begin()


def test_relocalize_answers_after_the_attempt_with_reason_and_score(robot):
    asked = robot.relocalize()
    robot.spin(0.5)
    assert not asked.done()
    robot.film(20.0)
    robot.wait_until(asked.done)
    answer = asked.result()
    assert answer.success
    assert answer.message == 'fixes_agree: 3 of 3 fixes agree, confidence 0.90'
    assert robot.poses
    robot.await_message('LOCALIZED: fixes_agree')
    assert 'SEARCHING: requested (for at most 2 s)' in robot.process.output()


def test_an_attempt_in_vain_is_answered_in_time_with_what_was_wrong(robot):
    robot.colour = UNSURE
    robot.film(20.0)
    began_s = time.monotonic()
    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert 1.9 < time.monotonic() - began_s < 5.0
    assert not answer.result().success
    message = answer.result().message
    assert message.startswith('request_timeout: no pose within 2 s from ')
    assert message.endswith('the last one: confidence_low: confidence 0.100 is below '
                            'min_confidence 0.500; the view may be unknown to the model')
    assert robot.values()['state'] == 'SEARCHING'  # it goes on, in this mode
    robot.cut()
    robot.spin(0.5)  # for the last images on their way
    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert 'no pose within 2 s from 0 images' in answer.result().message


def test_two_who_ask_at_once_hear_the_same(robot):
    first, second = robot.relocalize(), robot.relocalize()
    robot.spin(0.3)
    robot.film(20.0)
    robot.wait_until(lambda: first.done() and second.done())
    assert first.result().success and second.result().success
    assert first.result().message == second.result().message
    robot.cut()
    answers = [robot.relocalize(), robot.relocalize()]
    robot.wait_until(lambda: all(answer.done() for answer in answers))
    assert all(answer.result().message.startswith('request_timeout: ') for answer in answers)


def test_while_one_waits_others_are_served(robot):
    robot.colour = UNSURE
    robot.film(20.0)
    robot.next_values()
    waiting = robot.relocalize()
    refused = int(robot.next_values()['images_refused'])
    reports = len(robot.reports)
    began_s = time.monotonic()
    assert robot.get('min_confidence') == 0.5
    assert robot.set(agree_rotation_deg=9.0)[0].successful
    assert robot.state() == 'active'
    assert time.monotonic() - began_s < 1.5 and not waiting.done()
    robot.wait_until(lambda: waiting.done() or len(robot.reports) > reports)
    assert not waiting.done()
    assert int(robot.values()['images_refused']) > refused  # images are looked at
    robot.wait_until(waiting.done)
    assert not waiting.result().success


def test_a_node_that_is_not_active_says_so(robot):
    waiting = robot.relocalize()
    robot.spin(0.2)
    assert robot.change(DEACTIVATE)
    robot.wait_until(waiting.done)
    assert not waiting.result().success
    assert waiting.result().message == 'deactivated: activate the node first'
    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert not answer.result().success
    assert answer.result().message == 'not_active: activate the node first'
    robot.call('reinitialize_global_localization', Empty.Request())
    assert robot.change(ACTIVATE)
    robot.connect()


def test_reinitialize_searches_again(robot):
    robot.film(20.0)
    robot.await_message('LOCALIZED: fixes_agree')
    robot.cut()
    robot.call('reinitialize_global_localization', Empty.Request())
    robot.await_message('SEARCHING: requested')
    assert robot.reports[-1].level == DiagnosticStatus.WARN
    robot.film(20.0)
    robot.await_message('LOCALIZED: fixes_agree')


def test_points_leave_only_for_those_who_listen(robot):
    robot.film(20.0)
    robot.await_message('LOCALIZED: fixes_agree')
    clouds: list[PointCloud2] = []
    ears = robot.node.create_subscription(PointCloud2, 'relocalizer/points', clouds.append,
                                          QoSProfile(depth=100))
    robot.wait_until(lambda: len(clouds) >= 2)
    cloud = clouds[-1]
    assert cloud.header.frame_id == 'map'
    np.testing.assert_allclose(np.frombuffer(cloud.data, '<f4').reshape(cloud.width, 4),
                               [[10.0, 20.0, 30.0, 0.25], [11.0, 21.0, 31.0, 0.75]])
    robot.node.destroy_subscription(ears)


def test_a_model_without_points_has_none_for_those_who_listen(start, tmp_path):
    robot = start(write_model(tmp_path / 'pointless.pt', has_points=False))
    robot.node.create_subscription(PointCloud2, 'relocalizer/points', lambda _: None, 10)
    robot.begin()
    robot.film(20.0)
    robot.wait_until(lambda: len(robot.poses) >= 3)
    assert robot.process.status() is None


def test_diagnostics_come_each_second_and_at_once_on_a_change(robot):
    assert robot.set(lost_after_s=20.0)[0].successful
    robot.film(20.0)
    robot.await_message('LOCALIZED: fixes_agree')
    count = len(robot.reports)
    robot.wait_until(lambda: len(robot.reports) == count + 4)
    assert 0.9 < np.median(np.diff(robot.report_times_s[count:])) < 1.5
    values = robot.values()
    assert robot.reports[-1].level == DiagnosticStatus.OK
    assert robot.reports[-1].name == f'{robot.node.get_namespace()}/relocalizer: localization'
    assert values['mode'] == 'continuous' and values['confidence'] == '0.900'
    assert 1.0 < float(values['images_per_s']) < 30.0
    assert 1.0 < float(values['fixes_per_s']) < 30.0
    assert 0.0 <= float(values['image_age_s']) < 1.0
    assert 0.0 < float(values['inference_ms']) < 500.0
    answered, received = int(values['images_answered']), int(values['images_received'])
    assert answered + int(values['images_refused']) + int(values['images_superseded']) <= received
    assert robot.set(lost_after_s=0.5)[0].successful
    robot.colour = UNSURE
    robot.await_message('LOST: no_fix')
    assert robot.reports[-1].level == DiagnosticStatus.ERROR
    assert robot.values()['last_refusal'] == 'confidence_low'
    assert 'below min_confidence' in robot.values()['last_refusal_text']
    robot.colour = SURE
    robot.await_message('LOCALIZED: fixes_agree')
    robot.cut()
    robot.await_message('LOST: no_images')
    # A change does not wait for the second to be over.
    assert min(np.diff(robot.report_times_s[count + 4:])) < 0.9


def test_on_request_it_looks_only_after_a_call(start, model):
    robot = start(model, mode='on_request', consensus_fixes=3, min_confidence=0.5,
                  request_timeout_s=1.0)
    robot.begin(CONFIGURE, ACTIVATE)
    robot.wait_until(robot.has_voice)
    robot.film(20.0)
    robot.await_message('LOST: waiting_for_request')
    assert robot.reports[-1].level == DiagnosticStatus.WARN  # nothing is wrong yet
    robot.spin(1.0)
    assert not robot.is_watched() and not robot.poses
    assert robot.next_values()['images_received'] == '0'

    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert answer.result().success, answer.result().message
    robot.wait_until(lambda: not robot.is_watched())
    # One pose leaves, that on which the fixes agreed; the node stops to look.
    robot.spin(0.5)
    assert len(robot.poses) == 1
    assert robot.await_message('LOCALIZED: fixes_agree')['mode'] == 'on_request'

    robot.colour = UNSURE
    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert not answer.result().success
    assert 'request_timeout' in answer.result().message
    assert 'confidence_low' in answer.result().message
    robot.await_message('LOST: request_timeout')
    robot.wait_until(lambda: not robot.is_watched())
    robot.colour = SURE
    robot.call('reinitialize_global_localization', Empty.Request())
    robot.await_message('LOCALIZED: fixes_agree')
    robot.wait_until(lambda: len(robot.poses) == 2)


def test_at_startup_it_looks_until_it_has_announced_and_again_on_request(start, model):
    robot = start(model, mode='startup', consensus_fixes=3, min_confidence=0.5).begin()
    robot.film(20.0)
    robot.wait_until(lambda: bool(robot.poses))
    robot.wait_until(lambda: not robot.is_watched())
    robot.await_message('LOCALIZED: fixes_agree')
    robot.spin(1.0)
    assert len(robot.poses) == 1 and robot.values()['state'] == 'LOCALIZED'
    answer = robot.relocalize()
    robot.wait_until(answer.done)
    assert answer.result().success, answer.result().message
    robot.wait_until(lambda: len(robot.poses) == 2)
    robot.wait_until(lambda: not robot.is_watched())
