# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a run has to record so that it can be judged and replayed afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

NODE_NAME = 'relocalizer'
TRANSPORTS = ('raw', 'compressed')

_TOKEN = '[A-Za-z_][A-Za-z0-9_]*'
_NAMESPACE = re.compile(f'/?(?:{_TOKEN}(?:/{_TOKEN})*)?/?')
_TOPIC = re.compile(f'(?:~/|/)?{_TOKEN}(?:/{_TOKEN})*')


def recorded_topics(namespace: str, image: str, camera_info: str, transport: str = 'raw',
                    odometry: str = 'odom', namespaced_tf: bool = False) -> list[str]:
    """The topics of a recording for evaluation: what the node hears, and what it says.

    `~/points` is left out: the node computes it only for listeners, and a recorder is one.

    Args:
        namespace: Of the node; empty for none.
        image: What the node's `image` is remapped to, without or with `/compressed`.
        camera_info: What its `camera_info` is remapped to.
        transport: 'raw' or 'compressed'.
        odometry: The topic of nav_msgs/Odometry.
        namespaced_tf: Whether TF is on `tf` and `tf_static` of the namespace.

    Returns:
        Full topic names, each once.

    Raises:
        ValueError: a name cannot be a ROS name; the message names it.
    """
    if transport == 'compressed':
        image = f'{image.removesuffix("/compressed")}/compressed'
    tf = ['tf', 'tf_static'] if namespaced_tf else ['/tf', '/tf_static']
    names = [image, camera_info, *tf, odometry, '~/pose', '~/pose_with_covariance', 'initialpose',
             'amcl_pose', '/diagnostics']
    return list(dict.fromkeys(full_topic_name(name, namespace) for name in names))


def full_topic_name(name: str, namespace: str) -> str:
    """A topic name as ROS resolves it for the node in a namespace.

    Raises:
        ValueError: it cannot be a ROS name; the message names it.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"namespace '{namespace}' is no ROS namespace; write it such as robot1")
    if not _TOPIC.fullmatch(name):
        raise ValueError(f"'{name}' is no ROS topic name; write it such as /camera/image_raw")
    if name.startswith('/'):
        return name
    private = [NODE_NAME] if name.startswith('~/') else []
    parts = [namespace.strip('/'), *private, name.removeprefix('~/')]
    return '/' + '/'.join(part for part in parts if part)


def choose_transport(image: str, image_transport: str, params_file: str) -> str:
    """How images come: as the argument says, as the topic's name says, as the file says, raw.

    Args:
        image: The topic; one that ends in `/compressed` is compressed.
        image_transport: 'raw', 'compressed', or empty where nothing was asked for.
        params_file: YAML file with the parameters of the node.

    Raises:
        ValueError: argument and topic contradict each other.
        OSError: the file cannot be read.
    """
    if image.endswith('/compressed'):
        if image_transport == 'raw':
            raise ValueError(f"image '{image}' is compressed but image_transport is raw: set it "
                             f'to compressed, or name the topic of raw images')
        return 'compressed'
    return image_transport or _transport_in(Path(params_file)) or 'raw'


def record_command(folder: str, topics: list[str], use_sim_time: bool) -> list[str]:
    """The command line that records topics as mcap, in Jazzy, Kilted and Lyrical alike.

    Topics are not given by position, which Lyrical refuses.
    """
    sim_time = ['--use-sim-time'] if use_sim_time else []
    return ['ros2', 'bag', 'record', '-s', 'mcap', '-o', folder, '--disable-keyboard-controls',
            *sim_time, '--topics', *topics]


def refuse_existing_bag(folder: str) -> None:
    """Check before anything starts that a recording can be made.

    Raises:
        FileExistsError: something of that name is there.
    """
    if Path(folder).exists():
        raise FileExistsError(f"record: '{folder}' exists already, and a recording replaces "
                              f'nothing: choose another name or remove it')


def _transport_in(params_file: Path) -> str:
    """The image_transport that a parameter file sets for the node; empty for none."""
    try:
        nodes = yaml.safe_load(params_file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f'{params_file}: not a YAML file: {error}') from error
    return _find_parameter(nodes, 'image_transport', is_ours=False)


def _find_parameter(tree: object, name: str, is_ours: bool) -> str:
    """Search nested namespaces, such as `/**` or `robot1: relocalizer`, for a parameter."""
    found = ''
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == 'ros__parameters':
            found = str(value.get(name, found)) if is_ours and value else found
        else:
            node_name = str(key).rpartition('/')[2]
            found = _find_parameter(value, name, node_name in (NODE_NAME, '*', '**')) or found
    return found
