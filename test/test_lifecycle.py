# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node under a lifecycle manager, as nav2_lifecycle_manager speaks to it."""

import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

from colour_model import write_model
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import GetAvailableTransitions
from node_services import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, SHUTDOWN
from rclpy.node import NodeNameNonExistentError

CYCLES = 50
SETTLED = 10  # cycles after which nothing is done for the first time any more
GROWTH_LIMIT_KIB = 50.0  # per cycle; 10 were measured


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'colours.pt')


@pytest.fixture(scope='module')
def robot(start, model):
    return start(model)


def offered(robot) -> set[str]:
    answer = robot.call('relocalizer/get_available_transitions',
                        GetAvailableTransitions.Request())
    return {description.transition.label for description in answer.available_transitions}


def ears(robot) -> set[str]:
    """What the node subscribes to, without what every node does."""
    return topics_of(robot, robot.node.get_subscriber_names_and_types_by_node) - {
        '/parameter_events'}


def voices(robot) -> set[str]:
    return topics_of(robot, robot.node.get_publisher_names_and_types_by_node) - {
        '/parameter_events', '/rosout'}


def topics_of(robot, ask) -> set[str]:
    """Names in the node's namespace. Discovery may know its services before it knows the node."""
    namespace = robot.node.get_namespace()
    try:
        names = ask('relocalizer', namespace)
    except NodeNameNonExistentError:
        return {'not discovered'}
    return {name.removeprefix(namespace + '/') for name, _ in names}


QUIET = {'diagnostics', 'relocalizer/transition_event'}
ACTIVE_EARS = {'image', 'camera_info', 'tf', 'tf_static', 'amcl_pose'}
ACTIVE_VOICES = QUIET | {'relocalizer/pose', 'relocalizer/pose_with_covariance',
                         'relocalizer/points', 'initialpose', 'tf'}


def check_quiet(robot, state: str, scene: str, reason: str) -> None:
    """In this state the node neither hears nor says anything but its diagnostics."""
    assert robot.state() == state
    robot.wait_until(lambda: ears(robot) == set() and voices(robot) == QUIET)
    count = len(robot.poses)
    robot.film(20.0)
    values = robot.next_values()
    robot.cut()
    assert len(robot.poses) == count
    report = robot.reports[-1]
    assert report.level == DiagnosticStatus.WARN
    assert report.message == f'UNCONFIGURED: {reason}' and report.hardware_id == scene
    assert values['state'] == 'UNCONFIGURED' and values['state_reason'] == reason


def check_active(robot) -> None:
    """In this state it answers images."""
    assert robot.state() == 'active'
    robot.connect()
    robot.wait_until(lambda: ears(robot) == ACTIVE_EARS and voices(robot) == ACTIVE_VOICES)
    robot.await_message('SEARCHING: activated')
    robot.film(20.0)
    robot.await_pose(robot.now_ns())
    values = robot.await_message('LOCALIZED: fixes_agree')
    robot.cut()
    assert robot.reports[-1].level == DiagnosticStatus.OK
    assert robot.reports[-1].hardware_id == 'colours'
    assert int(values['images_answered']) >= 1


def test_a_manager_leads_it_through_every_transition(robot):
    robot.await_services()
    assert offered(robot) == {'configure', 'shutdown'}
    for illegal in (ACTIVATE, DEACTIVATE, CLEANUP):
        assert not robot.change(illegal)
    check_quiet(robot, 'unconfigured', '', 'not_active')

    assert robot.change(CONFIGURE)
    assert offered(robot) == {'activate', 'cleanup', 'shutdown'}
    for illegal in (CONFIGURE, DEACTIVATE):
        assert not robot.change(illegal)
    check_quiet(robot, 'inactive', 'colours', 'not_active')

    assert robot.change(ACTIVATE)
    assert offered(robot) == {'deactivate', 'shutdown'}
    for illegal in (CONFIGURE, ACTIVATE, CLEANUP):
        assert not robot.change(illegal)
    check_active(robot)

    assert robot.change(DEACTIVATE)
    check_quiet(robot, 'inactive', 'colours', 'deactivated')
    assert robot.change(ACTIVATE)
    check_active(robot)
    assert robot.change(DEACTIVATE)
    assert robot.change(CLEANUP)
    assert offered(robot) == {'configure', 'shutdown'}
    check_quiet(robot, 'unconfigured', '', 'deactivated')
    assert robot.change(CONFIGURE) and robot.change(ACTIVATE)
    check_active(robot)
    output = robot.process.output()
    assert output.count('state UNCONFIGURED -> SEARCHING: activated (mode continuous)') == 3
    assert output.count('LOCALIZED -> UNCONFIGURED: deactivated') == 2
    assert 'Traceback' not in output


@pytest.mark.parametrize(('state', 'way'), [
    ('unconfigured', ()), ('inactive', (CONFIGURE,)), ('active', (CONFIGURE, ACTIVATE))])
def test_a_manager_shuts_it_down_from_every_state(start, model, state, way):
    robot = start(model)
    robot.await_services()
    for transition in way:
        assert robot.change(transition)
    if state == 'active':
        check_active(robot)
    assert robot.change(SHUTDOWN[state])
    assert offered(robot) == set()
    check_quiet(robot, 'finalized', '', 'deactivated' if state == 'active' else 'not_active')
    robot.process.signal(signal.SIGINT)
    assert robot.process.wait() == 0
    assert 'Traceback' not in robot.process.output()


def test_a_failure_to_configure_has_a_reason_and_can_be_repaired(start, model, tmp_path):
    torn = tmp_path / 'torn.pt'
    torn.write_bytes(model.read_bytes()[:2000])
    missing = tmp_path / 'missing.pt'
    robot = start('')
    robot.await_services()
    for model_value, device, reason in (
            ('', 'auto', "parameter 'model' is not set; give the path of a model file"),
            (str(missing), 'auto', f'{missing}: no such model file'),
            (str(torn), 'auto', f'{torn}: not a TorchScript file, or cut off while copying'),
            (str(model), 'cuda', 'device is cuda, but torch finds no CUDA device here')):
        if device == 'cuda' and Path('/dev/nvidia0').exists():
            continue  # which is no failure here
        assert all(result.successful for result in robot.set(model=model_value, device=device))
        before = len(robot.process.output())
        assert not robot.change(CONFIGURE)
        assert robot.state() == 'unconfigured'
        robot.process.wait_for(reason)
        assert '[ERROR]' in robot.process.output()[before:]
        assert not robot.change(ACTIVATE)
    refused, = robot.set(device='tpu')
    assert not refused.successful
    assert refused.reason == "parameter 'device' is 'tpu'; allowed are auto, cpu, cuda"
    assert all(result.successful for result in robot.set(model=str(model), device='cpu'))
    assert robot.change(CONFIGURE) and robot.change(ACTIVATE)
    check_active(robot)
    assert 'Traceback' not in robot.process.output()


def test_alone_it_becomes_active_or_ends(start, model, tmp_path):
    robot = start(model, autostart=True)
    broken = start(tmp_path / 'nothing.pt', autostart=True)
    robot.await_services()
    check_active(robot)
    assert broken.process.wait() == 1
    line, = broken.process.output().splitlines()
    assert '[FATAL]' in line and f"{tmp_path / 'nothing.pt'}: no such model file" in line


def test_fifty_activations_leak_nothing(robot):
    robot.await_services()
    if robot.state() == 'unconfigured':
        assert robot.change(CONFIGURE)
    robot.film(30.0)
    threads, files, memory_kib = [], [], []
    for cycle in range(CYCLES):
        if robot.state() == 'active':
            assert robot.change(DEACTIVATE)
        assert robot.change(ACTIVATE)
        if cycle % 5 == 4:  # not always, which has it deactivated in the middle of its search
            robot.await_pose(robot.now_ns())
            threads.append(robot.process.threads())
            files.append(robot.process.open_files())
            memory_kib.append(robot.process.memory_kib())
    robot.wait_until(lambda: ears(robot) == ACTIVE_EARS and voices(robot) == ACTIVE_VOICES)
    for topic in ('image', 'camera_info'):
        robot.wait_until(lambda topic=topic: robot.node.count_subscribers(topic) == 1)
    for topic in ('relocalizer/pose', 'relocalizer/points', 'initialpose'):
        robot.wait_until(lambda topic=topic: robot.node.count_publishers(topic) == 1)
    assert len(set(threads)) == 1 and len(set(files)) == 1, (threads, files)
    settled = np.arange(len(memory_kib))[SETTLED // 5:]
    growth_kib = np.polyfit(settled, np.array(memory_kib)[SETTLED // 5:], 1)[0] / 5.0
    assert growth_kib < GROWTH_LIMIT_KIB, memory_kib
