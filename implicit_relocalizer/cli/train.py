# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer train`: from posed images to a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.resources import share_path


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser('train', help='learn a place from posed images')
    add_scene_arguments(parser)
    parser.add_argument('--config', default='mapping',
                        help='a YAML file, or the name of one in config/train (%(default)s)')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        dest='overrides', help='override, such as mapping.iterations=2000')
    parser.add_argument('--output', type=Path, default=Path('runs/latest'),
                        help='run folder (%(default)s); an interrupted run there is resumed')
    parser.add_argument('--restart', action='store_true', help='throw an earlier run away')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train as the options say."""
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.training.configuration_file import load_configuration
    from implicit_relocalizer.training.run_folder import remove_run
    from implicit_relocalizer.training.trainer import train_scene
    config = load_configuration(find_config(options.config), options.overrides)
    scene = read_scene_argument(options)
    if options.restart:
        remove_run(options.output)
    result = train_scene(scene, config, options.output, measure_accuracy)
    for name in ('train', 'validation', 'test'):
        if name in result:
            summary = result[name]
            print(f'{name:10s} median {100 * summary["median_translation_m"]:.1f} cm '
                  f'{summary["median_rotation_deg"]:.2f}°, recall {summary["recall"]}')
    print(f'{options.output / "model.pt"}: {result["model_bytes"] / 1e6:.1f} MB after '
          f'{result["training_seconds"]:.0f} s')
    return 0


def find_config(name: str) -> Path:
    """A YAML file as given, or by name from the configurations that the package brings."""
    if name.endswith(('.yaml', '.yml')):
        return Path(name)
    return share_path(f'config/train/{name}.yaml')
