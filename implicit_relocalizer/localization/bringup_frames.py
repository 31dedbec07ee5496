# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Is the transform tree one that the relocalizer's transform fits into?"""

from __future__ import annotations

from implicit_relocalizer.localization.bringup_findings import Finding, Subject, named
from implicit_relocalizer.localization.bringup_observation import (
    Expectation,
    Observation,
    TransformLink,
)

# Names under which others, who send map -> odom as well, are usually started.
LOCALIZERS = frozenset({
    'amcl', 'slam_toolbox', 'sync_slam_toolbox_node', 'async_slam_toolbox_node',
    'cartographer_node', 'rtabmap', 'beluga_amcl', 'mola', 'ekf_filter_node_map',
    'ekf_global', 'ukf_filter_node_map'})

_TRANSFORMS = Subject('transforms')


def check_transforms(seen: Observation) -> list[Finding]:
    """What has to be there, and what must not be there twice."""
    expected = seen.expected
    findings = [*_check_odometry(seen), *_check_camera_mount(seen)]
    wrong_map_odom = _check_map_odom(seen)
    findings += wrong_map_odom
    checked = {expected.odom_frame, expected.base_frame, expected.camera_frame} - {''}
    if wrong_map_odom:
        checked.discard(expected.odom_frame)
    for child in sorted(checked):
        findings += _check_one_parent(seen, child)
    if any(finding.remedy for finding in findings):
        return findings
    return [*findings, _TRANSFORMS.ok(
        'transforms_ok', f'{len(seen.transforms.frames)} frames, nothing is sent twice '
        f'(tf_mode {expected.tf_mode})')]


def child_of_mode(expected: Expectation) -> str:
    """The frame whose parent the relocalizer's transform makes the map; empty for none."""
    return {'map_to_odom': expected.odom_frame, 'map_to_base': expected.base_frame,
            'map_to_camera': expected.camera_frame}.get(expected.tf_mode, '')


def _check_odometry(seen: Observation) -> list[Finding]:
    expected, lookup = seen.expected, seen.transforms.odometry
    name = f'{expected.odom_frame} -> {expected.base_frame}'
    if lookup.found and seen.transforms.is_below(expected.base_frame, expected.odom_frame):
        return [_TRANSFORMS.ok('odometry_ok', f'{name} is there')]
    # tf2 also finds a way over a common parent, which is no odometry.
    problem = lookup.problem or f"'{expected.base_frame}' does not hang below it"
    sentence = (f'no transform {name} in {seen.seconds:g} s ({problem}); '
                f'{_frames_that_exist(seen)}')
    remedy = ('start what publishes the odometry with its transform (wheel driver with '
              'publish_tf, or robot_localization), or name the frames with --odom-frame and '
              '--base-frame')
    wanted = seen.relocalizer.parameters.get('odometry', 'auto')
    if expected.tf_mode == 'map_to_odom' or wanted == 'required':
        return [_TRANSFORMS.problem('no_odometry', sentence, remedy)]
    if expected.tf_mode == 'map_to_camera' or wanted == 'none':
        return [_TRANSFORMS.ok('odometry_unused', f'no transform {name}, none is needed')]
    return [_TRANSFORMS.warning(
        'no_odometry', f'{sentence}; fixes are then compared as if the robot moved within '
        f'max_linear_speed_mps and max_angular_speed_dps', remedy)]


def _check_camera_mount(seen: Observation) -> list[Finding]:
    expected, lookup = seen.expected, seen.transforms.camera_mount
    if lookup is None:
        return []  # Without an image nobody knows the camera's frame; that is said elsewhere.
    name = f"the camera's frame '{expected.camera_frame}'"
    if lookup.found:
        return [_TRANSFORMS.ok(
            'camera_mount_ok', f"{name} is connected to '{expected.base_frame}'")]
    if expected.tf_mode == 'map_to_camera':
        return [_TRANSFORMS.ok(
            'camera_alone', f"{name} stands alone, '{expected.map_frame}' becomes its parent; "
            f'without a mount on a robot there is no initialpose')]
    sentence = (f"{name} is not connected to '{expected.base_frame}' ({lookup.problem}); "
                f'{_frames_that_exist(seen)}')
    remedy = ('publish where the camera sits on the robot: in the URDF that '
              'robot_state_publisher reads, or by `ros2 run tf2_ros static_transform_publisher '
              f'... --frame-id {expected.base_frame} --child-frame-id {expected.camera_frame}`')
    if expected.tf_mode in ('map_to_odom', 'map_to_base'):
        return [_TRANSFORMS.problem('camera_not_connected', sentence, remedy)]
    return [_TRANSFORMS.warning(
        'camera_not_connected', f'{sentence}; without it there is no initialpose for AMCL',
        remedy)]


def _check_map_odom(seen: Observation) -> list[Finding]:
    expected = seen.expected
    name = f'{expected.map_frame} -> {expected.odom_frame}'
    links = [link for link in seen.transforms.links
             if (link.parent, link.child) == (expected.map_frame, expected.odom_frame)]
    senders = sorted({sender for link in links for sender in link.senders})
    remedy = ("let one node send it: tf_broadcast: false for AMCL, tf_mode: none for the "
              "relocalizer (AMCL takes its initialpose then), or stop the other")
    if len(links) > 1 or any(link.is_contested for link in links):
        who = named(senders) if senders else 'nodes that this middleware does not name'
        suspects = '' if senders else _suspects_text(seen)
        return [_TRANSFORMS.problem(
            'map_odom_twice', f'{name} has more than one publisher: {who}{suspects}; the robot '
            f'jumps between their answers', remedy)]
    if expected.tf_mode != 'map_to_odom':
        return []
    if senders and seen.relocalizer.name not in senders:
        return [_TRANSFORMS.problem(
            'map_odom_taken', f'{name} is sent by {named(senders)} already, and the relocalizer '
            f'(tf_mode map_to_odom) will send it too', remedy)]
    if links and not senders and _suspects(seen):
        return [_TRANSFORMS.warning(
            'map_odom_suspect', f'{name} is sent, by whom this middleware does not say'
            f'{_suspects_text(seen)}; the relocalizer (tf_mode map_to_odom) sends it too', remedy)]
    return []


def _check_one_parent(seen: Observation, child: str) -> list[Finding]:
    """One parent, from one sender; the link that the relocalizer will add counted in."""
    expected = seen.expected
    links = [link for link in seen.transforms.links if link.child == child]
    if child == child_of_mode(expected):
        strangers = [link for link in links if not _is_ours(link, seen)]
        if strangers:
            return [_TRANSFORMS.problem(
                'parent_taken', f'tf_mode {expected.tf_mode} makes '
                f"'{expected.map_frame}' the parent of '{child}', which has the parent "
                f'{_parents_text(strangers)} already: a frame has one parent only',
                'stop the other; or set tf_mode: map_to_odom on a robot with odometry, none where '
                'another node sends map -> odom')]
    parents = {link.parent for link in links}
    if len(parents) > 1 or len(links) > 1 or any(link.is_contested for link in links):
        return [_TRANSFORMS.problem(
            'frame_sent_twice', f"the frame '{child}' has more than one publisher or parent: "
            f'{_parents_text(links)}; tf2 jumps between them',
            'stop all but one (often both the wheel driver and robot_localization publish it)')]
    return []


def _is_ours(link: TransformLink, seen: Observation) -> bool:
    if link.parent != seen.expected.map_frame or link.is_static or link.is_contested:
        return False
    return not link.senders or seen.relocalizer.name in link.senders


def _parents_text(links: list[TransformLink]) -> str:
    return ', '.join(
        f"'{link.parent}'" + (f' (from {named(link.senders)})' if link.senders else '')
        for link in sorted(links, key=lambda link: link.parent))


def _suspects(seen: Observation) -> list[str]:
    return [node for node in seen.transforms.publishers if node.split('/')[-1] in LOCALIZERS]


def _suspects_text(seen: Observation) -> str:
    suspects = _suspects(seen)
    return f' (nodes on /tf that usually do: {named(suspects)})' if suspects else ''


def _frames_that_exist(seen: Observation) -> str:
    frames = seen.transforms.frames
    return f'frames that exist: {named(frames, limit=20)}' if frames else 'no frame exists at all'
