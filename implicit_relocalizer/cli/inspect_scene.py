# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer inspect`: is a scene what it is taken for?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers

# 1 is an error, 2 a wrong command line.
CONTRADICTED_STATUS = 3


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'inspect', help='measure a scene and check the convention of its poses',
        description='Counts, extent and splits of a scene, and whether matched images agree with '
        f'its poses and intrinsics. Exit status {CONTRADICTED_STATUS} where they contradict them.')
    add_scene_arguments(parser)
    parser.add_argument('--picture', type=Path, metavar='FILE.png',
                        help='draw the cameras from above')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write everything found')
    parser.add_argument('--pairs', type=_count, default=20, metavar='N',
                        help='pairs of images to match (%(default)s); 0 opens no image')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Inspect as the options say."""
    from implicit_relocalizer.evaluation.inspect_scene import inspect_scene
    from implicit_relocalizer.evaluation.inspection_text import (
        describe_check,
        describe_statistics,
    )
    inspection = inspect_scene(read_scene_argument(options), options.pairs)
    print(describe_statistics(inspection.scene, inspection.statistics))
    if inspection.check is not None:
        print(describe_check(inspection.scene, inspection.check))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(inspection.to_dict(), indent=2) + '\n')
    if options.picture is not None:
        from implicit_relocalizer.evaluation.inspection_picture import draw_inspection
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        draw_inspection(options.picture, inspection)
    contradicted = inspection.check is not None and inspection.check.is_contradicted
    return CONTRADICTED_STATUS if contradicted else 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is no count; give 0 or more')
    return int(text)
