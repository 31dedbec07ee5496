# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The bring-up doctor as a user starts it, beside healthy and broken robots, over DDS."""

from __future__ import annotations

import io
import json
import sys
import threading
from array import array

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from node_peer import HEIGHT, WIDTH, info, write_model
from PIL import Image as PillowImage
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster

from implicit_relocalizer.cli import main
from implicit_relocalizer.ros.transform_watch import Senders

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
PERIOD_S = 0.1


class Relocalizer(LifecycleNode):
    """Our node's outside: lifecycle, parameters, subscriptions, diagnostics, map -> odom."""

    def __init__(self, name: str, context, state: str, map_odom: tuple[str, str],
                 **parameters) -> None:
        super().__init__(name, context=context)
        self.declare_parameters('', list(parameters.items()))
        self.create_subscription(Image, f'{name}/image' if name != 'relocalizer' else 'image',
                                 lambda _: None, RELIABLE)
        self._state, self._map_odom = state, map_odom
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._broadcaster = TransformBroadcaster(self)

    def on_configure(self, _) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def tick(self) -> None:
        self._broadcaster.sendTransform(transform(self, *self._map_odom))
        values = {'state': self._state, 'state_reason': 'no_fix', 'last_refusal': 'outside_map'}
        self._diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(
            name=f'/{self.get_name()}: localization',
            values=[KeyValue(key=key, value=value) for key, value in values.items()])]))


def transform(node, parent: str, child: str) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = node.get_clock().now().to_msg()
    return message


def image(node, frame_id: str, width: int = WIDTH, is_stamped: bool = True) -> Image:
    message = Image(width=width, height=HEIGHT, encoding='mono8', step=width,
                    data=array('B', bytes(width * HEIGHT)))
    message.header.frame_id = frame_id
    if is_stamped:
        message.header.stamp = node.get_clock().now().to_msg()
    return message


def compressed_image(node, frame_id: str) -> CompressedImage:
    png = io.BytesIO()
    PillowImage.new('L', (WIDTH, HEIGHT)).save(png, 'png')
    return CompressedImage(header=image(node, frame_id).header, format='mono8; png compressed',
                           data=array('B', png.getvalue()))


@pytest.fixture(scope='module')
def robots(context):
    """Three robots in one domain, told apart by topics, frames and the relocalizer's name.

    The first is healthy; the second has a bad camera, two senders of map -> drift and no
    odometry; the third's camera is best effort while its relocalizer asks for reliable.
    """
    camera, wheels, amcl = (rclpy.create_node(name, context=context)
                            for name in ('camera', 'wheels', 'amcl'))
    healthy = Relocalizer('relocalizer', context, 'LOCALIZED', ('map', 'odom'),
                          tf_mode='map_to_odom')
    healthy.trigger_configure()
    healthy.trigger_activate()
    lost = Relocalizer('lost', context, 'LOST', ('map', 'drift'))
    images = camera.create_publisher(Image, '/image', RELIABLE)
    infos = camera.create_publisher(CameraInfo, '/camera_info', RELIABLE)
    bad_images = camera.create_publisher(Image, '/bad/image', RELIABLE)
    bad_infos = camera.create_publisher(CameraInfo, '/bad/camera_info', RELIABLE)
    lossy_images = camera.create_publisher(Image, '/lost/image', BEST_EFFORT)
    compressed_images = camera.create_publisher(
        CompressedImage, '/front/image/compressed', RELIABLE)
    moving = TransformBroadcaster(wheels), TransformBroadcaster(amcl)
    fixed = StaticTransformBroadcaster(wheels)
    fixed.sendTransform([transform(wheels, 'base_link', 'lens')])

    def tick() -> None:
        images.publish(image(camera, 'lens'))
        infos.publish(info())
        bad_images.publish(image(camera, '', width=2 * WIDTH, is_stamped=False))
        bad_infos.publish(info(k=[0.0] * 9))
        lossy_images.publish(image(camera, 'lens'))
        compressed_images.publish(compressed_image(camera, 'lens'))
        moving[0].sendTransform(transform(wheels, 'odom', 'base_link'))
        moving[1].sendTransform(transform(amcl, 'map', 'drift'))
        healthy.tick()
        lost.tick()

    camera.create_timer(PERIOD_S, tick)
    executor = SingleThreadedExecutor(context=context)
    for node in (camera, wheels, amcl, healthy, lost):
        executor.add_node(node)
    ended = threading.Event()

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(0.1)

    thread = threading.Thread(target=spin, name='robots')
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture(scope='module')
def visits(robots, spawn, tmp_path_factory):
    """Doctors in processes of their own, and the folder that they write to.

    Their starts take longer than what they do: they start together, before they are needed.
    """
    folder = tmp_path_factory.mktemp('doctor')
    model = write_model(folder / 'colours.pt')

    def visit(*options: str):
        return spawn([sys.executable, '-m', 'implicit_relocalizer.cli', 'doctor', *options])

    return folder, {
        'healthy': visit('--seconds', '2.5', '--model', str(model),
                         '--json', str(folder / 'seen' / 'healthy.json')),
        'bad': visit('--seconds', '2.5', '--image', '/bad/image', '--camera-info',
                     '/bad/camera_info', '--odom-frame', 'drift', '--camera-frame', 'eye',
                     '--tf-mode', 'map_to_odom', '--node', '/nobody',
                     '--model', str(folder / 'absent.pt'))}


@pytest.fixture
def visit_here(visits, ros_domain_id, monkeypatch, capsys):
    """The same program in this process: exit status and output."""
    def visit(*options: str, domain_id: int = ros_domain_id) -> tuple[int, str]:
        monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))
        status = main(['doctor', '--seconds', '1.5', *options])
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


def result_of(visits, name: str) -> tuple[int, str]:
    process = visits[1][name]
    return process.wait(), process.output()


def test_what_cannot_be_heard_or_is_out_of_time_is_named(visit_here):
    assert_problems(
        visit_here('--image', '/lost/image', '--camera-info', '/lost/camera_info', '--node',
                   '/lost', '--use-sim-time', '--tf-mode', 'map_to_base'),
        "'/camera' offers best effort, volatile, the relocalizer asks for reliable, volatile",
        "nobody publishes CameraInfo on '/lost/camera_info'",
        "makes 'map' the parent of 'base_link', which has the parent 'odom' (from '/wheels')",
        'nobody publishes /clock', "the relocalizer's use_sim_time is false",
        "'/lost' is unconfigured, not active",
        "'/lost' is LOST (no_fix); the last image was refused: outside_map")


def test_a_camera_on_another_topic_is_shown(visit_here):
    result = visit_here('--image', '/front/image', '--node', '', '--tf-mode', 'none')
    assert_problems(result, "nobody publishes images on '/front/image'; image topics that exist")
    assert "'/front/image/compressed (CompressedImage)'" in result[1]


def test_compressed_images_are_measured(visit_here):
    status, output = visit_here('--image', '/front/image/compressed', '--compressed', '--node',
                                '', '--tf-mode', 'none')
    assert status == 0, output
    assert f"{WIDTH}x{HEIGHT}, frame 'lens'" in output


def test_another_domain_is_empty_and_the_remedy_says_why(visit_here, ros_domain_id):
    elsewhere = ros_domain_id + 30
    assert_problems(visit_here(domain_id=elsewhere), 'no other node and no topic was found',
                    f'ROS_DOMAIN_ID={elsewhere}', 'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST',
                    'RMW_IMPLEMENTATION=rmw_')


def test_a_healthy_robot_passes(visits):
    status, output = result_of(visits, 'healthy')
    assert status == 0, output
    assert 'PROBLEM' not in output and 'warning' not in output
    assert output.endswith('verdict: all is well\n')
    for sentence in (f"{WIDTH}x{HEIGHT}, frame 'lens'", 'odom -> base_link is there',
                     "'lens' is connected to 'base_link'", '(tf_mode map_to_odom)',
                     "'/relocalizer' is active: LOCALIZED", "scene 'colours'"):
        assert sentence in output
    document = json.loads((visits[0] / 'seen' / 'healthy.json').read_text())
    assert {finding['severity'] for finding in document['findings']} == {'ok'}
    links = document['seen']['transforms']['links']
    assert ['/relocalizer'] in [link['senders'] for link in links]
    assert document['seen']['calibration']['K_33'][0][0] == 60.0
    assert len(document['seen']['images']) > 10


def test_a_bad_camera_two_localizers_and_no_odometry_are_named(visits):
    bad = result_of(visits, 'bad')
    assert_problems(
        bad, 'the camera is uncalibrated: K', 'the stamps of the images are zero',
        'no transform drift -> base_link', "the camera's frame 'eye' is not connected",
        "map -> drift has more than one publisher: '/amcl', '/lost'",
        "no node '/nobody' runs", 'absent.pt: no such model file')
    assert "'base_link', 'drift', 'lens', 'map', 'odom'" in bad[1]
    assert "warning  images      the frame_id of the images on '/bad/image' is empty" \
        in bad[1]


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
