# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer synthesize`: a rendered place with drives through it."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.cli.subparsers import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser('synthesize', help='render a furnished room with drives')
    parser.add_argument('output', type=Path)
    parser.add_argument('--seed', type=int, default=0, help='another seed, another place')
    parser.add_argument('--width', type=int, default=480)
    parser.add_argument('--height', type=int, default=360)
    parser.add_argument('--mapping-frames', type=int, default=400)
    parser.add_argument('--held-out-frames', type=int, default=100)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render what the options say, or reuse what is there."""
    from implicit_relocalizer.data.synthetic import synthesize
    scene = synthesize(options.output, seed=options.seed,
                       image_size=(options.width, options.height),
                       mapping_frames=options.mapping_frames,
                       held_out_frames=options.held_out_frames)
    print(f'{options.output}: {len(scene.split("train"))} mapping frames, '
          f'{len(scene.split("test"))} held-out frames')
    return 0
