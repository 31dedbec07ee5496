# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments that name a scene, the same in every subcommand that reads one."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.cli.bag_arguments import add_bag_arguments, bag_options
from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.scenes import format_names, read_scene
from implicit_relocalizer.data.selection import RULES, select_training_frames
from implicit_relocalizer.data.splits import STANDARD


def add_scene_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add SCENE, which may be left out where not required, and how to read it."""
    parser.add_argument('scene', type=Path, nargs=None if required else '?',
                        help='folder or file with the posed images; doc/scenes.md describes the '
                             'formats')
    parser.add_argument('--split', default=STANDARD,
                        help='splits/NAME.txt lists the held-out frames; %(default)s is the '
                             "benchmark's own split, or every 8th frame")
    parser.add_argument('--format', choices=format_names(), help='detected where not given')
    parser.add_argument('--intrinsics', type=Path, metavar='FILE',
                        help='3x3 camera matrix, for formats that may lack one')
    parser.add_argument('--images', type=Path, metavar='FOLDER',
                        help='where the images of a COLMAP model lie')
    parser.add_argument('--max-width', type=int, metavar='PX',
                        help='make wider images smaller, which saves memory')
    parser.add_argument('--train-frames', metavar='RULE',
                        help=f'only a part of the training frames: {RULES}')
    # Options of one format: an add_..._arguments(parser) each, and its values in `given` below.
    add_bag_arguments(parser)


def read_scene_argument(options: argparse.Namespace) -> Scene:
    """Read the scene that the options name.

    Raises:
        SceneError: it cannot be read; the message names the file, the value and the remedy.
    """
    given: dict[str, object] = {'intrinsics': options.intrinsics, 'images': options.images,
                                **bag_options(options)}
    scene = read_scene(options.scene, options.format, options.split, options.max_width, **given)
    rule = options.train_frames
    return scene if rule is None else select_training_frames(scene, rule)
