# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes in processes of their own that need not import torch again: four seconds of a core each.

Run as a program this is what `NurseryProgram` talks to: it has imported what the node needs, has
begun nothing, and forks. A fork runs `main` as the program `relocalizer` does, and ends when that
returns: the end of a forked interpreter with torch and DDS in it is not that of a fresh one
(test_node.py has those).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL, Signals
from types import TracebackType
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class ForkedNode:
    """A running node, as `conftest.Process`."""

    def __init__(self, program: NurseryProgram, pid: int, log: Path) -> None:
        self._program = program
        self.pid = pid
        self._log = log
        self._status: int | None = None

    def output(self) -> str:
        """Everything written so far."""
        return self._log.read_text(errors='replace')

    def status(self) -> int | None:
        """The exit status; None while it runs."""
        if self._status is None:
            self._status = self._program.ask({'poll': self.pid})
        return self._status

    def wait_for(self, text: str, timeout_s: float = 60.0) -> str:
        """Wait until the output holds a text and return the output."""
        end_s = time.monotonic() + timeout_s
        while text not in self.output():
            assert self.status() is None, f'ended without {text!r}:\n{self.output()}'
            assert time.monotonic() < end_s, f'no {text!r} in {timeout_s} s:\n{self.output()}'
            time.sleep(0.02)
        return self.output()

    def signal(self, number: Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for the end and return the exit status."""
        end_s = time.monotonic() + timeout_s
        while (status := self.status()) is None:
            assert time.monotonic() < end_s, f'no end in {timeout_s} s:\n{self.output()}'
            time.sleep(0.01)
        return status

    def end_by(self, number: Signals) -> float:
        """Send a signal and wait for the end.

        Returns:
            How many seconds it took, without those that its threads waited for a core: machines
            that run tests are busy.
        """
        before_s, began_s = self._waits_s(), time.monotonic()
        waits_s = dict(before_s)
        self.signal(number)
        while self.status() is None:
            waits_s.update(self._waits_s())
            time.sleep(0.01)
        waited_s = sum(waits_s.values()) - sum(before_s.values())
        return time.monotonic() - began_s - waited_s

    def _waits_s(self) -> dict[str, float]:
        """How long each of its threads has waited for a core so far."""
        found: dict[str, float] = {}
        for task in Path(f'/proc/{self.pid}/task').glob('*'):
            with contextlib.suppress(OSError):  # it has just ended
                found[task.name] = int((task / 'schedstat').read_text().split()[1]) * 1e-9
        return found

    def memory_kib(self) -> int:
        """Memory that is no file's, swapped out or not: what a leak adds to."""
        status = Path(f'/proc/{self.pid}/status').read_text()
        return sum(int(size) for size in re.findall(r'(?:RssAnon|VmSwap):\s*(\d+) kB', status))

    def threads(self) -> int:
        """How many it has."""
        return len(list(Path(f'/proc/{self.pid}/task').iterdir()))

    def open_files(self) -> int:
        """How many, sockets included."""
        return len(list(Path(f'/proc/{self.pid}/fd').iterdir()))


class NurseryProgram:
    """This file, running: one serves all test files of a worker."""

    def __init__(self) -> None:
        environment = {key: value for key, value in os.environ.items()
                       if key not in ('ROS_NAMESPACE', 'ROS_DISCOVERY_SERVER')}
        environment.update(RCUTILS_COLORIZED_OUTPUT='0', PYTHONUNBUFFERED='1')
        self._program = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def ask(self, request: dict[str, Any]) -> Any:
        """One request, and its answer."""
        assert self._program.stdin is not None and self._program.stdout is not None
        self._program.stdin.write(json.dumps(request) + '\n')
        self._program.stdin.flush()
        return json.loads(self._program.stdout.readline())

    def end(self) -> None:
        """Let it go."""
        self._program.communicate()


class Nursery:
    """Starts nodes in one DDS domain, and ends them all in the end."""

    def __init__(self, program: NurseryProgram, folder: Path, domain_id: int) -> None:
        self._program = program
        self._folder = folder
        self._nodes: list[ForkedNode] = []
        self._environment = {'ROS_DOMAIN_ID': str(domain_id), 'ROS_LOG_DIR': str(folder / 'ros')}

    def start(self, arguments: list[str]) -> ForkedNode:
        """Start a node with these command line arguments."""
        log = self._folder / f'{len(self._nodes)}.log'
        log.touch()
        pid = self._program.ask({'arguments': arguments, 'log': str(log),
                                 'environment': self._environment})
        node = ForkedNode(self._program, pid, log)
        self._nodes.append(node)
        return node

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for node in self._nodes:
            if node.status() is None:
                node.signal(SIGKILL)
                node.wait()


def _serve() -> None:
    import torch  # noqa: F401

    import implicit_relocalizer.ros.node  # noqa: F401
    for line in sys.stdin:
        request = json.loads(line)
        if 'poll' in request:
            pid, status = os.waitpid(request['poll'], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _become_node(**request)
        print(json.dumps(answer), flush=True)


def _become_node(arguments: list[str], log: str, environment: dict[str, str]) -> NoReturn:
    from implicit_relocalizer.ros.node import main
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(SIGKILL))  # no orphans of tests that were killed
    os.environ.update(environment)
    with Path(log).open('wb') as file, Path(os.devnull).open('rb') as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ['relocalizer', *arguments]
    status = main()
    sys.stdout.flush()
    os._exit(status)


if __name__ == '__main__':
    _serve()
    os._exit(0)  # torch takes a second of a core to go
