# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Images of which nothing can be known, 500 of each kind: nothing leaves but diagnostics.

About 90 s, nearly all of it for 2000 answers, and 35 s more for the first of the files that use
the rendered place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_msgs', reason='needs tf2_msgs (or pip_overlay)')

from box_room import ROOM_SIZE_M, BoxRoom, camera_pose
from conftest import SHARED_DATA
from managed_node import ManagedNode
from rendered_place import IMAGE_SIZE, RenderedPlace, cropped_to, rendered_place
from robot_motion import errors_of, matrix
from robot_simulation import SimulatedRobot, nanoseconds

from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.readers.folder import read_folder_scene

IMAGES = 500
# A robot that stands still sees the same view, to which the answers agree with each other.
VIEWS, SHOWINGS = 50, 10
PATIENCE_S = 300.0
WIDTH, HEIGHT = IMAGE_SIZE


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> RenderedPlace:
    return rendered_place(tmp_path_factory)


@pytest.fixture(scope='module')
def robot(context, place) -> SimulatedRobot:
    robot = SimulatedRobot(context, seed=6)
    # Without odometry no answer is refused for want of it.
    robot.switch_on(place.held_out[:1], stands=True, has_odometry=False)
    return robot


@pytest.fixture(scope='module')
def node(nursery, robot, place) -> ManagedNode:
    node = ManagedNode(nursery, robot, place.model)
    node.begin(mode='startup', tf_mode='map_to_base')
    return node


def views_of_another_room() -> Iterator[np.ndarray]:
    """Of a room whose walls have detail at every scale."""
    room, rng = BoxRoom(seed=9), np.random.default_rng(2)
    while True:
        position_m = rng.uniform(0.5, ROOM_SIZE_M - 0.5)
        yield room.render(camera_pose(tuple(position_m), *rng.uniform([0, -10], [360, 10])))[0]


def views_of_other_places() -> Iterator[np.ndarray]:
    """Of that room and, where they are at hand, of two real ones by turns."""
    real = SHARED_DATA / 'two_rooms'
    frames = cycle(read_folder_scene(real).frames[::13] if real.is_dir() else ())
    for view in views_of_another_room():
        yield view
        for frame in islice(frames, 1):
            yield cropped_to(read_frame_image(frame).numpy(), IMAGE_SIZE)


def noise() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(3)
    while True:
        yield rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def almost_uniform(value: float, std: float) -> Iterator[np.ndarray]:
    """One brightness and the sensor's noise, cut off where a byte ends; first without noise."""
    rng = np.random.default_rng(4)
    yield np.full((HEIGHT, WIDTH, 3), np.clip(round(value), 0, 255), np.uint8)
    while True:
        yield np.clip(rng.normal(value, std, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def assert_nothing_leaves(robot: SimulatedRobot, views: Iterable[np.ndarray],
                          stamp_ns: Callable[[], int] = time.time_ns,
                          period_ms: float | None = None) -> dict[str, str]:
    """Show views as fast as they are answered until 500 images were; the last diagnostics."""
    images = cycle([view for view in islice(views, VIEWS) for _ in range(SHOWINGS)])
    robot.forget()
    robot.go_on(PATIENCE_S, lambda: bool(robot.report()))
    first = robot.report()
    next_s = 0.0

    def show_until_all_are_refused() -> bool:
        nonlocal next_s
        assert robot.heard.localizations == 0
        if time.monotonic() >= next_s:
            robot.show(next(images), stamp_ns())
            # Somewhat faster than they are answered, so that the node has never to wait for one.
            pace_ms = period_ms or 0.7 * float(robot.report()['inference_ms'] or 20.0)
            next_s = time.monotonic() + 1e-3 * pace_ms
        return int(robot.report()['images_refused']) - int(first['images_refused']) >= IMAGES

    robot.go_on(PATIENCE_S, show_until_all_are_refused)
    assert {report['state'] for report in robot.heard.reports} == {'SEARCHING'}
    assert robot.report()['images_answered'] == first['images_answered'] == '0'
    return robot.report()


@pytest.mark.parametrize('views', [
    pytest.param(views_of_other_places(), id='other_places'),
    pytest.param(noise(), id='noise'),
    pytest.param(almost_uniform(2.0, 3.0), id='covered_lens'),
    pytest.param(almost_uniform(255.0, 3.0), id='over_exposed'),
])
def test_nothing_leaves(node, robot, views):
    last = assert_nothing_leaves(robot, views)
    assert last['last_refusal'] in ('confidence_low', 'outside_map', 'answer_invalid')


def test_nothing_leaves_from_a_frozen_camera(node, robot, place):
    frozen_ns = time.time_ns()
    last = assert_nothing_leaves(robot, [read_frame_image(place.held_out[0]).numpy()],
                                 lambda: frozen_ns, period_ms=10.0)
    assert last['last_refusal'] == 'stamp_repeated'


def test_after_all_this_a_true_view_is_found(node, robot, place):
    robot.switch_on(place.held_out[:20], has_odometry=False)
    robot.open_eyes()
    robot.go_on(30.0, lambda: len(robot.heard.poses) > 0)
    pose = robot.heard.poses[0]
    distance_m, angle_deg = errors_of(
        matrix(pose.pose), robot.true_T_map_camera[nanoseconds(pose.header.stamp)])
    assert distance_m < 0.3 and angle_deg < 8.0
