# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Real launches, where ROS 2 launch is installed: what is started, with which command line.

RViz, the recorder, Nav2 and, where it does not matter, the node are stand-ins that note how they
were started.
"""

import signal
import sys
from pathlib import Path

import pytest
import yaml
from launch_peer import Packages, remappings, skip_without

ROOT = Path(__file__).resolve().parents[1]
BRINGUP = '''
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration
NAMES = ['namespace', 'use_namespace', 'use_sim_time', 'map', 'params_file', 'autostart']
def generate_launch_description():
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value='default') for name in NAMES),
        ExecuteProcess(cmd=['nav2_witness', *(LaunchConfiguration(name) for name in NAMES)])])
'''
# What nav2_lifecycle_manager does first, for tests without Nav2.
MANAGER = '''#!{python}
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
rclpy.init()
node = rclpy.create_node('manager', automatically_declare_parameters_from_overrides=True)
assert node.get_parameter('bond_timeout').value == 0.0
assert node.get_parameter('autostart').value
for name in node.get_parameter('node_names').value:
    client = node.create_client(ChangeState, f'{name}/change_state')
    assert client.wait_for_service(node.get_parameter('service_timeout').value)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        done = client.call_async(request)
        rclpy.spin_until_future_complete(node, done)
        print('transition', name, transition, done.result().success, flush=True)
'''


@pytest.fixture(autouse=True, scope='module')
def launch_is_installed():
    pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
    skip_without('launch', 'launch_ros')


@pytest.fixture
def packages(tmp_path, spawn) -> Packages:
    return Packages(tmp_path / 'prefix', spawn)


def end(process) -> str:
    """Interrupt a launch as a terminal does, and return what it wrote."""
    process.signal(signal.SIGINT)
    process.wait()
    return process.output()


def test_the_node_alone_takes_everything_from_the_parameter_file(packages):
    node = packages.add_program('implicit_relocalizer', 'relocalizer')
    process = packages.launch('relocalize.launch.py')
    command, parameters = node.wait()
    assert remappings(command) == {'__node': 'relocalizer', '__ns': '/', 'image': 'image',
                                   'camera_info': 'camera_info'}
    text = (ROOT / 'config' / 'relocalizer.yaml').read_text()
    in_file = yaml.safe_load(text)['/**']['ros__parameters']
    assert parameters == {**in_file, 'use_sim_time': False}
    assert 'process has finished cleanly' in end(process)


def test_arguments_win_over_the_file_and_texts_stay_texts(packages, tmp_path):
    node = packages.add_program('implicit_relocalizer', 'relocalizer')
    process = packages.launch(
        'relocalize.launch.py', 'model:=/maps/on', 'map_frame:=7', 'mode:=on_request',
        'tf_mode:=none', 'device:=cpu', 'autostart:=false', 'use_sim_time:=true',
        'namespace:=robot1', 'namespaced_tf:=true', 'image:=/cam/image_raw',
        'camera_info:=/cam/camera_info', 'log_level:=debug')
    command, parameters = node.wait()
    assert {name: parameters[name] for name in (
        'model', 'map_frame', 'mode', 'tf_mode', 'device', 'autostart', 'use_sim_time')} == {
            'model': '/maps/on', 'map_frame': '7', 'mode': 'on_request', 'tf_mode': 'none',
            'device': 'cpu', 'autostart': False, 'use_sim_time': True}
    assert remappings(command) == {
        '__node': 'relocalizer', '__ns': '/robot1', 'image': '/cam/image_raw',
        'camera_info': '/cam/camera_info', '/tf': 'tf', '/tf_static': 'tf_static'}
    assert command[command.index('--log-level') + 1] == 'debug'
    end(process)


def test_a_compressed_topic_is_taken_as_such(packages):
    node = packages.add_program('implicit_relocalizer', 'relocalizer')
    process = packages.launch('relocalize.launch.py', 'image:=/cam/image_raw/compressed')
    command, parameters = node.wait()
    assert parameters['image_transport'] == 'compressed'
    assert remappings(command)['image'] == '/cam/image_raw/compressed'
    end(process)


def test_record_and_rviz_run_beside_the_node(packages, tmp_path):
    packages.add_program('implicit_relocalizer', 'relocalizer')
    rviz = packages.add_program('rviz2', 'rviz2')
    ros2 = packages.add_command('ros2')
    bag = tmp_path / 'run1'
    process = packages.launch(
        'relocalize.launch.py', 'namespace:=robot1', 'image:=cam/image_raw',
        'image_transport:=compressed', 'map_frame:=office', 'use_sim_time:=true', 'rviz:=true',
        f'record:={bag}', 'odom_topic:=wheels')
    assert ros2.wait()[0] == [
        'bag', 'record', '-s', 'mcap', '-o', str(bag), '--disable-keyboard-controls',
        '--use-sim-time', '--topics', '/robot1/cam/image_raw/compressed', '/robot1/camera_info',
        '/tf', '/tf_static', '/robot1/wheels', '/robot1/relocalizer/pose',
        '/robot1/relocalizer/pose_with_covariance', '/robot1/initialpose', '/robot1/amcl_pose',
        '/diagnostics']
    command, parameters = rviz.wait()
    assert command[:4] == ['-d', str(ROOT / 'config' / 'relocalizer.rviz'), '-f', 'office']
    assert parameters == {'use_sim_time': True}
    assert remappings(command) == {'__ns': '/robot1', 'image': 'cam/image_raw',
                                   'image/compressed': 'cam/image_raw/compressed'}
    assert end(process).count('process has finished cleanly') == 3


def test_a_folder_that_exists_stops_the_launch_before_anything_starts(packages, tmp_path):
    witnesses = [packages.add_program('implicit_relocalizer', 'relocalizer'),
                 packages.add_program('rviz2', 'rviz2'), packages.add_command('ros2')]
    process = packages.launch('relocalize.launch.py', f'record:={tmp_path}', 'rviz:=true')
    assert process.wait() == 1
    assert f"record: '{tmp_path}' exists already" in process.output()
    assert not any(witness.was_started for witness in witnesses)


@pytest.mark.parametrize(('argument', 'line'), [
    ('mode:=sometimes', '"mode" provided value "sometimes" is not valid'),
    ('image:=/my-camera/image', "'/my-camera/image' is no ROS topic name"),
    ('params_file:=/nowhere.yaml', 'No such file or directory'),
])
def test_a_wrong_argument_ends_the_launch_with_its_reason(packages, argument, line):
    node = packages.add_program('implicit_relocalizer', 'relocalizer')
    process = packages.launch('relocalize.launch.py', 'record:=never_made', argument)
    assert process.wait() == 1
    assert line in process.output()
    assert not node.was_started


def test_nav2_startup_starts_the_node_under_a_manager_and_nothing_else(packages):
    node = packages.add_program('implicit_relocalizer', 'relocalizer')
    manager = packages.add_program('nav2_lifecycle_manager', 'lifecycle_manager')
    nav2 = packages.add_command('nav2_witness')
    process = packages.launch('nav2_startup.launch.py', 'model:=/maps/office.pt',
                              'image:=/cam/image_raw', 'mode:=continuous')
    command, parameters = node.wait()
    assert parameters['model'] == '/maps/office.pt'
    assert (parameters['mode'], parameters['tf_mode'], parameters['autostart']) == (
        'startup', 'none', False)
    assert remappings(command)['image'] == '/cam/image_raw'
    command, parameters = manager.wait()
    assert parameters == {'use_sim_time': False, 'node_names': ('relocalizer',),
                          'autostart': True, 'bond_timeout': 0.0, 'service_timeout': 60.0}
    assert remappings(command)['__node'] == 'lifecycle_manager_relocalizer'
    end(process)
    assert not nav2.was_started


@pytest.mark.parametrize(('arguments', 'expected'), [
    ([], ['', 'False', 'false', 'default', 'default', 'default']),
    (['namespace:=robot1', 'use_sim_time:=true', 'map:=/maps/office.yaml',
      'nav2_params_file:=/maps/nav2.yaml'],
     ['robot1', 'True', 'true', '/maps/office.yaml', '/maps/nav2.yaml', 'default']),
])
def test_nav2_gets_its_own_arguments_and_none_of_the_relocalizer(packages, arguments, expected):
    node = packages.add_program('implicit_relocalizer', 'relocalizer')
    manager = packages.add_program('nav2_lifecycle_manager', 'lifecycle_manager')
    nav2 = packages.add_command('nav2_witness')
    bringup = packages.add('nav2_bringup') / 'launch' / 'bringup_launch.py'
    bringup.parent.mkdir()
    bringup.write_text(BRINGUP)
    params_file = ROOT / 'config' / 'relocalizer.yaml'
    process = packages.launch('nav2_startup.launch.py', 'nav2:=true',
                              f'params_file:={params_file}', *arguments)
    assert nav2.wait()[0] == expected
    for witness in (node, manager):
        command, parameters = witness.wait()
        assert parameters['use_sim_time'] is bool(arguments)
        assert remappings(command).get('__ns', '/') == ('/robot1' if arguments else '/')
    assert remappings(node.wait()[0])['/tf'] == 'tf'
    end(process)


def test_a_launch_runs_the_real_node(packages, tmp_path):
    from colour_model import write_model
    packages.add_relocalizer()
    process = packages.launch(
        'relocalize.launch.py', 'namespace:=robot', 'image:=/cam/image', 'camera_info:=info',
        f'model:={write_model(tmp_path / "model.pt")}', 'device:=cpu', 'mode:=continuous')
    output = process.wait_for("ready: images from '/cam/image', calibration from '/robot/info'")
    assert "scene 'colours' on cpu" in output
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert 'process has finished cleanly' in process.output()


def test_nav2_startup_brings_the_real_node_up_through_its_manager(packages, tmp_path):
    from colour_model import write_model
    packages.add_relocalizer()
    packages.add_program('nav2_lifecycle_manager', 'lifecycle_manager', MANAGER)
    process = packages.launch('nav2_startup.launch.py', 'device:=cpu',
                              f'model:={write_model(tmp_path / "model.pt")}')
    process.wait_for('transition relocalizer 3 True')
    assert 'transition relocalizer 1 True' in process.output()
    assert 'process has finished cleanly' in end(process)


def test_a_model_that_is_absent_ends_the_node_with_its_reason(packages, tmp_path):
    packages.add_relocalizer()
    process = packages.launch('relocalize.launch.py', f'model:={tmp_path / "absent.pt"}')
    process.wait_for('process has died')
    assert 'absent.pt' in process.output()


def test_launch_testing_sees_a_clean_start_and_a_clean_end(packages, tmp_path):
    skip_without('launch_testing')
    from colour_model import write_model
    packages.add_relocalizer()
    model = write_model(tmp_path / 'model.pt')
    process = packages.run([sys.executable, '-m', 'launch_testing.launch_test',
                            str(ROOT / 'test' / 'relocalize_launch_testing.py'),
                            f'model:={model}'])
    assert process.wait(180.0) == 0, process.output()
    assert 'OK' in process.output()
