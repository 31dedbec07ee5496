# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Is this an environment that the overlay belongs into?"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path

DISTRIBUTION = 'implicit-relocalizer-pip-overlay'
PROVIDED_PACKAGES = ('tf2_msgs', 'tf2_py', 'tf2_ros', 'cv_bridge', 'tf_transformations')


class OverlayError(RuntimeError):
    """The overlay cannot be built or installed here; the message says why and what to do."""


def refuse_beside_ros_installation() -> None:
    """Raises OverlayError where the real packages are, or may be, at hand.

    A ROS 2 installation has the four packages. The overlay beside it would hide them, or be
    hidden by them, depending on the order of sys.path.
    """
    sourced = foreign_ament_prefixes()
    if sourced:
        raise OverlayError(
            f'AMENT_PREFIX_PATH names a ROS installation: {os.pathsep.join(sourced)}. It brings '
            'the real tf2_ros, tf2_msgs, cv_bridge and tf_transformations; install those with '
            'rosdep. The overlay is for environments without ROS: to install it, use a shell '
            'in which no setup.bash was sourced.'
        )
    foreign = foreign_packages()
    if foreign:
        found = ', '.join(f'{name} in {place}' for name, place in foreign.items())
        raise OverlayError(
            f'This Python already imports packages that the overlay would supply: {found}. '
            'Use those, or take them off PYTHONPATH and out of the environment first.'
        )


def foreign_ament_prefixes() -> list[str]:
    """Entries of AMENT_PREFIX_PATH other than this Python environment itself."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    own = Path(sys.prefix).resolve()
    return [prefix for prefix in prefixes if prefix and Path(prefix).resolve() != own]


def foreign_packages() -> dict[str, str]:
    """Where packages of the overlay's names come from, if not from the overlay."""
    own_folders = {Path(sysconfig.get_path(key)).resolve() for key in ('purelib', 'platlib')}
    distributions = packages_distributions()
    foreign = {}
    for name in PROVIDED_PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        places = spec.submodule_search_locations or [spec.origin or '']
        folder = Path(next(iter(places))).resolve()
        others = [owner for owner in distributions.get(name, []) if owner != DISTRIBUTION]
        if folder.parent not in own_folders:
            foreign[name] = str(folder)
        elif others:
            foreign[name] = f'{folder} (from {others[0]})'
    return foreign
