# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments that name a scene, the same in every subcommand that reads one."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.data.folder import read_folder_scene
from implicit_relocalizer.data.frames import Scene


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Add SCENE and the options that say how to read it."""
    parser.add_argument('scene', type=Path, help='folder with rgb/, poses/, K.txt, splits/')
    parser.add_argument('--split', default='standard', help='splits/NAME.txt (%(default)s)')


def read_scene_argument(options: argparse.Namespace) -> Scene:
    """Read the scene that the options name.

    Raises:
        SceneError: it cannot be read; the message names the file, the value and the remedy.
    """
    return read_folder_scene(options.scene, options.split)
