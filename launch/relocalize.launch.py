# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Start the relocalizer on one camera.

ros2 launch implicit_relocalizer relocalize.launch.py model:=/maps/office.pt \
    image:=/camera/image_raw camera_info:=/camera/camera_info
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from implicit_relocalizer.resources import share_path
from launch import LaunchContext, LaunchDescription

ARGUMENTS = [
    DeclareLaunchArgument(
        'model', default_value='', description='Path of the model file; empty: params_file.'),
    DeclareLaunchArgument(
        'image', default_value='image', description='Topic of the camera images.'),
    DeclareLaunchArgument(
        'camera_info', default_value='camera_info',
        description='Topic of the CameraInfo of these images.'),
    DeclareLaunchArgument(
        'params_file', default_value=str(share_path('config/relocalizer.yaml')),
        description='YAML file with the parameters of the node.'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node and its topics.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take time from /clock, for simulation and recordings.'),
    DeclareLaunchArgument(
        'map_frame', default_value='',
        description='Name of the frame that the model answers in; empty: params_file.'),
    DeclareLaunchArgument(
        'device', default_value='', choices=['', 'auto', 'cpu', 'cuda'],
        description='Where the model runs; empty: params_file.'),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severity of the messages in the log.'),
]


def start_node(context: LaunchContext) -> list[Node]:
    """The node; an argument that was given wins over the parameter file."""
    argument = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    given = {name: argument[name] for name in ('model', 'map_frame', 'device') if argument[name]}
    given['use_sim_time'] = argument['use_sim_time'] == 'true'
    return [Node(
        package='implicit_relocalizer',
        executable='relocalizer',
        name='relocalizer',
        namespace=argument['namespace'],
        output='screen',
        parameters=[argument['params_file'], given],
        remappings=[('image', argument['image']), ('camera_info', argument['camera_info'])],
        ros_arguments=['--log-level', argument['log_level']],
    )]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start the node."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_node)])
