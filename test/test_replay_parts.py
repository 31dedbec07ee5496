# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The clock of a replay, and its memory of transforms against that of tf2."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags, from the extra train')

from bag_writer import STORE, transform
from scipy.spatial.transform import Rotation

from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.replay.heard_frames import HeardFrames
from implicit_relocalizer.replay.timeline import Timeline

S, MS = 10**9, 10**6


# --- the clock ---

def test_messages_and_timers_come_in_the_order_of_time():
    heard: list[tuple[str, float]] = []
    timeline = Timeline(iter([(5 * S, 'a'), (6 * S, 'b'), (7 * S + 1, 'c')]),
                        lambda _, event: heard.append((event, timeline.now_s)))
    timeline.every(0.4, lambda: heard.append(('tick', timeline.now_s)))
    timeline.at(6 * S, lambda: heard.append(('once', timeline.now_s)))
    timeline.run()
    assert heard == [('a', 0.0), ('tick', 0.4), ('tick', 0.8), ('b', 1.0), ('once', 1.0),
                     ('tick', 1.2), ('tick', 1.6), ('tick', 2.0), ('c', pytest.approx(2.0))]


def test_who_waits_lets_the_rest_go_on():
    heard: list[str] = []
    waited: list[tuple[bool, float]] = []

    def hear(_: int, event: str) -> None:
        heard.append(event)
        if event == 'wait':
            waited.append((timeline.wait_for(lambda: 'news' in heard, 1.0), timeline.now_s))
            waited.append((timeline.wait_for(lambda: 'never' in heard, 0.5), timeline.now_s))

    timeline = Timeline(iter([(0, 'wait'), (300 * MS, 'other'), (700 * MS, 'news'),
                              (1100 * MS, 'later'), (1300 * MS, 'last')]), hear)
    timeline.run()
    assert waited == [(True, 0.7), (False, 1.2)]
    assert heard == ['wait', 'other', 'news', 'later', 'last']


def test_time_passes_behind_the_last_message_too():
    ticks: list[float] = []
    timeline = Timeline(iter([(0, 'only')]), lambda *_: None)
    timeline.every(0.2, lambda: ticks.append(timeline.now_s))
    timeline.run()
    assert ticks == []
    timeline.sleep(0.5)
    assert (ticks, timeline.now_s) == ([0.2, 0.4], 0.5)


def test_a_recording_of_nothing_ends_at_once():
    timeline = Timeline(iter([]), lambda *_: None)
    timeline.run()
    assert timeline.now_s == 0.0


# --- transforms ---

def never(*_: object) -> bool:
    return False


def rigid(rng: np.random.Generator) -> np.ndarray:
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    T_44[:3, 3] = rng.normal(size=3)
    return T_44


LINKS = (('odom', 'base', False), ('base', 'arm', False), ('arm', 'eye', True),
         ('base', 'mount', True), ('mount', 'lens', True), ('world', 'odom', False),
         ('elsewhere', 'thing', False))
FRAMES = ('odom', 'base', 'arm', 'eye', 'lens', 'world', 'thing', 'nowhere')


def test_transforms_are_known_as_tf2_knows_them():
    """Late, repeated and out of order, with a pause longer than the memory and jumps back."""
    tf2_ros = pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')
    from rclpy.serialization import deserialize_message
    from rclpy.time import Time
    from tf2_msgs.msg import TFMessage

    from implicit_relocalizer.ros.frame_tree import matrix_from_transform
    rng = np.random.default_rng(8)
    ours, theirs = HeardFrames(never), tf2_ros.Buffer()
    found = missed = 0
    now_ns = 100 * S
    for step in range(400):
        now_ns += int(rng.integers(1, 300)) * MS + (12 * S if step == 200 else 0)
        parent, child, is_fixed = LINKS[rng.integers(len(LINKS))]
        stamp_ns = now_ns - int(rng.integers(0, 5)) * 80 * MS
        message = transform(stamp_ns, parent, child, rigid(rng))
        ours.hear(message.transforms, is_fixed)
        ros = deserialize_message(cdr_of(message), TFMessage).transforms[0]
        (theirs.set_transform_static if is_fixed else theirs.set_transform)(ros, 'test')
        if step in (120, 300):
            ours.forget()
            theirs.clear()
        target, source = rng.choice(FRAMES, 2)
        when_ns = now_ns - int(rng.integers(-2, 40)) * 50 * MS
        assert ours.is_connected(target, source) == theirs.can_transform(
            target, source, Time()), (step, target, source)
        try:
            expected = matrix_from_transform(theirs.lookup_transform(
                target, source, Time(nanoseconds=when_ns)))
        except tf2_ros.TransformException:
            missed += 1
            with pytest.raises(NoTransformError, match=f"from '{source}' to '{target}'"):
                ours.lookup(target, source, when_ns)
            continue
        found += target != source
        np.testing.assert_allclose(ours.lookup(target, source, when_ns), expected, atol=1e-12)
    assert found > 40 and missed > 40


def cdr_of(message: object) -> bytes:
    return bytes(STORE.serialize_cdr(message, 'tf2_msgs/msg/TFMessage'))


def test_transforms_of_a_time_before_begin_anew():
    frames = HeardFrames(never)
    for stamp_s in (50, 51, 20, 21):
        T_44 = np.eye(4)
        T_44[0, 3] = stamp_s
        frames.hear(transform(stamp_s * S, 'odom', 'base', T_44).transforms, False)
    assert frames.lookup('odom', 'base', 20 * S + S // 2)[0, 3] == pytest.approx(20.5)
    with pytest.raises(NoTransformError, match=r'not at 50\.5'):
        frames.lookup('odom', 'base', 50 * S + S // 2)


def test_a_lookup_lets_the_recording_go_on_until_it_knows():
    messages = [(time_s * S, transform(time_s * S, 'odom', 'base', np.eye(4)).transforms)
                for time_s in (1, 2, 3, 4)]
    timeline = Timeline(iter(messages), lambda _, items: frames.hear(items, False))
    frames = HeardFrames(timeline.wait_for)
    frames.lookup('odom', 'base', 2 * S + 1, 5.0)
    assert timeline.now_ns == 3 * S
    with pytest.raises(NoTransformError):
        frames.lookup('odom', 'base', 9 * S, 0.5)
    assert timeline.now_ns == 3 * S + S // 2
