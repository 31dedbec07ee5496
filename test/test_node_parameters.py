# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters that the node declares: what is refused, what may change, what the file says."""

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from implicit_relocalizer.localization.parameter_file import parameters_of
from implicit_relocalizer.localization.parameter_table import PARAMETERS
from implicit_relocalizer.localization.parameters import ParameterError, Parameters
from implicit_relocalizer.ros.parameters import (
    declare_parameters,
    judge_changes,
    read_parameters,
)


@pytest.fixture
def configurable(context):
    """A node with our parameters, and whether it counts as configured."""
    node = rclpy.create_node('parameters', context=context)
    state = {'is_configured': False}
    node.add_on_set_parameters_callback(lambda changes: judge_changes(
        changes, {'map_frame': 'map'}, **state))
    declare_parameters(node)
    yield node, state
    node.destroy_node()


@pytest.mark.parametrize(('name', 'value', 'text'), [
    ('tf_mode', 'odom', "'tf_mode' is 'odom'; allowed are map_to_odom, map_to_base"),
    ('mode', '', "'mode' is ''; allowed are startup, continuous, on_request"),
    ('map_frame', '', "'map_frame' is empty"),
    ('min_confidence', 1.5, 'Min: -1.0, Max: 1.0'),
    ('max_rate_hz', -1.0, 'Min: 0.0'),
    ('consensus_fixes', 0, 'Min: 1'),
    ('num_threads', 2.0, 'type'),
])
def test_wrong_values_are_refused_with_what_is_allowed(context, configurable, name, value, text):
    node, _ = configurable
    result = node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful and text in result.reason
    other = rclpy.create_node('wrong', context=context, parameter_overrides=[
        Parameter(name, value=value)])
    try:
        with pytest.raises((ParameterError, ParameterException), match=text.replace('(', '.')):
            declare_parameters(other)
            read_parameters(other)
    finally:
        other.destroy_node()


def test_what_the_model_hangs_on_holds_while_it_is_loaded(configurable):
    node, state = configurable
    for entry in PARAMETERS:
        change = [Parameter(entry.name, value=(
            not entry.default if isinstance(entry.default, bool)
            else (*entry.choices, 'other')[0] if isinstance(entry.default, str)
            else type(entry.default)(1)))]
        state['is_configured'] = True
        result = node.set_parameters(change)[0]
        assert result.successful == entry.at_run_time, entry.name
        assert entry.at_run_time or 'clean it up first' in result.reason
        state['is_configured'] = False
        assert node.set_parameters(change)[0].successful, entry.name


def test_setting_a_parameter_to_what_it_is_changes_nothing(configurable):
    # As `ros2 param load` of the whole file does to a running node.
    node, state = configurable
    state['is_configured'] = True
    assert node.set_parameters([Parameter('map_frame', value='map')])[0].successful
    assert not node.set_parameters([Parameter('map_frame', value='other')])[0].successful


def test_several_changes_are_made_together_or_not_at_all(configurable):
    node, _ = configurable
    result = node.set_parameters_atomically([
        Parameter('agree_translation_m', value=0.7), Parameter('tf_when_lost', value='shrug')])
    assert not result.successful and 'allowed are keep, withhold' in result.reason
    assert node.get_parameter('agree_translation_m').value == 0.3
    assert node.set_parameters_atomically([
        Parameter('agree_translation_m', value=0.7),
        Parameter('tf_when_lost', value='withhold')]).successful
    settings = read_parameters(node)
    assert (settings.rules.limits.translation_m, settings.tf_when_lost) == (0.7, 'withhold')


def test_the_parameter_file_lists_what_the_node_declares(context, repository):
    node = rclpy.create_node('declares', context=context)
    ros_own = set(node.list_parameters([], 1).names)
    declare_parameters(node)
    declared = {name: node.get_parameter(name).value
                for name in node.list_parameters([], 1).names if name not in ros_own}
    file = yaml.safe_load((repository / 'config' / 'relocalizer.yaml').read_text())
    listed = file['/**']['ros__parameters']
    assert listed == declared
    assert {name: type(value) for name, value in listed.items()} == {
        name: type(value) for name, value in declared.items()}
    assert set(listed) == set(Parameters.__dataclass_fields__)
    assert all(node.describe_parameter(name).description for name in declared)
    node.destroy_node()


@pytest.mark.parametrize(('name', 'value'), [
    ('tf_mode', 'odom'), ('tf_mode', 'none'), ('map_frame', ''), ('camera_frame', ''),
    ('min_confidence', 1), ('min_confidence', 1.5), ('min_confidence', -1.0), ('num_threads', 2.0),
    ('num_threads', True), ('autostart', 1), ('consensus_fixes', 0), ('consensus_fixes', 100),
    ('odom_frame', 7)])
def test_a_replay_refuses_what_the_node_refuses(context, name, value):
    node = rclpy.create_node('overridden', context=context, parameter_overrides=[
        Parameter(name, value=value)])
    try:
        declare_parameters(node)
        expected = read_parameters(node)
    except (ParameterError, ParameterException):
        with pytest.raises(ParameterError, match=name):
            parameters_of({name: value}, 'here')
    else:
        assert parameters_of({name: value}, 'here') == expected
    finally:
        node.destroy_node()
