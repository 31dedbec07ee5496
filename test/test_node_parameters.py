# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters that the node declares: what is refused, what may change, what the file says."""

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from implicit_relocalizer.ros.parameters import (
    ParameterError,
    Parameters,
    declare_parameters,
    read_parameters,
)


@pytest.mark.parametrize(('values', 'error', 'text'), [
    ({}, ParameterError, "'model' is not set"),
    ({'model': 'm.pt', 'tf_mode': 'odom'}, ParameterError, 'allowed are map_to_camera, none'),
    ({'model': 'm.pt', 'map_frame': ''}, ParameterError, "'map_frame' is empty"),
    ({'min_confidence': 1.5}, ParameterException, 'Min: 0.0, Max: 1.0'),
    ({'max_rate_hz': -1.0}, ParameterException, 'Min: 0.0'),
    ({'num_threads': 2.0}, ParameterException, 'INTEGER'),
])
def test_wrong_parameters_are_refused_with_what_is_allowed(context, values, error, text):
    node = rclpy.create_node('wrong', context=context, parameter_overrides=[
        Parameter(name, value=value) for name, value in values.items()])
    try:
        with pytest.raises(error, match=text):
            declare_parameters(node)
            read_parameters(node)
    finally:
        node.destroy_node()


def test_only_thresholds_can_be_set_while_it_runs(context):
    node = rclpy.create_node('running', context=context)
    declare_parameters(node)
    results = {name: node.set_parameters([Parameter(name, value=value)])[0].successful
               for name, value in (('min_confidence', 0.5), ('max_rate_hz', 5.0),
                                   ('min_confidence', 0.7), ('map_frame', 'other'))}
    assert results == {'min_confidence': True, 'max_rate_hz': True, 'map_frame': False}
    assert not node.set_parameters([Parameter('min_confidence', value=2.0)])[0].successful
    node.destroy_node()


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
