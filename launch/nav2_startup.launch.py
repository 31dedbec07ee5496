# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A robot with Nav2 that finds its place at power-up.

The relocalizer looks until it knows where the robot is, tells AMCL by `initialpose`, and stops;
AMCL publishes map -> odom. Nav2's lifecycle manager starts it, and Nav2 itself where asked to.

ros2 launch implicit_relocalizer nav2_startup.launch.py model:=/maps/office.pt \
    image:=/camera/image_raw camera_info:=/camera/camera_info nav2:=true map:=/maps/office.yaml

Every other argument of relocalize.launch.py works here, too.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from implicit_relocalizer.localization.recorded_topics import NODE_NAME
from implicit_relocalizer.resources import share_path
from launch import Action, LaunchContext, LaunchDescription

ARGUMENTS = [
    DeclareLaunchArgument(
        'namespace', default_value='',
        description='Namespace of the relocalizer and of Nav2; TF is in it, as Nav2 has it.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take time from /clock, for simulation and recordings.'),
    DeclareLaunchArgument(
        'nav2', default_value='false', choices=['true', 'false'],
        description='Start Nav2 (nav2_bringup), too; false where something else does.'),
    DeclareLaunchArgument(
        'map', default_value='',
        description='Map file for Nav2; empty: nav2_params_file.'),
    DeclareLaunchArgument(
        'nav2_params_file', default_value='',
        description='YAML file with the parameters of Nav2; empty: those of nav2_bringup.'),
]
SCRIPTED = {'mode': 'startup', 'tf_mode': 'none', 'autostart': 'false', 'namespaced_tf': 'true'}


def start_nav2(context: LaunchContext) -> list[Action]:
    """Nav2, with its own arguments alone: `params_file` is another file there."""
    argument = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    if argument['nav2'] == 'false':
        return []
    given = {name: value for name, value in (
        ('map', argument['map']), ('params_file', argument['nav2_params_file'])) if value}
    bringup = Path(get_package_share_directory('nav2_bringup')) / 'launch' / 'bringup_launch.py'
    return [GroupAction(
        [IncludeLaunchDescription(PythonLaunchDescriptionSource(str(bringup)))],
        forwarding=False,
        launch_configurations={
            'namespace': argument['namespace'], 'use_sim_time': argument['use_sim_time'],
            # Jazzy asks for it; later releases look at the namespace.
            'use_namespace': str(bool(argument['namespace'])), **given})]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments, start the relocalizer under its manager, and Nav2."""
    relocalizer = GroupAction([IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_path('launch/relocalize.launch.py'))),
        launch_arguments=SCRIPTED.items())])
    manager = Node(
        package='nav2_lifecycle_manager',
        executable='lifecycle_manager',
        name='lifecycle_manager_relocalizer',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[{
            'use_sim_time': LaunchConfiguration('use_sim_time'),
            'node_names': [NODE_NAME],
            'autostart': True,
            'bond_timeout': 0.0,  # bonds are Nav2's own, the node has none
            'service_timeout': 60.0,  # importing torch takes longer than the five seconds
        }],
    )
    return LaunchDescription([
        *ARGUMENTS, relocalizer, manager, OpaqueFunction(function=start_nav2)])
