# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the bring-up doctor makes of what it saw: every finding, and none on a healthy robot."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from observed_robot import (
    ABSENT,
    BASE_LENS,
    CALIBRATION,
    COMPRESSED_TOPIC,
    EXPECTED,
    HEALTHY,
    IMAGE,
    INFO,
    MAP_ODOM,
    NOW_NS,
    ODOM_BASE,
    OK,
    OTHERS,
    PROBLEM,
    SECOND_NS,
    SIMULATED,
    TRANSFORMS,
    UNPUBLISHED,
    WARNING,
    images,
    links,
    mode,
    node,
    state,
    told,
    uncalibrated,
)

from implicit_relocalizer.localization import bringup_checks
from implicit_relocalizer.localization.bringup_checks import check_bringup
from implicit_relocalizer.localization.bringup_findings import (
    describe_findings,
    describe_verdict,
    has_problem,
)
from implicit_relocalizer.localization.bringup_observation import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    Clock,
    Computer,
    Expectation,
    Lookup,
    Model,
    Publisher,
    Transforms,
    resolve_expectation,
)

CASES = [
    # images
    ({'image': UNPUBLISHED, 'images': ()}, PROBLEM, 'no_image_publisher',
     "'/camera/image_raw (Image)', '/camera/image/compressed (CompressedImage)'"),
    ({'image': replace(IMAGE, publishers=()), 'images': ()}, PROBLEM, 'no_image_publisher',
     "nobody publishes images on '/image'; image topics that exist: none"),
    ({'image': COMPRESSED_TOPIC, 'images': ()}, PROBLEM, 'image_type', 'leave out --compressed'),
    ({'image': replace(IMAGE, publishers=(Publisher('/c', COMPRESSED_IMAGE_TYPE, ''),))},
     PROBLEM, 'image_type', 'give --compressed'),
    ({'images': ()}, PROBLEM, 'images_silent',
     "'/camera' offers '/image' but no image came in 5 s"),
    ({'image': replace(IMAGE, incompatible=("'/camera' offers best effort",))}, PROBLEM,
     'qos_mismatch', "cannot hear a publisher of '/image': '/camera' offers best effort"),
    ({'image': replace(IMAGE, publishers=(*IMAGE.publishers, Publisher('/bag', IMAGE_TYPE, '')))},
     WARNING, 'several_image_publishers', "2 publishers: '/bag', '/camera'"),
    ({'images': images(3, 1.5)}, PROBLEM, 'image_rate_low', '0.75 Hz'),
    ({'images': images(1)}, PROBLEM, 'image_rate_low', '(1 in 5 s)'),
    ({'image_size': None, 'image_problem': 'big-endian pixels'}, PROBLEM, 'image_unusable',
     'big-endian pixels'),
    ({'images': images(frame_id=''), 'expected': replace(EXPECTED, camera_frame='')}, PROBLEM,
     'image_frame_empty', "frame_id of the images on '/image' is empty"),
    ({'images': images(frame_id='')}, WARNING, 'image_frame_empty', "'lens' is taken instead"),
    ({}, OK, 'images_ok', "'/image' from '/camera': 10.0 Hz, 640x480, frame 'lens'"),
    # calibration
    ({'camera_info': replace(INFO, publishers=(), others=OTHERS), 'calibration': None}, PROBLEM,
     'no_camera_info', "on '/camera_info'; topics of CameraInfo: '/camera/camera_info'"),
    ({'calibration': None}, PROBLEM, 'camera_info_silent', 'no CameraInfo came in 5 s'),
    ({'camera_info': replace(INFO, incompatible=('words',))}, PROBLEM, 'qos_mismatch', 'words'),
    ({'calibration': None, 'calibration_problem': 'the region reaches out'}, PROBLEM,
     'camera_info_invalid', 'the region reaches out'),
    (uncalibrated(), PROBLEM, 'camera_uncalibrated', 'K of the CameraInfo'),
    ({'calibration': replace(CALIBRATION, P_34=np.zeros((3, 4))),
      'expected': replace(EXPECTED, rectified=True)}, PROBLEM, 'camera_uncalibrated',
     'P of the CameraInfo'),
    ({'calibration': replace(CALIBRATION, size=(1280, 960))}, PROBLEM, 'camera_info_size',
     'the images have 640x480 pixels but their CameraInfo announces 1280x960'),
    ({'calibration': replace(CALIBRATION, distortion=(0.1, -0.25))}, WARNING, 'images_distorted',
     '(0.1, -0.25)'),
    ({}, OK, 'camera_info_ok', '640x480, focal lengths 500.0 and 500.0'),
    # transforms
    ({'transforms': links(MAP_ODOM, BASE_LENS, odometry=ABSENT)}, PROBLEM, 'no_odometry',
     "no transform odom -> base_link in 5 s (frame does not exist); frames that exist: "
     "'base_link', 'lens', 'map', 'odom'"),
    ({'transforms': links(MAP_ODOM, replace(ODOM_BASE, parent='map'), BASE_LENS)}, PROBLEM,
     'no_odometry', "('base_link' does not hang below it)"),
    ({'transforms': links(odometry=ABSENT, camera_mount=ABSENT), 'expected': mode('none')},
     WARNING, 'no_odometry', 'no frame exists at all; fixes are then compared'),
    ({'transforms': links(odometry=ABSENT), 'expected': mode('map_to_camera'),
      **told(odometry='required')}, PROBLEM, 'no_odometry', 'robot_localization'),
    ({'transforms': links(odometry=ABSENT), 'expected': mode('map_to_camera')}, OK,
     'odometry_unused', 'none is needed'),
    ({}, OK, 'odometry_ok', 'odom -> base_link is there'),
    ({'transforms': links(MAP_ODOM, ODOM_BASE, camera_mount=ABSENT)}, PROBLEM,
     'camera_not_connected', "the camera's frame 'lens' is not connected to 'base_link'"),
    ({'transforms': links(ODOM_BASE, camera_mount=ABSENT), 'expected': mode('none')}, WARNING,
     'camera_not_connected', 'no initialpose'),
    ({'transforms': links(camera_mount=ABSENT), 'expected': mode('map_to_camera')}, OK,
     'camera_alone', "'map' becomes its parent"),
    ({}, OK, 'camera_mount_ok', "'lens' is connected to 'base_link'"),
    ({'transforms': links(replace(MAP_ODOM, senders=('/amcl', '/relocalizer'), is_contested=True),
                          ODOM_BASE, BASE_LENS)}, PROBLEM, 'map_odom_twice',
     "map -> odom has more than one publisher: '/amcl', '/relocalizer'"),
    ({'transforms': links(replace(MAP_ODOM, senders=(), is_contested=True), ODOM_BASE, BASE_LENS,
                          publishers=('/nav/amcl', '/wheels'))}, PROBLEM, 'map_odom_twice',
     "does not name (nodes on /tf that usually do: '/nav/amcl')"),
    ({'transforms': links(MAP_ODOM, replace(MAP_ODOM, is_static=True, senders=('/stp',)),
                          ODOM_BASE, BASE_LENS), 'expected': mode('none')}, PROBLEM,
     'map_odom_twice', "'/relocalizer', '/stp'"),
    ({'transforms': links(replace(MAP_ODOM, senders=('/amcl',)), ODOM_BASE, BASE_LENS)}, PROBLEM,
     'map_odom_taken', "map -> odom is sent by '/amcl' already"),
    ({'transforms': links(replace(MAP_ODOM, senders=()), ODOM_BASE, BASE_LENS,
                          publishers=('/amcl', '/relocalizer'))}, WARNING, 'map_odom_suspect',
     "usually do: '/amcl'"),
    ({'expected': mode('map_to_base')}, PROBLEM, 'parent_taken',
     "makes 'map' the parent of 'base_link', which has the parent 'odom' (from '/wheels')"),
    ({'expected': mode('map_to_camera')}, PROBLEM, 'parent_taken',
     "the parent of 'lens', which has the parent 'base_link'"),
    ({'transforms': links(replace(MAP_ODOM, parent='world', senders=('/gps',)), ODOM_BASE,
                          BASE_LENS)}, PROBLEM, 'parent_taken', "'world' (from '/gps')"),
    ({'transforms': links(MAP_ODOM, replace(ODOM_BASE, senders=('/ekf', '/wheels'),
                                            is_contested=True), BASE_LENS)}, PROBLEM,
     'frame_sent_twice', "the frame 'base_link' has more than one publisher or parent: "
     "'odom' (from '/ekf', '/wheels')"),
    ({'transforms': links(MAP_ODOM, ODOM_BASE, BASE_LENS, replace(BASE_LENS, parent='mast'))},
     PROBLEM, 'frame_sent_twice', "'base_link' (from '/robot_state_publisher'), 'mast'"),
    ({}, OK, 'transforms_ok', '4 frames, nothing is sent twice (tf_mode map_to_odom)'),
    # clock
    ({'expected': SIMULATED, **told(use_sim_time=True)}, PROBLEM, 'no_clock',
     'nobody publishes /clock'),
    (told(use_sim_time=True), PROBLEM, 'no_clock', 'on a real robot set use_sim_time: false'),
    ({'expected': SIMULATED, 'clock': Clock(('/gazebo',), 0), **told(use_sim_time=True)}, PROBLEM,
     'clock_silent', "'/gazebo' offers /clock but no time came"),
    ({'clock': Clock(('/gazebo',), 9)}, PROBLEM, 'node_wall_time',
     "'/gazebo' publishes /clock but the relocalizer's use_sim_time is false"),
    ({'expected': SIMULATED}, PROBLEM, 'node_wall_time', 'meant to take simulated time but'),
    ({'clock': Clock(('/gazebo',), 9), **node(parameters={})}, WARNING, 'clock_unexpected',
     'is this a simulation or a recording?'),
    ({'images': images(stamp_ns=0)}, PROBLEM, 'stamps_zero', 'are zero'),
    ({'images': images(stamp_ns=NOW_NS)}, PROBLEM, 'stamps_frozen',
     'all 40 images have the stamp 1700000000.000'),
    ({'images': images() + images()}, WARNING, 'stamps_jump_back', 'jump back'),
    ({'images': images(age_s=60.0)}, PROBLEM, 'stamps_far', 'the images are 60.0 s old'),
    ({'images': images(age_s=-3.0)}, PROBLEM, 'stamps_far', '3.0 s in the future'),
    ({'images': images(age_s=1e9, clock_age_s=0.1)}, PROBLEM, 'stamps_in_simulated_time',
     'stamped in simulated time, the robot takes system time'),
    ({'images': images(clock_age_s=-1e9), 'expected': SIMULATED, 'clock': Clock(('/gazebo',), 9),
      **told(use_sim_time=True)}, PROBLEM, 'stamps_in_system_time',
     'set use_sim_time: true for the camera driver'),
    ({'transforms': replace(TRANSFORMS, odometry=Lookup(True, stamp_ns=NOW_NS - 5 * SECOND_NS))},
     PROBLEM, 'odometry_stamps_far', 'the newest odometry is stamped 9.0 s before'),
    ({}, OK, 'clock_ok', 'system time, the images are 0.05 s old'),
    ({'images': images(age_s=1e9, clock_age_s=0.1), 'expected': SIMULATED,
      'clock': Clock(('/gazebo',), 9), **told(use_sim_time=True)}, OK, 'clock_ok',
     'simulated time, the images are 0.10 s old'),
    # relocalizer
    (node(name=''), OK, 'node_skipped', 'not looked for'),
    ({**node(count=0), 'nodes': ('/camera', '/kitchen/relocalizer')}, PROBLEM, 'node_not_found',
     "no node '/relocalizer' runs; similar ones: '/kitchen/relocalizer'"),
    (node(count=2), PROBLEM, 'node_twice', "2 nodes are called '/relocalizer'"),
    (node(lifecycle=''), WARNING, 'node_silent', 'did not tell its lifecycle state in 5 s'),
    (node(lifecycle='inactive', subscriptions=()), PROBLEM, 'node_not_active',
     'ros2 lifecycle set /relocalizer activate'),
    (node(lifecycle='unconfigured', subscriptions=()), PROBLEM, 'node_not_active',
     'ros2 lifecycle set /relocalizer configure'),
    (node(subscriptions=(('/cam/image', IMAGE_TYPE), ('/camera_info', CAMERA_INFO_TYPE))),
     PROBLEM, 'node_listens_elsewhere', "listens to '/cam/image', not to '/image' (Image)"),
    (node(subscriptions=(('/image', IMAGE_TYPE), ('/cam/info', CAMERA_INFO_TYPE))),
     PROBLEM, 'node_listens_elsewhere', 'launch argument camera_info:='),
    (told(tf_mode='none', camera_frame=''), WARNING, 'parameters_differ',
     "tf_mode is 'none' there and 'map_to_odom' here"),
    (state('LOST', 'no_fix', last_refusal='confidence_low', last_refusal_text='0.1 < 0.5'),
     PROBLEM, 'node_lost',
     'is LOST (no_fix); the last image was refused: confidence_low (0.1 < 0.5)'),
    (state('SEARCHING', 'activated'), WARNING, 'node_searching', 'is SEARCHING (activated)'),
    (state('LOST', 'waiting_for_request'), OK, 'node_waiting', 'when ~/relocalize is called'),
    ({}, OK, 'node_ok', "'/relocalizer' is active: LOCALIZED"),
    # model, computer
    ({'model': None}, OK, 'model_skipped', '--model FILE'),
    ({'model': Model('m.pt', 'm.pt: not a TorchScript file')}, PROBLEM, 'model_unreadable',
     'm.pt: not a TorchScript file'),
    ({'model': replace(HEALTHY.model, image_size=(640, 360))}, PROBLEM, 'model_aspect',
     'trained on images of 640x360 pixels, the camera sends 640x480: another aspect ratio'),
    ({'images': (), 'image_size': None}, OK, 'model_ok',
     'without an image its aspect ratio is not compared'),
    ({}, OK, 'model_ok', "its frame 'world' is published as 'map'"),
    ({'computer': Computer('', '2.9', False)}, OK, 'no_gpu', 'on the CPU'),
    ({'computer': Computer('/dev/nvidia0', '2.9+cpu', False)}, WARNING, 'torch_without_cuda',
     'there is a GPU (/dev/nvidia0) but torch 2.9+cpu cannot use it'),
    ({'computer': Computer('/dev/nvidia0', '2.9', False), **told(device='cuda')}, PROBLEM,
     'torch_without_cuda', 'nvidia-smi'),
    ({'computer': Computer('/dev/nvidia0', '2.9', False), **told(device='cpu')}, OK, 'gpu_unused',
     'device cpu'),
    ({}, OK, 'gpu_ok', 'usable by torch 2.9'),
    # the graph
    ({'nodes': (), 'topics': (), 'environment': {'ROS_DOMAIN_ID': '7', 'ROS_STATIC_PEERS': ''}},
     PROBLEM, 'nothing_found', 'no topic was found in 5 s; here is ROS_DOMAIN_ID=7'),
]


@pytest.mark.parametrize(
    ('changes', 'severity', 'code', 'text'), CASES,
    ids=[f'{number}-{case[2]}' for number, case in enumerate(CASES)])
def test_every_finding_is_told_with_its_values_and_a_remedy(changes, severity, code, text):
    findings = check_bringup(replace(HEALTHY, **changes))
    assert code in [finding.code for finding in findings]
    finding = next(finding for finding in findings if finding.code == code)
    assert finding.severity is severity
    assert text in f'{finding.sentence} {finding.remedy}'
    assert bool(finding.remedy) == (severity is not OK)
    problems = {f.code for f in findings if f.severity is PROBLEM}
    assert problems <= {code, *FOLLOWS.get(code, ())}, 'a false alarm beside it'


# What is as true beside a finding.
FOLLOWS = {
    'node_wall_time': {'no_clock'}, 'no_clock': {'node_wall_time'},
    'image_type': {'node_listens_elsewhere'}, 'model_ok': {'images_silent'},
    'node_skipped': {'map_odom_taken'}}  # by whom, if not by the node that is not looked for?


def test_a_healthy_robot_has_no_finding_to_repair():
    findings = check_bringup(HEALTHY)
    assert {finding.severity for finding in findings} == {OK}
    assert not has_problem(findings)
    assert describe_verdict(findings) == 'verdict: all is well'


def test_the_table_above_knows_every_code_of_the_source():
    folder = Path(bringup_checks.__file__).parent
    source = ''.join(path.read_text() for path in folder.glob('bringup_*.py'))
    codes = set(re.findall(r"(?:\.(?:ok|warning|problem)|make)\(\s*'([a-z_]+)'", source))
    assert len(codes) > 40
    assert codes <= {case[2] for case in CASES}


def test_nothing_at_all_is_one_problem_not_ten():
    findings = check_bringup(replace(
        HEALTHY, nodes=(), topics=(), images=(), calibration=None, transforms=Transforms()))
    assert [f.code for f in findings if f.severity is PROBLEM] == ['nothing_found']


def test_a_camera_of_one_image_a_second_is_fast_enough():
    assert not has_problem(check_bringup(replace(HEALTHY, images=images(4, 1.0))))
    assert has_problem(check_bringup(replace(HEALTHY, images=images(4, 1.2)[:3])))


def test_the_user_knows_better_than_the_node_and_the_node_than_the_defaults():
    assert resolve_expectation({}, {}, 'lens') == Expectation(
        'map_to_camera', 'map', 'odom', 'base_link', 'lens', False, False)
    expected = resolve_expectation(
        {'tf_mode': 'none', 'map_frame': None, 'camera_frame': 'eye'},
        {'tf_mode': 'map_to_odom', 'map_frame': 'office', 'rectified': True}, 'lens')
    assert expected == Expectation('none', 'office', 'odom', 'base_link', 'eye', True, False)


def test_the_lines_are_aligned_and_break_where_the_terminal_ends():
    findings = check_bringup(replace(HEALTHY, **uncalibrated(), **node(lifecycle='')))
    wide, narrow = describe_findings(findings), describe_findings(findings, 70)
    lines = wide.splitlines()
    assert lines[1].startswith('PROBLEM  calibration the camera is uncalibrated')
    assert lines[2].startswith(' ' * 21 + '-> calibrate')
    assert {line[:9] for line in lines} == {'ok       ', 'PROBLEM  ', 'warning  ', ' ' * 9}
    assert max(map(len, narrow.splitlines())) <= 70
    assert narrow.split() == wide.split()
    assert describe_verdict(findings) == (
        'verdict: 1 problem and 1 warning; begin with the first, calibration')
