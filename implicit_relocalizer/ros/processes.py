# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""ROS programs as processes of their own in a private DDS domain.

This module imports no ROS, so that the program that uses it needs none either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

FIRST_DOMAIN, DOMAIN_COUNT = 40, 20
LOG_LINES_SHOWN = 20


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
