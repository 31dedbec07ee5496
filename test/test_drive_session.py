# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How a drive ends when something is missing: with a reason, and with no process left."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from implicit_relocalizer.ros.drive_session import SessionError, run_drive
from implicit_relocalizer.ros.processes import (
    find_free_domain,
    make_private_environment,
    running,
)

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf2_msgs', reason='needs tf2_msgs (or pip_overlay)')


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Two grey images, one of them held out."""
    folder = tmp_path / 'grey'
    for name in ('rgb', 'poses', 'splits'):
        (folder / name).mkdir(parents=True)
    for name in ('000', '001'):
        Image.new('RGB', (32, 24), (128, 128, 128)).save(folder / 'rgb' / f'{name}.png')
        np.savetxt(folder / 'poses' / f'{name}.txt', np.eye(4))
    np.savetxt(folder / 'K.txt', [[30.0, 0.0, 15.5], [0.0, 30.0, 11.5], [0.0, 0.0, 1.0]])
    (folder / 'splits' / 'standard.txt').write_text('001\n')
    return folder


def test_a_node_that_dies_is_reported_with_its_last_words(scene, tmp_path):
    with pytest.raises(SessionError, match=r'(?s)status 1 .*absent\.pt: no such model file'):
        run_drive(tmp_path / 'absent.pt', scene, tmp_path, rate_hz=10.0, patience_s=60.0)
    assert not (tmp_path / 'observations.json').exists()


def test_a_player_without_a_node_says_what_is_missing(scene, tmp_path):
    player = subprocess.run(
        [sys.executable, '-m', 'implicit_relocalizer.ros.drive_player', str(scene),
         '--output', str(tmp_path / 'out'), '--patience', '0.5'],
        env=make_private_environment(tmp_path), capture_output=True, text=True, check=False)
    assert player.returncode == 1
    assert 'nobody subscribes to /image' in player.stderr
    assert 'nobody publishes /relocalizer/pose' in player.stderr


def test_a_process_does_not_outlive_its_block(tmp_path):
    # One that ignores the polite signals, while the block fails.
    stubborn = ('import signal, time\n'
                'signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
                'print("up", flush=True)\n'
                'time.sleep(60)\n')
    log = tmp_path / 'log'
    with (pytest.raises(KeyboardInterrupt), log.open('w') as file,
          running([sys.executable, '-c', stubborn], os.environ, file.fileno(),
                  end_patience_s=0.5) as process):
        while 'up' not in log.read_text():
            assert process.poll() is None
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_a_domain_in_use_is_left_alone():
    first = find_free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(('', 7400 + 250 * first + 10))
        assert find_free_domain() != first
    assert 40 <= first < 60
