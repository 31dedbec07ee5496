# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Launches for tests: packages of stand-ins, and what they were started with."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

LAUNCH_FOLDER = Path(__file__).resolve().parents[1] / 'launch'
STARTED_S = 30.0

# What `ros2 launch FILE` does, without ros2cli.
_LAUNCH = '''
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]),
    launch_arguments=[a.split(':=', 1) for a in sys.argv[2:]])]))
sys.exit(service.run())
'''

# Notes its command line, with the parameter files that launch removes at its end.
_WITNESS = '''#!{python} -S
import json, os, signal, sys
with open(sys.argv[0] + '.note', 'w') as file:
    files = [sys.argv[i + 1] for i, a in enumerate(sys.argv) if a == '--params-file']
    json.dump([sys.argv[1:], [open(name).read() for name in files]], file)
os.rename(sys.argv[0] + '.note', sys.argv[0] + '.json')
signal.signal(signal.SIGINT, lambda *_: os._exit(0))
signal.pause()
'''

_RELOCALIZER = '''#!{python}
import sys
from implicit_relocalizer.ros.node import main
sys.exit(main())
'''


def skip_without(*modules: str) -> None:
    """Skip where a module of a ROS 2 installation is absent."""
    for module in modules:
        # The folder launch/ of the checkout counts as a namespace package: not that one.
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            pytest.skip(f'needs the Python module {module} of a ROS 2 installation')


class Witness:
    """A stand-in for a program: tells what it was started with."""

    def __init__(self, program: Path) -> None:
        self._note = program.with_name(f'{program.name}.json')

    @property
    def was_started(self) -> bool:
        return self._note.exists()

    def wait(self) -> tuple[list[str], dict]:
        """The command line, and the parameters from all its files, later ones winning."""
        end_s = time.monotonic() + STARTED_S
        while not self.was_started:
            assert time.monotonic() < end_s, f'{self._note} was not written'
            time.sleep(0.02)
        command, files = json.loads(self._note.read_text())
        parameters: dict = {}
        for text in files:
            for node in yaml.full_load(text).values():  # launch writes tuples
                parameters.update(_flat(node))
        return command, parameters


def _flat(node: dict) -> dict:
    """The parameters of a node, however deep its namespace."""
    if 'ros__parameters' in node:
        return node['ros__parameters'] or {}
    return {key: value for child in node.values() for key, value in _flat(child).items()}


class Packages:
    """A prefix of installed packages in a folder, and launches that find them."""

    def __init__(self, folder: Path, spawn: Callable) -> None:
        self.folder = folder
        self._spawn = spawn

    def add(self, package: str) -> Path:
        """Add a package and return its share folder."""
        marker = self.folder / 'share/ament_index/resource_index/packages' / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        share = self.folder / 'share' / package
        share.mkdir(parents=True, exist_ok=True)
        return share

    def add_program(self, package: str, name: str, script: str = _WITNESS) -> Witness:
        """Add a program to a package; by default one that tells what it was started with."""
        self.add(package)
        return self._write(self.folder / 'lib' / package / name, script)

    def add_relocalizer(self) -> None:
        """Add the real node, as colcon would."""
        self.add_program('implicit_relocalizer', 'relocalizer', _RELOCALIZER)

    def add_command(self, name: str) -> Witness:
        """Put a stand-in on the PATH of what is launched."""
        return self._write(self.folder / 'bin' / name, _WITNESS)

    def launch(self, file: str, *arguments: str):
        """Run a launch file of ours in a process of its own."""
        return self.run([sys.executable, '-c', _LAUNCH, str(LAUNCH_FOLDER / file), *arguments])

    def run(self, command: list[str]):
        """Run a program that finds the packages and commands."""
        return self._spawn(command, **{
            name: os.pathsep.join([str(path), *filter(None, [os.environ.get(name)])])
            for name, path in (('AMENT_PREFIX_PATH', self.folder),
                               ('PATH', self.folder / 'bin'))})

    def _write(self, program: Path, script: str) -> Witness:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(script.replace('{python}', sys.executable))
        program.chmod(0o755)
        return Witness(program)


def remappings(command: list[str]) -> dict[str, str]:
    """The `-r from:=to` of a command line."""
    return dict(command[i + 1].split(':=', 1) for i, part in enumerate(command) if part == '-r')
