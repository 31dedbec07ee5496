# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Start the relocalizer on one camera.

ros2 launch implicit_relocalizer relocalize.launch.py model:=/maps/office.pt \
    image:=/camera/image_raw camera_info:=/camera/camera_info
"""

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from implicit_relocalizer.localization.recorded_topics import (
    NODE_NAME,
    choose_transport,
    record_command,
    recorded_topics,
    refuse_existing_bag,
)
from implicit_relocalizer.resources import share_path
from launch import Action, LaunchContext, LaunchDescription

ARGUMENTS = [
    DeclareLaunchArgument(
        'model', default_value='', description='Path of the model file; empty: params_file.'),
    DeclareLaunchArgument(
        'image', default_value='image',
        description='Topic of the camera images; one that ends in /compressed is compressed.'),
    DeclareLaunchArgument(
        'camera_info', default_value='camera_info',
        description='Topic of the CameraInfo of these images.'),
    DeclareLaunchArgument(
        'params_file', default_value=str(share_path('config/relocalizer.yaml')),
        description='YAML file with the parameters of the node; arguments win over it.'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node and its topics.'),
    DeclareLaunchArgument(
        'namespaced_tf', default_value='false', choices=['true', 'false'],
        description='TF on tf and tf_static of the namespace, as Nav2 has it, not on /tf.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take time from /clock, for simulation and recordings.'),
    DeclareLaunchArgument(
        'mode', default_value='', choices=['', 'startup', 'continuous', 'on_request'],
        description='When images are looked at: until a first pose is agreed on, always, or '
                    'when a service asks; empty: params_file.'),
    DeclareLaunchArgument(
        'tf_mode', default_value='',
        choices=['', 'map_to_odom', 'map_to_base', 'map_to_camera', 'none'],
        description='Which transform is broadcast; empty: params_file.'),
    DeclareLaunchArgument(
        'image_transport', default_value='', choices=['', 'raw', 'compressed'],
        description='Whether images come as Image or CompressedImage; empty: params_file.'),
    DeclareLaunchArgument(
        'map_frame', default_value='',
        description='Name of the frame that the model answers in; empty: params_file.'),
    DeclareLaunchArgument(
        'device', default_value='', choices=['', 'auto', 'cpu', 'cuda'],
        description='Where the model runs; empty: params_file.'),
    DeclareLaunchArgument(
        'autostart', default_value='', choices=['', 'true', 'false'],
        description='Configure and activate the node without a lifecycle manager; empty: '
                    'params_file.'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Open RViz with the camera, its pose and the predicted points.'),
    DeclareLaunchArgument(
        'record', default_value='',
        description='Name of a new folder to record a bag into: the topics that the node hears, '
                    'and what it says; empty: no recording.'),
    DeclareLaunchArgument(
        'odom_topic', default_value='odom',
        description='Topic of the odometry, to be recorded.'),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severity of the messages in the log.'),
]
TEXT_PARAMETERS = ('model', 'mode', 'tf_mode', 'image_transport', 'map_frame', 'device')


def start(context: LaunchContext) -> list[Action]:
    """The node, and what was asked for beside it; nothing starts where one of them cannot."""
    argument = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    transport = choose_transport(
        argument['image'], argument['image_transport'], argument['params_file'])
    if argument['image'].endswith('/compressed'):
        argument['image_transport'] = transport
    tf_remappings = [(f'/{topic}', topic) for topic in ('tf', 'tf_static')
                     if argument['namespaced_tf'] == 'true']
    actions: list[Action] = [relocalizer(argument, tf_remappings)]
    if argument['record']:
        actions.append(recorder(argument, transport))
    if argument['rviz'] == 'true':
        actions.append(rviz(argument, tf_remappings))
    return actions


def relocalizer(argument: dict[str, str], tf_remappings: list[tuple[str, str]]) -> Node:
    """The node; an argument that was given wins over the parameter file."""
    given: dict[str, object] = {  # a text stays one: a frame may be called 1
        name: ParameterValue(argument[name], value_type=str)
        for name in TEXT_PARAMETERS if argument[name]}
    given['use_sim_time'] = argument['use_sim_time'] == 'true'
    if argument['autostart']:
        given['autostart'] = argument['autostart'] == 'true'
    return Node(
        package='implicit_relocalizer',
        executable='relocalizer',
        name=NODE_NAME,
        namespace=argument['namespace'],
        output='screen',
        parameters=[argument['params_file'], given],
        remappings=[('image', argument['image']), ('camera_info', argument['camera_info']),
                    *tf_remappings],
        ros_arguments=['--log-level', argument['log_level']],
        sigterm_timeout='15',  # Python takes torch apart at its end, on busy cores for seconds
    )


def recorder(argument: dict[str, str], transport: str) -> ExecuteProcess:
    """`ros2 bag record` of what evaluation needs; it may take a while to write its last data."""
    refuse_existing_bag(argument['record'])
    topics = recorded_topics(
        argument['namespace'], argument['image'], argument['camera_info'], transport,
        argument['odom_topic'], argument['namespaced_tf'] == 'true')
    return ExecuteProcess(
        cmd=record_command(argument['record'], topics, argument['use_sim_time'] == 'true'),
        output='screen', sigterm_timeout='30')


def rviz(argument: dict[str, str], tf_remappings: list[tuple[str, str]]) -> Node:
    """RViz in the namespace of the node: the names in its configuration are relative."""
    frame = ['-f', argument['map_frame']] if argument['map_frame'] else []
    image = argument['image'].removesuffix('/compressed')
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=argument['namespace'],
        output='screen',
        arguments=['-d', str(share_path('config/relocalizer.rviz')), *frame],
        parameters=[{'use_sim_time': argument['use_sim_time'] == 'true'}],
        remappings=[('image', image), ('image/compressed', f'{image}/compressed'),
                    *tf_remappings],
    )


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start the node."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
