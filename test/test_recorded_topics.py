# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a run records: names as ROS resolves them, and a command line that all releases take."""

import contextlib
import time
from pathlib import Path

import pytest

from implicit_relocalizer.localization.recorded_topics import (
    choose_transport,
    full_topic_name,
    record_command,
    recorded_topics,
    refuse_existing_bag,
)


def test_a_robot_without_namespace():
    assert recorded_topics('', '/camera/image_raw', '/camera/camera_info') == [
        '/camera/image_raw', '/camera/camera_info', '/tf', '/tf_static', '/odom',
        '/relocalizer/pose', '/relocalizer/pose_with_covariance', '/initialpose', '/amcl_pose',
        '/diagnostics']


@pytest.mark.parametrize('namespace', ['robot1', '/robot1', '/robot1/'])
def test_relative_names_are_in_the_namespace_and_diagnostics_never(namespace):
    topics = recorded_topics(namespace, 'cam/image', '/cam/info', odometry='~/odom')
    assert topics == ['/robot1/cam/image', '/cam/info', '/tf', '/tf_static',
                      '/robot1/relocalizer/odom', '/robot1/relocalizer/pose',
                      '/robot1/relocalizer/pose_with_covariance', '/robot1/initialpose',
                      '/robot1/amcl_pose', '/diagnostics']


def test_transforms_of_a_namespace():
    topics = recorded_topics('fleet/robot1', 'image', 'camera_info', namespaced_tf=True)
    assert topics[2:4] == ['/fleet/robot1/tf', '/fleet/robot1/tf_static']


@pytest.mark.parametrize('image', ['/cam/image_raw', '/cam/image_raw/compressed'])
def test_compressed_images(image):
    topics = recorded_topics('', image, '/cam/camera_info', 'compressed')
    assert topics[0] == '/cam/image_raw/compressed'
    assert '/cam/image_raw' not in topics


def test_the_points_are_not_recorded_for_the_node_computes_them_for_listeners_alone():
    assert not [topic for topic in recorded_topics('', 'image', 'info') if 'points' in topic]


def test_a_topic_is_named_once():
    topics = recorded_topics('', 'image', 'camera_info', odometry='amcl_pose')
    assert len(set(topics)) == len(topics)


@pytest.mark.parametrize('name', ['', '/', 'a b', '/a//b', 'a/', '1st', '/cam-1/image', '$(x)'])
def test_what_is_no_topic_name_is_refused(name):
    with pytest.raises(ValueError, match='no ROS topic name'):
        full_topic_name(name, '')


def test_what_is_no_namespace_is_refused():
    with pytest.raises(ValueError, match="namespace 'my robot'"):
        full_topic_name('image', 'my robot')


@pytest.fixture(scope='module')
def ros():
    """Skips where ROS is absent, before `context` needs it."""
    pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
    pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')


def test_the_names_are_those_that_rclpy_resolves(ros, context):
    from rclpy import create_node
    node = create_node('relocalizer', namespace='fleet/robot1', context=context)
    for name in ('image', '/image', '~/pose', 'a/b', 'image/compressed'):
        assert full_topic_name(name, 'fleet/robot1') == node.resolve_topic_name(name)
    node.destroy_node()


def test_nothing_that_the_real_node_hears_or_says_is_missing(
        ros, nursery, context, tmp_path):
    from colour_model import write_model
    from rclpy import create_node
    process = nursery.start(['--ros-args', '-r', '__ns:=/robot1', '-p', 'device:=cpu',
                             '-p', f'model:={write_model(tmp_path / "model.pt")}'])
    process.wait_for('ready')
    node = create_node('listener', context=context)
    recorded = set(recorded_topics('robot1', 'image', 'camera_info'))
    end_s = time.monotonic() + 20.0
    # The node takes odometry from TF.
    while (missing := recorded - (topics := _topics_of(node))) != {'/robot1/odom'}:
        assert time.monotonic() < end_s, missing
        time.sleep(0.1)
    node.destroy_node()
    of_every_node = {'/rosout', '/parameter_events', '/robot1/relocalizer/transition_event'}
    assert topics - of_every_node - recorded == {'/robot1/relocalizer/points'}


def _topics_of(node) -> set[str]:
    """What the relocalizer publishes and hears, as far as it is discovered."""
    from rclpy.node import NodeNameNonExistentError
    name = ('relocalizer', '/robot1')
    with contextlib.suppress(NodeNameNonExistentError):
        return {topic for topic, _ in (*node.get_publisher_names_and_types_by_node(*name),
                                       *node.get_subscriber_names_and_types_by_node(*name))}
    return set()


@pytest.mark.parametrize(('image', 'argument', 'in_file', 'expected'), [
    ('/cam/image', '', '', 'raw'),
    ('/cam/image', 'compressed', '', 'compressed'),
    ('/cam/image/compressed', '', '', 'compressed'),
    ('/cam/image/compressed', 'compressed', '', 'compressed'),
    ('/cam/image', '', '/**:\n  ros__parameters: {image_transport: compressed}', 'compressed'),
    ('/cam/image', 'raw', '/**:\n  ros__parameters: {image_transport: compressed}', 'raw'),
    ('/cam/image', '', 'robot1: {relocalizer: {ros__parameters: {image_transport: compressed}}}',
     'compressed'),
    ('/cam/image', '', '/robot1/relocalizer: {ros__parameters: {image_transport: compressed}}',
     'compressed'),
    ('/cam/image', '', 'other: {ros__parameters: {image_transport: compressed}}', 'raw'),
    ('/cam/image', '', 'relocalizer: {ros__parameters: }', 'raw'),
])
def test_argument_then_topic_then_file_say_how_images_come(
        tmp_path, image, argument, in_file, expected):
    params_file = tmp_path / 'params.yaml'
    params_file.write_text(in_file)
    assert choose_transport(image, argument, str(params_file)) == expected


def test_the_configuration_that_is_installed_says_raw(repository):
    params_file = repository / 'config' / 'relocalizer.yaml'
    assert choose_transport('image', '', str(params_file)) == 'raw'


def test_a_contradiction_is_refused(tmp_path):
    with pytest.raises(ValueError, match='is compressed but image_transport is raw'):
        choose_transport('/cam/image/compressed', 'raw', str(tmp_path / 'none.yaml'))


def test_a_parameter_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.yaml'):
        choose_transport('image', '', str(tmp_path / 'absent.yaml'))
    torn = tmp_path / 'torn.yaml'
    torn.write_text('/**: {ros__parameters: [')
    with pytest.raises(ValueError, match=r'torn\.yaml: not a YAML file'):
        choose_transport('image', '', str(torn))


def test_topics_are_an_option_and_end_the_command():
    command = record_command('run1', ['/a', '/b'], use_sim_time=False)
    assert command == ['ros2', 'bag', 'record', '-s', 'mcap', '-o', 'run1',
                       '--disable-keyboard-controls', '--topics', '/a', '/b']
    assert '--use-sim-time' in record_command('run1', ['/a'], use_sim_time=True)[:-2]


def test_a_recording_replaces_nothing(tmp_path):
    refuse_existing_bag(str(tmp_path / 'run1'))
    (tmp_path / 'run1').mkdir()
    with pytest.raises(FileExistsError, match=r'run1.* exists already'):
        refuse_existing_bag(str(tmp_path / 'run1'))
    assert Path(tmp_path / 'run1').is_dir()
