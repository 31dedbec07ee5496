# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The bring-up doctor as a user starts it, beside healthy and broken robots, over DDS."""

from __future__ import annotations

import json
import sys
import threading
from array import array
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

import cv2
import numpy as np
import rclpy
from colour_model import write_model
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from node_peer import HEIGHT, WIDTH, info
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster

from implicit_relocalizer.cli import main
from implicit_relocalizer.ros.transform_watch import Senders

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
PERIOD_S = 0.1


class LostRelocalizer(LifecycleNode):
    """The outside of a relocalizer that hears reliable images only, and is lost."""

    def __init__(self, context) -> None:
        super().__init__('relocalizer', namespace='/lost', context=context)
        self.declare_parameter('tf_mode', 'map_to_base')
        self.create_subscription(CompressedImage, 'image/compressed', lambda _: None, RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def tell(self) -> None:
        values = {'state': 'LOST', 'state_reason': 'no_fix', 'last_refusal': 'outside_map'}
        self._diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(
            name='/lost/relocalizer: localization',
            values=[KeyValue(key=key, value=value) for key, value in values.items()])]))


def transform(header: Header, parent: str, child: str) -> TransformStamped:
    return TransformStamped(header=Header(stamp=header.stamp, frame_id=parent),
                            child_frame_id=child)


def image(header: Header) -> Image:
    return Image(header=header, width=WIDTH, height=HEIGHT, encoding='mono8', step=WIDTH,
                 data=array('B', bytes(WIDTH * HEIGHT)))


def compressed_image(header: Header) -> CompressedImage:
    png = cv2.imencode('.png', np.zeros((HEIGHT, WIDTH), np.uint8))[1]
    return CompressedImage(header=header, format='mono8; png compressed',
                           data=array('B', png.tobytes()))


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'colours.pt')


@pytest.fixture(scope='module')
def robots(context, nursery, model):
    """Three robots in one domain; gives the process of the first one's relocalizer.

    The first is healthy. The second, in /bad, has an uncalibrated camera on another topic, no
    odometry, and two senders of map -> drift. The camera of the third, in /lost with its
    transforms, is best effort and sets no header, its relocalizer asks for reliable.
    """
    process = nursery.start(['--ros-args', '-p', f'model:={model}', '-p', 'tf_mode:=map_to_odom',
                             '-p', 'min_confidence:=0.5', '-p', 'max_position_std_m:=0.0'])
    camera, wheels, amcl = (rclpy.create_node(name, context=context)
                            for name in ('camera', 'wheels', 'amcl'))
    lost = LostRelocalizer(context)
    images = camera.create_publisher(Image, '/image', RELIABLE)
    infos = camera.create_publisher(CameraInfo, '/camera_info', RELIABLE)
    bad_infos = camera.create_publisher(CameraInfo, '/bad/camera_info', RELIABLE)
    lossy_images = camera.create_publisher(
        CompressedImage, '/lost/image/compressed', BEST_EFFORT)
    bad_images = camera.create_publisher(CompressedImage, '/bad/image/compressed', RELIABLE)
    senders = [TransformBroadcaster(node) for node in (wheels, amcl)]
    lost_transforms = wheels.create_publisher(TFMessage, '/lost/tf', RELIABLE)
    fixed = StaticTransformBroadcaster(wheels)
    fixed.sendTransform([transform(Header(), 'base_link', 'lens')])

    def tick() -> None:
        header = Header(stamp=camera.get_clock().now().to_msg(), frame_id='lens')
        # Before the image of the same stamp, so that a busy machine is no reason to be LOST.
        senders[0].sendTransform(transform(header, 'odom', 'base_link'))
        infos.publish(info())
        images.publish(image(header))
        for sender in senders:
            sender.sendTransform(transform(header, 'map', 'drift'))
        bad_infos.publish(info(k=[0.0] * 9))
        bad_images.publish(compressed_image(header))
        lossy_images.publish(compressed_image(Header()))
        lost_transforms.publish(TFMessage(transforms=[transform(header, 'odom', 'base_link')]))
        lost.tell()

    camera.create_timer(PERIOD_S, tick)
    executor = SingleThreadedExecutor(context=context)
    for node in (camera, wheels, amcl, lost):
        executor.add_node(node)
    ended = threading.Event()

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(0.1)

    thread = threading.Thread(target=spin, name='robots')
    thread.start()
    yield process
    ended.set()
    thread.join()


@pytest.fixture(scope='module')
def bad_visit(robots, spawn, model):
    """A doctor in a process of its own; its start takes longest, so it comes early."""
    return spawn([
        sys.executable, '-m', 'implicit_relocalizer.cli', 'doctor', '--seconds', '3', '--image',
        '/bad/image', '--camera-info', '/bad/camera_info', '--odom-frame', 'drift',
        '--camera-frame', 'eye', '--tf-mode', 'map_to_odom', '--node', '/nobody', '--model',
        str(model.with_name('absent.pt'))])


@pytest.fixture
def visit_here(bad_visit, ros_domain_id, monkeypatch, capsys):
    """The same program in this process: exit status and output."""
    def visit(*options: str, domain_id: int = ros_domain_id) -> tuple[int, str]:
        monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))
        status = main(['doctor', '--seconds', '3', *options])
        return status, capsys.readouterr().out
    return visit


def assert_problems(visit: tuple[int, str], *sentences: str) -> None:
    status, output = visit
    assert status == 1, output
    assert 'Traceback' not in output
    for sentence in sentences:
        line = next((line for line in output.splitlines() if sentence in line), None)
        assert line is not None, f'no {sentence!r} in\n{output}'
        assert line.startswith('PROBLEM'), line


def test_what_cannot_be_heard_or_is_out_of_time_is_named(visit_here, tmp_path):
    seen = tmp_path / 'seen.json'
    result = visit_here('--image', '/lost/image/compressed', '--compressed', '--camera-info',
                        '/lost/camera_info', '--node', '/lost/relocalizer', '--namespaced-tf',
                        '--use-sim-time', '--json', str(seen))
    assert_problems(
        result,
        "'/camera' offers best effort, volatile, the relocalizer asks for reliable, volatile",
        "the frame_id of the images on '/lost/image/compressed' is empty",
        "nobody publishes CameraInfo on '/lost/camera_info'",
        "makes 'map' the parent of 'base_link', which has the parent 'odom' (from '/wheels')",
        'nobody publishes /clock', "the relocalizer's use_sim_time is false",
        'the stamps of the images are zero',
        "'/lost/relocalizer' is unconfigured, not active",
        "'/lost/relocalizer' is LOST (no_fix); the last image was refused: outside_map")
    for topic in ('/camera_info', '/bad/camera_info'):
        assert f"'{topic}'" in result[1]
    assert json.loads(seen.read_text())['seen']['image_size'] == [WIDTH, HEIGHT]


def test_another_domain_is_empty_and_the_remedy_says_why(visit_here, ros_domain_id):
    elsewhere = ros_domain_id + 30
    assert_problems(visit_here(domain_id=elsewhere), 'no other node and no topic was found',
                    f'ROS_DOMAIN_ID={elsewhere}', 'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST',
                    'RMW_IMPLEMENTATION=rmw_')


def test_a_bad_camera_two_localizers_and_no_odometry_are_named(bad_visit):
    bad = bad_visit.wait(120.0), bad_visit.output()
    assert_problems(
        bad, "nobody publishes images on '/bad/image'; image topics that exist",
        'the camera is uncalibrated: K', 'no transform drift -> base_link',
        "the camera's frame 'eye' is not connected",
        "map -> drift has more than one publisher: '/amcl', '/wheels'",
        "no node '/nobody' runs", 'absent.pt: no such model file')
    assert "'/bad/image/compressed (CompressedImage)'" in bad[1]
    assert "'base_link', 'drift', 'lens', 'map', 'odom'" in bad[1]


def test_a_healthy_robot_passes(robots, visit_here, model, tmp_path):
    robots.wait_for('-> LOCALIZED')
    seen = tmp_path / 'new' / 'seen.json'
    status, output = visit_here('--model', str(model), '--json', str(seen))
    assert status == 0, output
    assert 'PROBLEM' not in output and 'warning' not in output
    assert output.endswith('verdict: all is well\n')
    for sentence in (f"{WIDTH}x{HEIGHT}, frame 'lens'", 'odom -> base_link is there',
                     "'lens' is connected to 'base_link'", '(tf_mode map_to_odom)',
                     "'/relocalizer' is active: LOCALIZED", "scene 'colours'"):
        assert sentence in output
    document = json.loads(seen.read_text())
    assert {finding['severity'] for finding in document['findings']} == {'ok'}
    links = document['seen']['transforms']['links']
    assert {'parent': 'map', 'child': 'odom', 'is_static': False, 'senders': ['/relocalizer'],
            'is_contested': False} in links
    assert document['seen']['calibration']['K_33'][0][0] == 60.0
    assert len(document['seen']['images']) > 10


def test_without_ros_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'implicit_relocalizer.ros.graph_observer', None)
    assert main(['doctor']) == 1
    error = capsys.readouterr().err
    assert error.startswith('implicit-relocalizer doctor: no usable ROS 2 here')
    assert 'setup.sh' in error


@pytest.mark.parametrize('seconds', ['0', 'soon', 'nan', '1e9'])
def test_a_time_that_cannot_be_watched_is_refused(seconds, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['doctor', '--seconds', seconds])
    assert ended.value.code == 2
    assert 'is no time to watch' in capsys.readouterr().err


@pytest.mark.parametrize(('messages', 'is_contested'), [
    ([(b'a', 1), (b'a', 2), (b'a', 3)], False),
    ([(b'a', 7), (b'b', 1), (b'b', 2)], False),  # its sender started anew
    ([(b'a', 1), (b'b', 1), (b'a', 2)], True),
    ([(b'', 1), (b'', 2), (b'', 3)], False),
    ([(b'', 900), (b'', 1), (b'', 2)], False),
    ([(b'', 900), (b'', 1), (b'', 901), (b'', 2)], True)])
def test_two_senders_are_told_from_one_that_starts_anew(messages, is_contested):
    senders = Senders()
    for gid, order in messages:
        senders.add(gid, order)
    assert senders.is_contested(is_static=False) == is_contested
