# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Builds tf2_msgs and packs it with the pure Python packages into one wheel."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

OVERLAY_DIR = Path(__file__).resolve().parent
sys.path.insert(0, str(OVERLAY_DIR))

from overlay_build.environment import OverlayError, refuse_beside_ros_installation  # noqa: E402
from overlay_build.interfaces import build_interfaces  # noqa: E402


class BuildWithInterfaces(build_py):
    """build_py that adds the generated tf2_msgs and the libraries it loads."""

    def run(self) -> None:
        super().run()
        try:
            built = build_interfaces(OVERLAY_DIR / 'interfaces' / 'tf2_msgs', SCRATCH_DIR)
        except OverlayError as error:
            sys.exit(f'\n{error}\n')
        destination = Path(self.build_lib) / built.python_package.name
        shutil.copytree(
            built.python_package, destination, ignore=shutil.ignore_patterns('*.c', '__pycache__')
        )
        self.distribution.data_files = built.data_files


class PlatformDistribution(Distribution):
    """A wheel that belongs to one platform and Python, though setuptools compiles nothing."""

    def has_ext_modules(self) -> bool:
        return True


try:
    refuse_beside_ros_installation()
except OverlayError as error:
    sys.exit(f'\n{error}\n')

# Everything is built outside the source tree: nothing stale to pick up, nothing for git to see.
SCRATCH_DIR = Path(tempfile.mkdtemp(prefix='pip_overlay_'))
atexit.register(shutil.rmtree, SCRATCH_DIR, ignore_errors=True)

setup(
    packages=find_packages('src'),
    package_dir={'': 'src'},
    cmdclass={'build_py': BuildWithInterfaces},
    distclass=PlatformDistribution,
    options={
        'build': {'build_base': str(SCRATCH_DIR / 'build')},
        'bdist_wheel': {'bdist_dir': str(SCRATCH_DIR / 'wheel')},
        'egg_info': {'egg_base': str(SCRATCH_DIR)},
    },
)
