# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: data beside the checkout, processes in a private DDS domain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import rclpy
    from node_manager import ManagedRobot
    from node_nursery import Nursery, NurseryProgram

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / 'shared' / 'data'

# Before any test imports torch: waiting threads that spin starve each other on a busy machine
# (the package itself sets this, but a test may import torch first).
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
if 'PYTEST_XDIST_WORKER' in os.environ:  # the workers share the cores among them
    os.environ.setdefault('OMP_NUM_THREADS', '1')
# Read by the middleware when a context starts, in this process and in those it starts.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


# Begun first, so that the workers end at about the same time: files of half a minute and more.
LONG_FILES = (
    'test_unknown_images.py', 'test_demo.py', 'test_overload.py', 'test_startup_places.py',
    'test_localized_robot.py', 'test_finetuning.py', 'test_kalman_filter.py', 'test_synthetic.py',
    'test_training.py',
    'test_encoders.py', 'test_doctor.py', 'test_interruptions.py', 'test_torchrun.py',
    'test_pose_regression.py', 'test_landmark_extension.py', 'test_evaluate.py',
    'test_landmark_training.py', 'test_lifecycle.py', 'test_replay_live.py', 'test_resuming.py')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; the order within files and of all others stays."""
    ranks = {name: rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(scope='session')
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope='session')
def two_rooms() -> Path:
    """The real scene of two rooms."""
    folder = SHARED_DATA / 'two_rooms'
    if not folder.is_dir():
        pytest.skip(f'needs the scene {folder}, which is not part of the repository')
    return folder


@pytest.fixture(scope='module')
def ros_domain_id(request: pytest.FixtureRequest) -> int:
    """A DDS domain (70 to 79) of the test file and of the pytest-xdist worker that runs it.

    Whatever files they are at, two workers never have the same one.
    """
    worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    own = range(70 + worker % 10, 80, min(workers, 10))
    modules = sorted(path.name for path in (ROOT / 'test').glob('test_*.py'))
    return own[modules.index(request.path.name) % len(own)]


@pytest.fixture(scope='module')
def context(ros_domain_id: int) -> Iterator[rclpy.Context]:
    """This process's part in the test file's DDS domain."""
    import rclpy
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    yield context
    context.try_shutdown()


class Process:
    """A program whose output is kept and whose lines can be waited for."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open('w') as file:
            self._process = subprocess.Popen(command, env=environment, stdout=file,
                                             stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                             start_new_session=True)

    def output(self) -> str:
        """Everything written so far."""
        return self._log.read_text(errors='replace')

    def wait_for(self, text: str, timeout_s: float = 60.0) -> str:
        """Wait until the output holds a text and return the output."""
        end_s = time.monotonic() + timeout_s
        while text not in self.output():
            assert self._process.poll() is None, f'ended without {text!r}:\n{self.output()}'
            assert time.monotonic() < end_s, f'no {text!r} in {timeout_s} s:\n{self.output()}'
            time.sleep(0.02)
        return self.output()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children, as a terminal does."""
        os.killpg(self._process.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait(timeout_s)

    def end(self) -> None:
        """End the program and its children, come what may."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope='module')
def spawn(tmp_path_factory: pytest.TempPathFactory, ros_domain_id: int,
          ) -> Iterator[Callable[..., Process]]:
    """Starts programs in the test file's DDS domain and ends them all afterwards.

    Called with the command and, by name, environment variables to add.
    """
    folder = tmp_path_factory.mktemp('processes')
    environment = {key: value for key, value in os.environ.items()
                   if key not in ('ROS_NAMESPACE', 'ROS_DISCOVERY_SERVER')}
    environment.update(ROS_DOMAIN_ID=str(ros_domain_id), ROS_LOG_DIR=str(folder / 'ros'),
                       RCUTILS_COLORIZED_OUTPUT='0', PYTHONUNBUFFERED='1')
    started: list[Process] = []

    def start(command: list[str], **variables: str) -> Process:
        process = Process(command, {**environment, **variables}, folder / f'{len(started)}.log')
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope='session')
def nursery_program() -> Iterator[NurseryProgram]:
    """What starts nodes quickly; see node_nursery."""
    from node_nursery import NurseryProgram
    program = NurseryProgram()
    yield program
    program.end()


@pytest.fixture(scope='module')
def nursery(tmp_path_factory: pytest.TempPathFactory, nursery_program: NurseryProgram,
            ros_domain_id: int) -> Iterator[Nursery]:
    """Starts nodes in the test file's DDS domain and ends them all afterwards."""
    from node_nursery import Nursery
    with Nursery(nursery_program, tmp_path_factory.mktemp('nodes'), ros_domain_id) as nursery:
        yield nursery


@pytest.fixture(scope='module')
def start(nursery: Nursery, context: rclpy.Context) -> Callable[..., ManagedRobot]:
    """Starts a node without autostart, with a model and parameters, and all around it."""
    from node_manager import ManagedRobot
    return partial(ManagedRobot, nursery, context)


@pytest.fixture(scope='session')
def relocalizer_command() -> list[str]:
    """The installed console script, or what it does where only the checkout is on the path."""
    script = Path(sys.executable).parent / 'relocalizer'
    if script.is_file():
        return [str(script)]
    return [sys.executable, '-c',
            'import sys; from implicit_relocalizer.ros.node import main; sys.exit(main())']
