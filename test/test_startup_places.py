# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Switched on in unknown places, with odometry that drifts: is the first pose right?

About 45 s, and 35 s more for the first of the files that use the rendered place.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_msgs', reason='needs tf2_msgs (or pip_overlay)')

import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from managed_node import ManagedNode
from rclpy.qos import QoSProfile
from rendered_place import RenderedPlace, rendered_place
from robot_motion import T_BASE_CAMERA, errors_of, matrix
from robot_simulation import SimulatedRobot, nanoseconds

PLACES, LEAST_ANNOUNCED, PATIENCE_S = 20, 18, 3.0
RIGHT_M, RIGHT_DEG = 0.3, 8.0
STRETCH = 25  # frames of the drive, which takes as many tenths of a second
AMCL_IS_LATE_BY_S = 2.5
STAMPED_AHEAD_S = 0.35  # a little more than tf_tolerance


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> RenderedPlace:
    return rendered_place(tmp_path_factory)


@pytest.fixture(scope='module')
def robot(context) -> SimulatedRobot:
    return SimulatedRobot(context, seed=4)


@pytest.fixture(scope='module')
def node(nursery, robot, place) -> ManagedNode:
    node = ManagedNode(nursery, robot, place.model)
    node.begin(mode='startup', tf_mode='map_to_odom')
    return node


def power_up(robot: SimulatedRobot, node: ManagedNode, place: RenderedPlace, index: int) -> None:
    """Switch the robot on where the held-out frame was taken, its camera a little later."""
    node.deactivate()
    robot.go_on(STAMPED_AHEAD_S)  # so that what comes late has an earlier stamp
    robot.switch_on(place.held_out[index:index + STRETCH])
    node.activate()
    robot.go_on(0.2)
    assert robot.heard.localizations == 0
    robot.open_eyes()


def assert_right(T_found: np.ndarray, T_true: np.ndarray) -> None:
    distance_m, angle_deg = errors_of(T_found, T_true)
    assert distance_m < RIGHT_M and angle_deg < RIGHT_DEG, f'{distance_m} m, {angle_deg} deg off'


def assert_all_right(robot: SimulatedRobot, since_ns: int = 0) -> None:
    """Whatever was heard is where the robot was, transforms at all images since a stamp."""
    heard = robot.heard
    for message in (*heard.poses, *heard.covariances):
        pose = message.pose.pose if hasattr(message.pose, 'pose') else message.pose
        assert message.header.frame_id == 'map'
        assert_right(matrix(pose), robot.true_T_map_camera[nanoseconds(message.header.stamp)])
    for message in heard.initial_poses:
        assert message.header.frame_id == 'map'
        assert_right(matrix(message.pose.pose),
                     robot.true_T_map_base(nanoseconds(message.header.stamp)))
    for stamped in heard.transforms:
        assert stamped.child_frame_id == 'odom'
        for stamp_ns, T_map_camera in list(robot.true_T_map_camera.items())[:-1]:
            if stamp_ns >= since_ns:
                assert_right(matrix(stamped) @ robot.odometry.at(stamp_ns) @ T_BASE_CAMERA,
                             T_map_camera)


def test_the_first_pose_at_twenty_places_is_right(robot, node, place):
    chosen = np.random.default_rng(20).choice(len(place.held_out) - 1, PLACES, replace=False)
    announced_s = []
    for index in chosen:
        power_up(robot, node, place, int(index))
        try:
            announced_s.append(robot.go_on(PATIENCE_S, lambda: robot.heard.localizations > 0))
        except AssertionError:
            continue
        robot.go_on(0.25)  # images after the announcement
        robot.go_on(PATIENCE_S, lambda: robot.heard.is_complete)
        assert_all_right(robot)
        assert robot.is_in('LOCALIZED')
        stamps_ns = {nanoseconds(message.header.stamp) for message in robot.heard.poses}
        assert len(stamps_ns) == 1, 'it looks on after it has found the place'
    assert len(announced_s) >= LEAST_ANNOUNCED, node.process.output()
    print(f'announced after {np.median(announced_s):.2f} s, {max(announced_s):.2f} s at most')


def test_a_search_asked_for_finds_the_robot_where_it_is_now(robot, node, place):
    power_up(robot, node, place, 5)
    robot.go_on(PATIENCE_S, lambda: robot.is_in('LOCALIZED'))
    node.set(tf_when_lost='withhold')
    carried_ns = robot.carry_to(place.held_out[40:40 + STRETCH], stands=False)
    node.reinitialize()
    robot.go_on(0.1)  # what was under way arrives; a consensus takes longer
    robot.forget()
    robot.go_on(PATIENCE_S, lambda: robot.heard.localizations > 0)
    robot.go_on(PATIENCE_S, lambda: robot.heard.is_complete)
    assert_all_right(robot, carried_ns)


class LateAmcl:
    """Takes the first pose that it is given and tells where it is from then on."""

    def __init__(self, robot: SimulatedRobot) -> None:
        self.node = rclpy.create_node('amcl', namespace=robot.namespace,
                                      context=robot.node.context)
        self.given: list[PoseWithCovarianceStamped] = []
        qos = QoSProfile(depth=1)
        self._publisher = self.node.create_publisher(PoseWithCovarianceStamped, 'amcl_pose', qos)
        self.node.create_subscription(PoseWithCovarianceStamped, 'initialpose', self._take, qos)
        robot.add(self.node)

    def _take(self, message: PoseWithCovarianceStamped) -> None:
        self.given.append(message)
        self._publisher.publish(message)


def test_an_amcl_that_starts_late_is_told_until_it_answers(robot, node, place):
    robot.ignore_initialpose()
    power_up(robot, node, place, 12)
    robot.go_on(PATIENCE_S, lambda: robot.is_in('LOCALIZED'))
    robot.go_on(AMCL_IS_LATE_BY_S)
    amcl = LateAmcl(robot)
    robot.go_on(3.0, lambda: len(amcl.given) > 0)
    robot.go_on(0.2)  # for the answer to arrive
    told = amcl.given[0]
    assert told.header.frame_id == 'map'
    assert_right(matrix(told.pose.pose), robot.true_T_map_base(nanoseconds(told.header.stamp)))
    covariance_66 = np.reshape(told.pose.covariance, (6, 6))
    assert (np.linalg.eigvalsh(covariance_66) > 0.0).all()
    heard_until_then = len(amcl.given)
    robot.go_on(2.5)
    assert len(amcl.given) == heard_until_then, 'it repeats itself although AMCL has answered'
