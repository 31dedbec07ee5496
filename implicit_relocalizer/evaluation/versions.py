# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of what decides a result."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGES = ('torch', 'torchvision', 'rclpy', 'numpy', 'implicit_relocalizer')


def find_versions() -> dict[str, str | None]:
    """Versions of Python, packages and, in a git checkout, the sources; None where unknown."""
    versions: dict[str, str | None] = {'python': platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    revision = None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        revision = subprocess.run(
            ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty',
             '--abbrev=12'], check=True, capture_output=True, text=True).stdout.strip()
    return {**versions, 'revision': revision}
