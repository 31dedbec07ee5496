# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Generates and compiles a ROS interface package against the message wheels of this Python."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from overlay_build.environment import OverlayError

REQUIREMENTS_HINT = 'pip install -r pip_overlay/requirements-build.txt'
# geometry_msgs is what the messages are made of, the others generate code.
REQUIRED_CMAKE_PACKAGES = (
    'ament_cmake',
    'ament_cmake_ros_core',
    'geometry_msgs',
    'python_cmake_module',
    'rosidl_default_generators',
)
# Of what CMake installs, programs in Python load these; headers and CMake files stay behind.
INSTALLED_PATTERNS = (
    'lib/*.so',
    'share/*/package.xml',
    'share/*/msg/*',
    'share/ament_index/resource_index/packages/*',
    'share/ament_index/resource_index/rosidl_interfaces/*',
)


@dataclass(frozen=True)
class BuiltInterfaces:
    """A compiled interface package.

    Attributes:
        python_package: The importable package, with its extension modules.
        data_files: Files for the environment's prefix: (folder below the prefix, files).
    """

    python_package: Path
    data_files: list[tuple[str, list[str]]]


def build_interfaces(source_dir: Path, scratch_dir: Path) -> BuiltInterfaces:
    """Builds the interface package in source_dir; every product lies below scratch_dir.

    Raises:
        OverlayError: A tool or package is missing, or a build step failed (with its output).
    """
    cmake, generator = find_build_tools()
    build_dir, prefix = scratch_dir / 'interfaces', scratch_dir / 'prefix'
    _run([
        cmake, '-S', source_dir, '-B', build_dir, '-G', generator,
        '-DCMAKE_BUILD_TYPE=Release',
        '-DBUILD_TESTING=OFF',
        f'-DCMAKE_INSTALL_PREFIX={prefix}',
        f'-DCMAKE_PREFIX_PATH={sys.prefix}',
        f'-DPython3_EXECUTABLE={sys.executable}',
        '-DPython3_FIND_VIRTUALENV=ONLY',
        '-DPYTHON_INSTALL_DIR=python',
    ])  # fmt: skip
    _run([cmake, '--build', build_dir, '--parallel', str(os.cpu_count() or 1)])
    _run([cmake, '--install', build_dir])
    return BuiltInterfaces(prefix / 'python' / source_dir.name, _data_files(prefix))


def find_build_tools() -> tuple[str, str]:
    """The cmake program and its generator.

    Raises:
        OverlayError: A compiler, Python's headers, cmake, ninja or a message wheel is missing.
    """
    for language, variable, names in (
        ('C', 'CC', ('cc', 'gcc', 'clang')),
        ('C++', 'CXX', ('c++', 'g++', 'clang++')),
    ):
        chosen = os.environ.get(variable)
        if not any(map(_find_program, [chosen.split()[0]] if chosen else names)):
            raise OverlayError(
                f'No {language} compiler: none of {chosen or ", ".join(names)} is on PATH. '
                'tf2_msgs has to be compiled; install one (Debian, Ubuntu: apt install g++).'
            )
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.is_file():
        raise OverlayError(
            f'{header} is missing; install the headers of this Python '
            f'(Debian, Ubuntu: apt install python{sysconfig.get_python_version()}-dev).'
        )
    missing = [
        name
        for name in REQUIRED_CMAKE_PACKAGES
        if not (Path(sys.prefix) / 'share' / name / 'cmake' / f'{name}Config.cmake').is_file()
    ]
    missing += [name for name in ('catkin_pkg', 'numpy') if not importlib.util.find_spec(name)]
    if missing:
        raise OverlayError(
            f'{sys.prefix} lacks {", ".join(missing)}. Run `{REQUIREMENTS_HINT}` first, and pip '
            'with --no-build-isolation: tf2_msgs is built against the wheels of the environment '
            'that it is installed into.'
        )
    cmake = _find_program('cmake')
    if cmake is None:
        raise OverlayError(f'No cmake in {sys.prefix} or on PATH; run `{REQUIREMENTS_HINT}`.')
    if _find_program('ninja'):
        return cmake, 'Ninja'
    if _find_program('make'):
        return cmake, 'Unix Makefiles'
    raise OverlayError(f'Neither ninja nor make is on PATH; run `{REQUIREMENTS_HINT}`.')


def _find_program(name: str) -> str | None:
    return shutil.which(name, path=_search_path())


def _search_path() -> str:
    """The environment's own programs first: pip may run without the environment activated."""
    return os.pathsep.join([sysconfig.get_path('scripts'), os.environ.get('PATH', os.defpath)])


def _run(command: list[str | Path]) -> None:
    environment = os.environ | {
        'PATH': _search_path(),
        'AMENT_PREFIX_PATH': sys.prefix,  # rosidl finds its generators in the index there
        'PYTHONDONTWRITEBYTECODE': '1',
    }
    completed = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    if completed.returncode:
        shown = ' '.join(map(str, command))
        raise OverlayError(f'`{shown}` failed:\n{completed.stdout[-6000:]}')


def _data_files(prefix: Path) -> list[tuple[str, list[str]]]:
    folders: dict[str, list[str]] = {}
    for pattern in INSTALLED_PATTERNS:
        for path in sorted(prefix.glob(pattern)):
            folders.setdefault(str(path.parent.relative_to(prefix)), []).append(str(path))
    return list(folders.items())
