# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The launch file: its arguments everywhere, a real launch where ROS 2 launch is installed."""

import ast
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

LAUNCH_FILE = Path(__file__).resolve().parents[1] / 'launch' / 'relocalize.launch.py'

RUN = '''
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]),
    launch_arguments=[a.split(':=', 1) for a in sys.argv[2:]])]))
sys.exit(service.run())
'''


def declared_arguments() -> dict[str, dict[str, ast.expr]]:
    """Keywords of every DeclareLaunchArgument in the file, without running it."""
    tree = ast.parse(LAUNCH_FILE.read_text())
    return {ast.literal_eval(call.args[0]): {k.arg: k.value for k in call.keywords if k.arg}
            for call in ast.walk(tree) if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name) and call.func.id == 'DeclareLaunchArgument'}


def test_every_argument_has_a_default_and_a_description():
    arguments = declared_arguments()
    assert list(arguments) == ['model', 'image', 'camera_info', 'params_file', 'namespace',
                               'use_sim_time', 'map_frame', 'device', 'log_level']
    for name, keywords in arguments.items():
        assert 'default_value' in keywords, name
        assert len(ast.literal_eval(keywords['description'])) > 20, name


def test_the_choices_are_those_of_the_node():
    pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
    from implicit_relocalizer.ros.parameters import CHOICES
    choices = ast.literal_eval(declared_arguments()['device']['choices'])
    assert choices == ['', *CHOICES['device']]


def test_a_launch_starts_the_node_with_the_arguments(spawn, tmp_path):
    for module in ('launch', 'launch_ros'):
        # The folder launch/ of the checkout counts as a namespace package: not that one.
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            pytest.skip(f'needs the Python module {module} of a ROS 2 installation')
    from node_peer import write_model
    program = tmp_path / 'lib' / 'implicit_relocalizer' / 'relocalizer'
    marker = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages' / (
        'implicit_relocalizer')
    for path in (program, marker):
        path.parent.mkdir(parents=True)
    marker.touch()
    program.write_text(f'#!{sys.executable}\nimport sys\n'
                       'from implicit_relocalizer.ros.node import main\nsys.exit(main())\n')
    program.chmod(0o755)
    prefixes = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get('AMENT_PREFIX_PATH'))))
    process = spawn(
        [sys.executable, '-c', RUN, str(LAUNCH_FILE), 'namespace:=robot', 'image:=/cam/image',
         'camera_info:=info', f'model:={write_model(tmp_path / "model.pt")}', 'device:=cpu'],
        AMENT_PREFIX_PATH=prefixes)
    output = process.wait_for("ready: images from '/cam/image', calibration from '/robot/info'")
    assert "scene 'colours' on cpu" in output
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert 'process has finished cleanly' in process.output()
