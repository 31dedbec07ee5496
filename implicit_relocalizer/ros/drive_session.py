# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Run the node and the player as processes of their own in a private DDS domain.

This module imports no ROS, so that the program that uses it needs none either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from implicit_relocalizer.evaluation.drive import DriveObservations

FIRST_DOMAIN, DOMAIN_COUNT = 40, 20
LOG_LINES_SHOWN = 20


class SessionError(RuntimeError):
    """The drive could not be played; the message holds the end of the node's log."""


def run_drive(model: Path, scene: Path, output: Path, rate_hz: float,
              patience_s: float) -> DriveObservations:
    """Start the node with a model, play the held-out frames of a scene to it, end the node.

    Leaves `node.log`, `observations.json` and `bag/` in `output`. The node is ended whatever
    happens here, an interrupt included.

    Args:
        model: Model file.
        scene: Folder of the scene.
        output: An existing folder.
        rate_hz: Frames per second.
        patience_s: How long the node may take to get ready.

    Raises:
        SessionError: the node or the player ended early.
    """
    environment = make_private_environment(output / 'ros_log')
    log = output / 'node.log'
    # Reliable: of half a megabyte in 64 KiB fragments, best effort loses most on a busy machine.
    node_command = [sys.executable, '-m', 'implicit_relocalizer.ros.node', '--ros-args',
                    '-p', f'model:={model.resolve()}', '-p', 'device:=auto',
                    '-p', 'image_reliability:=reliable',
                    # Held-out images are no drive: each is measured by itself, none refused.
                    '-p', 'consensus_fixes:=1', '-p', 'min_confidence:=0.0',
                    '-p', 'max_position_std_m:=0.0', '-p', 'map_margin_m:=1000000.0']
    player_command = [sys.executable, '-m', 'implicit_relocalizer.ros.drive_player', str(scene),
                      '--output', str(output), '--rate', str(rate_hz),
                      '--patience', str(patience_s)]
    with (log.open('w') as log_file,
          running(node_command, environment, log_file.fileno()) as node,
          running(player_command, environment) as player):
        while player.poll() is None:
            if node.poll() is not None:
                raise SessionError(f'the node ended with status {node.returncode} before the '
                                   f'drive was over; the end of {log}:\n{read_tail(log)}')
            time.sleep(0.1)
    if player.returncode:
        raise SessionError(f'the player ended with status {player.returncode}; '
                           f'the end of {log}:\n{read_tail(log)}')
    return DriveObservations.load(output / 'observations.json')


def make_private_environment(ros_log: Path) -> dict[str, str]:
    """This process's environment, with a free DDS domain on this machine only.

    A robot next door must neither see our camera nor be seen by our node.
    """
    return {**os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_DOMAIN_ID': str(find_free_domain()), 'ROS_LOG_DIR': str(ros_log.resolve()),
            'PYTHONUNBUFFERED': '1'}


def find_free_domain() -> int:
    """A DDS domain between 40 and 59 whose first participant's port nobody holds.

    Ports: DDSI-RTPS 2.5 section 9.6.2.3, 7400 + 250 domain + 10 for unicast discovery.
    """
    domains = [FIRST_DOMAIN + (os.getpid() + i) % DOMAIN_COUNT for i in range(DOMAIN_COUNT)]
    for domain in domains:
        with (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
              contextlib.suppress(OSError)):
            probe.bind(('', 7400 + 250 * domain + 10))
            return domain
    return domains[0]


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str],
            log: int | None = None, end_patience_s: float = 10.0) -> Iterator[subprocess.Popen]:
    """A process that lives no longer than the block: interrupted first, killed at last.

    Args:
        command: Program and arguments.
        environment: Of the process.
        log: File descriptor for its output and errors; by default they go where ours go.
        end_patience_s: How long it may take to end after each signal.
    """
    process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log)
    try:
        yield process
    finally:
        for end in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(end)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(end_patience_s)


def read_tail(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors='replace').splitlines()[-LOG_LINES_SHOWN:]
    return '\n'.join(f'    {line}' for line in lines) or '    (empty)'
