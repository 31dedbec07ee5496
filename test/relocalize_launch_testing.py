# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""relocalize.launch.py under launch_testing; needs `model:=PATH`.

launch_test test/relocalize_launch_testing.py model:=/maps/office.pt
"""

import unittest
from pathlib import Path

import launch_testing
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing.actions import ReadyToTest

from launch import LaunchDescription

FILE = Path(__file__).resolve().parents[1] / 'launch' / 'relocalize.launch.py'


def generate_test_description() -> LaunchDescription:
    """The launch file as it is, and the tests as soon as it runs."""
    return LaunchDescription([
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(FILE)), launch_arguments={
            'device': 'cpu', 'image': '/cam/image', 'camera_info': '/cam/info'}.items()),
        ReadyToTest()])


class TestRunning(unittest.TestCase):
    """While the node runs."""

    def test_it_becomes_ready(self, proc_output):
        proc_output.assertWaitFor("ready: images from '/cam/image'", timeout=120, stream='stderr')


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After launch has interrupted it."""

    def test_the_node_ends_with_status_0(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
