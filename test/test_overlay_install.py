# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The overlay stays out of ROS installations, and what is installed is what lies here."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

OVERLAY_DIR = Path(__file__).resolve().parents[1] / 'pip_overlay'
DISTRIBUTION = 'implicit-relocalizer-pip-overlay'


def run_python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python that sees the build's modules and, of ROS, what the environment says."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ('AMENT_PREFIX_PATH', 'PYTHONPATH')
    }
    return subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path.append({str(OVERLAY_DIR)!r}); {script}'],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


REFUSE = 'from overlay_build.environment import refuse_beside_ros_installation as refuse; refuse()'


def test_is_refused_where_a_ros_installation_is_sourced() -> None:
    refused = run_python(REFUSE, AMENT_PREFIX_PATH='/opt/ros/jazzy')
    assert refused.returncode != 0
    assert 'OverlayError' in refused.stderr and '/opt/ros/jazzy' in refused.stderr


def test_setup_says_why_without_a_traceback() -> None:
    pytest.importorskip('setuptools', reason='setuptools is not installed')
    refused = subprocess.run(
        [sys.executable, 'setup.py', '--version'],
        cwd=OVERLAY_DIR,
        env=os.environ | {'AMENT_PREFIX_PATH': '/opt/ros/jazzy'},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 1
    assert '/opt/ros/jazzy' in refused.stderr and 'Traceback' not in refused.stderr


def test_is_refused_where_the_real_packages_are_importable(tmp_path: Path) -> None:
    (tmp_path / 'tf2_ros').mkdir()
    (tmp_path / 'tf2_ros' / '__init__.py').touch()
    refused = run_python(REFUSE, PYTHONPATH=str(tmp_path))
    assert refused.returncode != 0
    assert f'tf2_ros in {tmp_path}' in refused.stderr


def test_missing_compiler_is_named() -> None:
    script = 'from overlay_build.interfaces import find_build_tools as find; find()'
    missing = run_python(script, CC=sys.executable, CXX='no-such-compiler')
    assert missing.returncode != 0
    assert 'No C++ compiler' in missing.stderr and 'no-such-compiler' in missing.stderr


def test_is_welcome_beside_itself() -> None:
    if os.environ.get('AMENT_PREFIX_PATH'):
        pytest.skip('a ROS installation is sourced')
    assert run_python(REFUSE).returncode == 0


def test_installed_packages_are_those_of_this_tree() -> None:
    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        pytest.skip(f'{DISTRIBUTION} is not installed')
    site = Path(sysconfig.get_path('platlib'))
    sources = sorted((OVERLAY_DIR / 'src').glob('*/*.py'))
    assert sources
    stale = [
        str(source.relative_to(OVERLAY_DIR))
        for source in sources
        if source.read_bytes() != (site / source.relative_to(OVERLAY_DIR / 'src')).read_bytes()
    ]
    assert not stale, 'stale; run: pip install --no-build-isolation ./pip_overlay'
