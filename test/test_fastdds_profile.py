# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The profile for cameras: Fast DDS takes it, and images find room in its shared memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = '''
import pathlib, rclpy
def segments():
    return {path for path in pathlib.Path('/dev/shm').glob('fastdds_*')}
before = segments()
rclpy.init()
node = rclpy.create_node('camera')
print(rclpy.get_rmw_implementation_identifier(),
      max([path.stat().st_size for path in segments() - before], default=0))
node.destroy_node()
rclpy.shutdown()
'''


def largest_segment_bytes(domain_id: int, **variables: str) -> int:
    """Of the shared memory that a process with a node makes."""
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id), **variables})
    assert 'Error' not in done.stderr, done.stderr
    middleware, size = done.stdout.split()
    if middleware != 'rmw_fastrtps_cpp':
        pytest.skip(f'the middleware is {middleware}, not Fast DDS')
    return int(size)


def test_images_find_room(ros_domain_id):
    if not Path('/dev/shm').is_dir():
        pytest.skip('no /dev/shm here')
    image_bytes = 1920 * 1080 * 3
    profile = str(ROOT / 'config' / 'fastdds_large_images.xml')
    assert largest_segment_bytes(ros_domain_id, FASTDDS_DEFAULT_PROFILES_FILE=profile,
                                 FASTRTPS_DEFAULT_PROFILES_FILE=profile) > 2 * image_bytes
    assert largest_segment_bytes(ros_domain_id) < image_bytes, 'the profile is not needed any more'
