# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files as they are written: arguments, choices, and the configuration of RViz."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
RELOCALIZE = ROOT / 'launch' / 'relocalize.launch.py'
NAV2_STARTUP = ROOT / 'launch' / 'nav2_startup.launch.py'


def declared_arguments(file: Path) -> dict[str, dict[str, ast.expr]]:
    """Keywords of every DeclareLaunchArgument in a file, without running it."""
    return {ast.literal_eval(call.args[0]): {k.arg: k.value for k in call.keywords if k.arg}
            for call in ast.walk(ast.parse(file.read_text())) if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name) and call.func.id == 'DeclareLaunchArgument'}


def constant(file: Path, name: str):
    """The value of a constant at the top of a file."""
    return next(ast.literal_eval(node.value) for node in ast.parse(file.read_text()).body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == name)


def displays() -> dict[str, dict]:
    text = (ROOT / 'config' / 'relocalizer.rviz').read_text()
    return {display['Name']: display
            for display in yaml.safe_load(text)['Visualization Manager']['Displays']}


def test_the_arguments_are_those_that_the_pages_name():
    assert list(declared_arguments(RELOCALIZE)) == [
        'model', 'image', 'camera_info', 'params_file', 'namespace', 'namespaced_tf',
        'use_sim_time', 'mode', 'tf_mode', 'image_transport', 'map_frame', 'device', 'autostart',
        'rviz', 'record', 'odom_topic', 'log_level']
    assert list(declared_arguments(NAV2_STARTUP)) == [
        'namespace', 'use_sim_time', 'nav2', 'map', 'nav2_params_file']


@pytest.mark.parametrize('file', [RELOCALIZE, NAV2_STARTUP], ids=lambda file: file.name)
def test_every_argument_has_a_default_and_a_description(file):
    for name, keywords in declared_arguments(file).items():
        assert 'default_value' in keywords, name
        assert len(ast.literal_eval(keywords['description'])) > 20, name
        if 'choices' in keywords:
            assert (ast.literal_eval(keywords['default_value'])
                    in ast.literal_eval(keywords['choices'])), name


def test_the_choices_are_those_of_the_node():
    from implicit_relocalizer.localization.parameters import CHOICES
    arguments = declared_arguments(RELOCALIZE)
    for name in ('mode', 'tf_mode', 'image_transport', 'device'):
        choices = ast.literal_eval(arguments[name]['choices'])
        assert sorted(choices) == sorted(['', *CHOICES[name]]), name


def test_what_the_launch_files_set_are_parameters_of_the_node():
    from implicit_relocalizer.localization.parameters import CHOICES, Parameters
    known = set(Parameters.__dataclass_fields__)
    assert {*constant(RELOCALIZE, 'TEXT_PARAMETERS'), 'autostart'} <= known
    scripted = constant(NAV2_STARTUP, 'SCRIPTED')
    assert set(scripted) <= set(declared_arguments(RELOCALIZE))
    assert scripted['mode'] in CHOICES['mode']
    assert scripted['tf_mode'] in CHOICES['tf_mode']


def test_nav2_startup_shares_arguments_with_the_file_that_it_includes():
    arguments = declared_arguments(RELOCALIZE)
    own = {'nav2', 'map', 'nav2_params_file'}
    assert set(declared_arguments(NAV2_STARTUP)) - own <= set(arguments)
    assert not own & set(arguments)


def test_rviz_shows_what_the_node_says_and_sees():
    topics = {display['Topic']['Value'] for display in displays().values() if 'Topic' in display}
    assert topics == {'map', 'relocalizer/pose', 'relocalizer/pose_with_covariance',
                      'initialpose', 'relocalizer/points', 'image', 'image/compressed'}
    assert displays()['Predicted points']['Channel Name'] == 'weight'
    assert 'rviz_default_plugins/TF' in {display['Class'] for display in displays().values()}


def test_rviz_hears_every_publisher_and_names_are_relative_to_a_namespace():
    for name, display in displays().items():
        topic = display.get('Topic', {'Value': '', 'Reliability Policy': 'Best Effort'})
        assert not topic['Value'].startswith('/'), name
        latched = display['Class'] == 'rviz_default_plugins/Map'
        assert topic['Reliability Policy'] == ('Reliable' if latched else 'Best Effort'), name
        assert display['Enabled'] == display['Value'], name


def test_the_plugins_of_rviz_are_those_that_the_package_asks_for():
    text = (ROOT / 'config' / 'relocalizer.rviz').read_text()
    packages = {line.split('Class: ')[1].split('/')[0] for line in text.splitlines()
                if 'Class: ' in line and '/' in line}
    assert packages == {'rviz_common', 'rviz_default_plugins'}
    manifest = (ROOT / 'package.xml').read_text()
    for package in ('rviz2', 'rviz_default_plugins', 'ros2bag', 'rosbag2_storage_mcap'):
        assert f'<exec_depend>{package}</exec_depend>' in manifest
