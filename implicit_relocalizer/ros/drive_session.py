# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Run the node and the player as processes of their own in a private DDS domain.

This module imports no ROS, so that the program that uses it needs none either.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from implicit_relocalizer.evaluation.drive import DriveObservations
from implicit_relocalizer.ros.processes import make_private_environment, read_tail, running


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
