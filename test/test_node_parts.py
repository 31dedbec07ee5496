# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the node by themselves: the inference thread, stamps, and frames with two parents."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor, TimeoutException
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from tf2_ros import StaticTransformBroadcaster

from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.estimate import PoseEstimate
from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.localization.image_answer import ImageAnswer
from implicit_relocalizer.localization.model_runner import limit_threads
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.stamps import find_stamp_refusal, stamp_to_ns
from implicit_relocalizer.ros.frame_tree import FrameTree
from implicit_relocalizer.ros.inference_thread import InferenceThread
from implicit_relocalizer.ros.map_broadcast import MapBroadcast
from implicit_relocalizer.ros.parameters import declare_parameters, read_parameters


@pytest.fixture
def spun(context):
    """A node, and a function that spins it until a condition holds."""
    node = rclpy.create_node('parts', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin_until(condition, timeout_s: float = 20.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, 'waited in vain'
            executor.spin_once(0.02)

    yield node, spin_until
    node.destroy_node()


def header(stamp_s: float) -> Header:
    message = Header(frame_id='eye')
    message.stamp.sec, message.stamp.nanosec = int(stamp_s), round(stamp_s % 1 * 1e9)
    return message


def test_an_image_under_way_when_time_jumped_is_answered_to_nobody(spun):
    node, spin_until = spun
    begun, go_on = threading.Event(), threading.Event()
    answered: list[int] = []

    def answer(image: Image) -> ImageAnswer:
        begun.set()
        go_on.wait(20.0)
        return ImageAnswer(stamp_to_ns(image.header), 'eye', None, None, None, None)

    thread = InferenceThread(node, answer, lambda: 0.0,
                             lambda result: answered.append(result.stamp_ns), pytest.fail)
    thread.put(Image(header=header(100.0)))
    begun.wait(20.0)
    thread.put(Image(header=header(101.0)))  # waits for its turn
    thread.forget()
    thread.put(Image(header=header(5.0)))
    go_on.set()
    spin_until(lambda: answered)
    thread.stop()
    assert answered == [5 * 10**9]


def test_a_fault_of_the_thread_is_told_and_ends_it(spun):
    node, spin_until = spun
    faults: list[Exception] = []

    def answer(_: Image) -> ImageAnswer:
        raise ZeroDivisionError('ours')

    thread = InferenceThread(node, answer, lambda: 0.0, pytest.fail, faults.append)
    thread.put(Image())
    spin_until(lambda: faults)
    thread.stop()
    assert [str(fault) for fault in faults] == ['ours']


def test_no_library_takes_more_threads_than_the_model_may():
    before = cv2.getNumThreads(), torch.get_num_threads()
    try:
        cv2.setNumThreads(4)
        limit_threads(0)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (4, before[1])
        limit_threads(1)
        assert cv2.getNumThreads() == torch.get_num_threads() == 1
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@pytest.mark.parametrize(('stamp_s', 'last_s', 'newest_s', 'reason'), [
    (7.0, None, 7.0, None),
    (7.1, 7.0, 7.1, None),
    (7.0, 7.0, 7.0, Reason.DUPLICATE),
    (6.9, 7.0, 7.0, Reason.OUT_OF_ORDER),
    (1.0, 7.0, 1.0, None),  # time jumped back with this very image
])
def test_a_stamp_rules_an_image_out_unless_time_jumped(stamp_s, last_s, newest_s, reason):
    refusal = find_stamp_refusal(
        round(stamp_s * 1e9), None if last_s is None else round(last_s * 1e9),
        round(newest_s * 1e9))
    assert (refusal.reason if refusal else None) is reason


@pytest.mark.parametrize(('tf_mode', 'parent', 'child'), [
    ('map_to_camera', 'base_link', 'eye'), ('map_to_base', 'odom', 'base_link')])
def test_no_frame_gets_a_second_parent(spun, tf_mode, parent, child):
    node, spin_until = spun
    declare_parameters(node)
    node.set_parameters([Parameter('tf_mode', value=tf_mode)])
    frames = FrameTree(node)
    transform = MapBroadcast(node, read_parameters(node))
    static = TransformStamped(child_frame_id=child)
    static.header.frame_id = parent
    StaticTransformBroadcaster(node).sendTransform(static)
    spin_until(lambda: frames.is_connected(parent, child))
    fix = Fix(1, PoseEstimate(np.eye(3), np.zeros(3), np.eye(6), 0.9, 0.9))
    with pytest.raises(NoPoseError, match=f"'{child}' is placed by '{parent}' already") as caught:
        transform.place(fix, 'eye', frames)
    assert caught.value.reason is Reason.SECOND_PARENT
    assert not transform.moves_robot
    transform.close()
    frames.close()


def odometry_msg(stamp_s: float) -> TransformStamped:
    message = TransformStamped(header=header(stamp_s), child_frame_id='base_link')
    message.header.frame_id = 'odom'
    message.transform.translation.x = stamp_s
    return message


def test_transforms_wake_nobody_and_are_known_when_they_are_asked_for(context):
    node = rclpy.create_node('parts', context=context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    frames = FrameTree(node)
    publisher = node.create_publisher(TFMessage, '/tf', 100)
    end_s = time.monotonic() + 20.0
    while publisher.get_subscription_count() == 0:
        assert time.monotonic() < end_s, 'waited in vain'
        executor.spin_once(0.02)
    time.sleep(0.3)  # the other side may still be matching
    while time.monotonic() < end_s:  # what belongs to the matching
        try:
            executor.wait_for_ready_callbacks(0.1)
        except TimeoutException:
            break
    for count in range(80):
        publisher.publish(TFMessage(transforms=[odometry_msg(100.0 + 0.01 * count)]))
    with pytest.raises(TimeoutException):
        executor.wait_for_ready_callbacks(0.5)
    T_odom_base = frames.lookup('odom', 'base_link', stamp_to_ns(header(100.785)))
    assert T_odom_base[0, 3] == pytest.approx(100.785)
    frames.close()
    frames.close()
    frames.hear()
    node.destroy_node()


def test_a_lookup_waits_for_what_comes_and_not_after_it_is_told_to_stop(spun):
    node, spin_until = spun
    frames = FrameTree(node)
    publisher = node.create_publisher(TFMessage, '/tf', 100)
    spin_until(lambda: publisher.get_subscription_count() > 0)
    found: list[float] = []

    def look_up(stamp_s: float) -> None:
        try:
            T_odom_base = frames.lookup('odom', 'base_link', round(stamp_s * 1e9), 60.0)
            found.append(T_odom_base[0, 3])
        except NoTransformError:
            found.append(np.nan)

    threads = [threading.Thread(target=look_up, args=(stamp_s,)) for stamp_s in (10.5, 99.0)]
    for thread in threads:
        thread.start()
    for stamp_s in (10.0, 11.0):
        publisher.publish(TFMessage(transforms=[odometry_msg(stamp_s)]))
    spin_until(lambda: found)
    assert found == [pytest.approx(10.5)]
    frames.stop_waiting()
    for thread in threads:
        thread.join(20.0)
    assert len(found) == 2 and np.isnan(found[1])
    frames.close()
