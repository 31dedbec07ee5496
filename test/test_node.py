# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node as a user starts it, in a process of its own, spoken to over DDS."""

import signal
import time
import uuid
from array import array
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')

import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from implicit_relocalizer.network.model_file import ModelMetadata, save_model
from implicit_relocalizer.ros.parameters import (
    ParameterError,
    Parameters,
    declare_parameters,
    read_parameters,
)

WIDTH, HEIGHT = 64, 48
K = [60.0, 0.0, 31.5, 0.0, 61.0, 23.5, 0.0, 0.0, 1.0]
P = [50.0, 0.0, 30.0, 0.0, 0.0, 51.0, 22.0, 0.0, 0.0, 0.0, 1.0, 0.0]
WAIT_S = 30.0


class ColourModel(torch.nn.Module):
    """Answers with the mean colour as position and the intrinsics as variances.

    So a test knows which image was answered, and with which K. `work` matrix products make it
    slow. A red of 255 makes it fail in its numbers, a blue of 255 unsure.
    """

    def __init__(self, work: int) -> None:
        super().__init__()
        self.work = work

    def forward(self, image_hw3: torch.Tensor, K_33: torch.Tensor) -> Dict[str, torch.Tensor]:
        colour = image_hw3.float().mean(dim=(0, 1))
        busy = torch.eye(400)
        for _ in range(self.work):
            busy = busy @ busy
        angle = colour[1] / 100.0
        R = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(),
                         0 * angle, 0 * angle, 0 * angle, 1 + 0 * angle]).reshape(3, 3)
        if bool(colour[0] > 254.0):
            R = R / 0.0
        variances = torch.stack([K_33[0, 0], K_33[1, 1], K_33[0, 2], K_33[1, 2], busy[0, 0],
                                 busy[0, 0]])
        confidence = torch.tensor(0.9)
        if bool(colour[2] > 254.0):
            confidence = torch.tensor(0.1)
        return {'R_world_camera': R, 't_world_camera': colour, 'confidence': confidence,
                'covariance': torch.diag(variances), 'inlier_fraction': torch.tensor(0.5)}


def write_model(path: Path, work: int = 0) -> Path:
    metadata = ModelMetadata(
        scene='colours', image_size=(WIDTH, HEIGHT), K_33=((60.0, 0.0, 31.5), (0.0, 61.0, 23.5),
                                                          (0.0, 0.0, 1.0)),
        position_min_m=(0.0, 0.0, 0.0), position_max_m=(255.0, 255.0, 255.0), encoder='none',
        accuracy={'held_out_median_m': 0.125})
    save_model(torch.jit.script(ColourModel(work)), path, metadata)
    return path


def colour_image(colour, stamp: int, width: int = WIDTH, height: int = HEIGHT,
                 encoding: str = 'rgb8', padding: int = 0, frame_id: str = 'lens') -> Image:
    pixels = np.broadcast_to(np.array(colour, np.uint8), (height, width, len(colour)))
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=255)
    image = Image(width=width, height=height, encoding=encoding, step=rows.shape[1],
                  data=array('B', rows.tobytes()))
    image.header.stamp.sec, image.header.frame_id = stamp, frame_id
    return image


def info(**changes) -> CameraInfo:
    return CameraInfo(**{'width': WIDTH, 'height': HEIGHT, 'k': K, 'p': P, **changes})


class Peer:
    """The robot around the node: a camera, and somebody who wants the pose."""

    def __init__(self, namespace: str, context) -> None:
        self.node = rclpy.create_node('peer', namespace=namespace, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.poses: list[PoseStamped] = []
        self.covariances: list[PoseWithCovarianceStamped] = []
        self.transforms: list = []
        qos = QoSProfile(depth=100)
        self._images = self.node.create_publisher(Image, 'image', qos)
        self._infos = self.node.create_publisher(CameraInfo, 'camera_info', qos)
        self.node.create_subscription(
            PoseStamped, 'relocalizer/pose', self.poses.append, qos)
        self.node.create_subscription(
            PoseWithCovarianceStamped, 'relocalizer/pose_with_covariance',
            self.covariances.append, qos)
        self.node.create_subscription(
            TFMessage, 'tf', lambda message: self.transforms.extend(message.transforms), qos)
        self.wait_until(lambda: self._images.get_subscription_count() == 1 and
                        self._infos.get_subscription_count() == 1 and
                        self.node.count_publishers('relocalizer/pose') == 1 and
                        self.node.count_publishers('tf') == 1)
        self.spin(0.3)  # the other side may still be matching

    def spin(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._executor.spin_once(0.01)

    def wait_until(self, condition) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end_s, 'waited in vain'
            self._executor.spin_once(0.01)

    def show(self, image: Image, camera_info: CameraInfo | None = None) -> None:
        if camera_info is not None:
            self._infos.publish(camera_info)
            self.spin(0.1)
        self._images.publish(image)

    def answer(self, image: Image, camera_info: CameraInfo | None = None):
        """Pose, pose with covariance and transform that answer an image."""
        self.show(image, camera_info)
        stamp = image.header.stamp
        found: list = []

        def complete() -> bool:
            found[:] = [[m for m in messages if m.header.stamp == stamp] for messages in (
                self.poses, self.covariances, self.transforms)]
            return all(found)

        self.wait_until(complete)
        assert [len(messages) for messages in found] == [1, 1, 1]
        return [messages[0] for messages in found]

    def position(self, image: Image, camera_info: CameraInfo | None = None) -> list[float]:
        point = self.answer(image, camera_info)[0].pose.position
        return [point.x, point.y, point.z]


@pytest.fixture(scope='module')
def context(ros_domain_id):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    yield context
    context.try_shutdown()


@pytest.fixture(scope='module')
def start(spawn, relocalizer_command, context):
    """Starts a node with some parameters, in a namespace of its own."""
    def start_node(model: Path, **parameters):
        namespace = f'/robot_{uuid.uuid4().hex[:8]}'
        # Not auto: no image shall be lost while it changes the subscription.
        values = {'model': model, 'image_reliability': 'reliable', **parameters}
        process = spawn([*relocalizer_command, '--ros-args', '-r', f'__ns:={namespace}',
                         '-r', '/tf:=tf', *(part for name, value in values.items()
                                            for part in ('-p', f'{name}:={value}'))])
        process.wait_for('ready')
        return process, Peer(namespace, context)
    return start_node


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp('model') / 'colours.pt')


@pytest.fixture(scope='module')
def robot(start, model):
    """A node that answers, and its peer."""
    process, peer = start(model, min_confidence=0.5, map_frame='office')
    peer.answer(colour_image((1, 2, 3), stamp=1), info())
    return process, peer


def test_it_says_what_it_runs(robot):
    output = robot[0].output()
    for text in ("scene 'colours'", 'on cpu', 'held_out_median_m', '0.125', 'first fix'):
        assert text in output


def test_an_image_is_answered_by_one_pose_thrice_told(robot):
    pose, covariance, transform = robot[1].answer(
        colour_image((20, 30, 40), stamp=10), info())
    assert pose.header.frame_id == covariance.header.frame_id == 'office'
    assert (transform.header.frame_id, transform.child_frame_id) == ('office', 'lens')
    assert covariance.pose.pose == pose.pose
    p, t = pose.pose.position, transform.transform.translation
    assert (p.x, p.y, p.z) == (t.x, t.y, t.z) == (20.0, 30.0, 40.0)
    assert transform.transform.rotation == pose.pose.orientation
    q = pose.pose.orientation
    turn = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_rotvec()
    np.testing.assert_allclose(turn, [0.0, 0.0, 0.3], atol=1e-6)
    np.testing.assert_allclose(
        np.reshape(covariance.pose.covariance, (6, 6)),
        np.diag([60.0, 61.0, 31.5, 23.5, 1.0, 1.0]))


@pytest.mark.parametrize(('stamp', 'image', 'expected'), [
    (20, {'colour': (50, 60, 70), 'padding': 7}, [50.0, 60.0, 70.0]),
    (21, {'colour': (70, 60, 50), 'encoding': 'bgr8'}, [50.0, 60.0, 70.0]),
    (22, {'colour': (90,), 'encoding': 'mono8', 'padding': 64}, [90.0, 90.0, 90.0]),
])
def test_other_layouts_are_the_same_image(robot, stamp, image, expected):
    assert robot[1].position(colour_image(stamp=stamp, **image), info()) == expected


def test_region_and_binning_reach_the_model(robot):
    binned = info(width=2 * WIDTH + 8, height=2 * HEIGHT + 4, binning_x=2, binning_y=2)
    binned.roi.x_offset, binned.roi.y_offset = 8, 4
    binned.roi.width, binned.roi.height = 2 * WIDTH, 2 * HEIGHT
    _, covariance, _ = robot[1].answer(colour_image((1, 1, 1), stamp=30), binned)
    np.testing.assert_allclose(np.diag(np.reshape(covariance.pose.covariance, (6, 6)))[:4],
                               [30.0, 30.5, (31.5 - 8 + 0.5) / 2 - 0.5, (23.5 - 4) / 2 - 0.25])


@pytest.mark.parametrize(('stamp', 'image', 'camera_info', 'reason'), [
    (40, {'width': 32, 'height': 24}, {}, 'has 32x24 pixels but its CameraInfo announces 64x48'),
    (41, {}, {'k': [0.0] * 9}, 'uncalibrated'),
    (42, {'encoding': 'klingon8'}, {}, 'klingon8'),
    (43, {'frame_id': ''}, {}, 'camera_frame'),
    (44, {'colour': (255, 0, 0)}, {}, 'not finite'),
    (45, {'colour': (0, 0, 255)}, {}, 'confidence 0.100 is below min_confidence 0.500'),
])
def test_an_image_without_a_pose_has_a_reason_and_the_node_lives_on(
        robot, stamp, image, camera_info, reason):
    process, peer = robot
    count = len(peer.poses)
    peer.show(colour_image(stamp=stamp, **{'colour': (9, 9, 9), **image}), info(**camera_info))
    assert 'no pose: ' in process.wait_for(reason, WAIT_S)
    assert peer.position(colour_image((7, 8, 9), stamp=100 + stamp), info()) == [7.0, 8.0, 9.0]
    assert len(peer.poses) == count + 1


def test_a_stamp_is_answered_once(robot):
    process, peer = robot
    peer.answer(colour_image((4, 4, 4), stamp=60), info())
    peer.show(colour_image((5, 5, 5), stamp=60))
    process.wait_for('the stamp 60.000000000 was answered already', WAIT_S)
    peer.answer(colour_image((6, 6, 6), stamp=61))
    assert [pose.header.stamp.sec for pose in peer.poses[-2:]] == [60, 61]
    assert [tf.header.stamp.sec for tf in peer.transforms[-2:]] == [60, 61]


def test_the_confidence_asked_for_can_be_changed_while_it_runs(robot):
    peer = robot[1]
    client = AsyncParameterClient(peer.node, 'relocalizer')

    def set_min_confidence(value: float) -> None:
        done = client.set_parameters([Parameter('min_confidence', value=value)])
        peer.wait_until(done.done)
        assert done.result().results[0].successful

    unsure = (0, 0, 255)
    set_min_confidence(0.05)
    peer.answer(colour_image(unsure, stamp=70), info())
    set_min_confidence(0.5)
    peer.show(colour_image(unsure, stamp=71))
    peer.spin(0.2)
    peer.answer(colour_image((0, 0, 1), stamp=72))
    assert [pose.header.stamp.sec for pose in peer.poses[-2:]] == [70, 72]


def test_start_without_calibration_then_with_distortion_then_an_interrupt(start, model):
    process, peer = start(model, tf_mode='none', image_reliability='reliable')
    peer.show(colour_image((1, 1, 1), stamp=1))
    process.wait_for("no CameraInfo came on '/robot_", WAIT_S)
    peer.show(colour_image((2, 2, 2), stamp=2), info(d=[0.1, 0.0, 0.0, 0.0, 0.0]))
    peer.wait_until(lambda: len(peer.covariances) == 1)
    assert 'rectified' in process.output()
    assert peer.covariances[0].header.frame_id == 'map'
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    output = process.output()
    assert '2 images received, 1 answered' in output
    assert '1 rejected (no camera info)' in output
    assert 'Traceback' not in output
    assert peer.transforms == []


def test_under_overload_the_newest_image_wins(start, tmp_path):
    process, peer = start(write_model(tmp_path / 'slow.pt', work=60), rectified=True,
                          camera_frame='eye', num_threads=1)
    _, covariance, transform = peer.answer(colour_image((0, 0, 0), stamp=1), info())
    assert transform.child_frame_id == 'eye'
    assert covariance.pose.covariance[0] == 50.0  # of P
    for number in range(1, 61):
        peer.show(colour_image((number, 0, 0), stamp=1 + number))
        peer.spin(0.02)
    peer.wait_until(lambda: peer.poses[-1].header.stamp.sec == 61)
    # The covariance is published last; an end before that is an answer that does not count.
    peer.wait_until(lambda: peer.covariances[-1].header.stamp.sec == 61)
    peer.spin(0.2)
    stamps = [pose.header.stamp.sec for pose in peer.poses]
    assert stamps == sorted(set(stamps))
    assert [pose.pose.position.x for pose in peer.poses] == [stamp - 1.0 for stamp in stamps]
    assert len(stamps) < 30  # the load was an overload
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    output = process.output()
    assert f'{len(stamps)} answered' in output
    assert 'rejected' not in output and 'Traceback' not in output


def test_a_start_that_cannot_succeed_ends_with_one_clear_line(
        spawn, relocalizer_command, model, tmp_path):
    torn = tmp_path / 'torn.pt'
    torn.write_bytes(model.read_bytes()[:2000])
    cases = {f'model:={torn}': f'{torn}: not a TorchScript file, or cut off while copying',
             'device:=tpu': "parameter 'device' is 'tpu'; allowed are auto, cpu, cuda"}
    processes = {
        line: spawn([*relocalizer_command, '--ros-args', '-p', f'model:={model}', '-p', argument])
        for argument, line in cases.items()}
    for line, process in processes.items():
        assert process.wait() == 1
        output = process.output()
        assert line in output and '[FATAL]' in output
        assert len(output.splitlines()) == 1, output


@pytest.mark.parametrize(('values', 'error', 'text'), [
    ({}, ParameterError, "'model' is not set"),
    ({'model': 'm.pt', 'tf_mode': 'odom'}, ParameterError, 'allowed are map_to_camera, none'),
    ({'model': 'm.pt', 'map_frame': ''}, ParameterError, "'map_frame' is empty"),
    ({'min_confidence': 1.5}, ParameterException, 'Min: 0.0, Max: 1.0'),
    ({'max_rate_hz': -1.0}, ParameterException, 'Min: 0.0'),
    ({'num_threads': 2.0}, ParameterException, 'INTEGER'),
])
def test_wrong_parameters_are_refused_with_what_is_allowed(context, values, error, text):
    node = rclpy.create_node('wrong', context=context, parameter_overrides=[
        Parameter(name, value=value) for name, value in values.items()])
    try:
        with pytest.raises(error, match=text):
            declare_parameters(node)
            read_parameters(node)
    finally:
        node.destroy_node()


def test_only_thresholds_can_be_set_while_it_runs(context):
    node = rclpy.create_node('running', context=context)
    declare_parameters(node)
    results = {name: node.set_parameters([Parameter(name, value=value)])[0].successful
               for name, value in (('min_confidence', 0.5), ('max_rate_hz', 5.0),
                                   ('min_confidence', 0.7), ('map_frame', 'other'))}
    assert results == {'min_confidence': True, 'max_rate_hz': True, 'map_frame': False}
    assert not node.set_parameters([Parameter('min_confidence', value=2.0)])[0].successful
    node.destroy_node()


def test_the_parameter_file_lists_what_the_node_declares(context, repository):
    node = rclpy.create_node('declares', context=context)
    ros_own = set(node.list_parameters([], 1).names)
    declare_parameters(node)
    declared = {name: node.get_parameter(name).value
                for name in node.list_parameters([], 1).names if name not in ros_own}
    file = yaml.safe_load((repository / 'config' / 'relocalizer.yaml').read_text())
    listed = file['/**']['ros__parameters']
    assert listed == declared
    assert {name: type(value) for name, value in listed.items()} == {
        name: type(value) for name, value in declared.items()}
    assert set(listed) == set(Parameters.__dataclass_fields__)
    assert all(node.describe_parameter(name).description for name in declared)
    node.destroy_node()
