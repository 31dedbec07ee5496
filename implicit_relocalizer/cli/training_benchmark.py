# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer training-benchmark`: how long training takes, and on what."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.evaluate import positive
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.cli.train import find_config

logger = logging.getLogger(__name__)

CONFIGS = ('landmarks', 'mapping', 'paper', 'pose_regression')


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'training-benchmark', help='where the time of a training goes, and its errors over time',
        description='Of each configuration: what learns by gradients against the bare network on '
                    'one batch in memory, in float32, bfloat16 and compiled, and how long it '
                    'waits for data; then a whole training by its steps, with the error on the '
                    'validation images over time.')
    add_scene_arguments(parser)
    parser.add_argument('--config', action='append', metavar='NAME',
                        help=f'a YAML file, or the name of one in config/train; may be repeated '
                             f'({", ".join(CONFIGS)})')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        dest='overrides', help='override in all of them')
    parser.add_argument('--budget', type=float, metavar='SECONDS',
                        help='of each stage of the whole trainings (what the configuration says)')
    parser.add_argument('--rounds', type=positive, default=5, metavar='N',
                        help='in each of which every variant has its turn (%(default)s)')
    parser.add_argument('--turn', type=float, default=4.0, metavar='SECONDS',
                        help='of each turn, in whole steps (%(default)g)')
    parser.add_argument('--compile', action=argparse.BooleanOptionalAction, default=True,
                        help='time compiled networks too, where there is a compiler')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result there')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure one configuration after the other."""
    from implicit_relocalizer.evaluation.records import TRAINING_KIND, write_json
    from implicit_relocalizer.evaluation.speed.training_text import describe_training
    from implicit_relocalizer.evaluation.versions import find_versions
    from implicit_relocalizer.training.configuration_file import load_configuration
    names = options.config or list(CONFIGS)
    configs = {Path(name).stem: load_configuration(find_config(name), options.overrides)
               for name in names}
    scene = read_scene_argument(options)
    result: dict[str, Any] = {
        'kind': TRAINING_KIND, 'scene': scene.name, 'split': options.split,
        'image_size': list(scene.image_size), 'hardware': _hardware(configs),
        'versions': find_versions(), 'configurations': {}}
    for name, config in configs.items():
        logger.info('%s ...', name)
        result['configurations'][name] = _measure(scene, config, options)
        if options.json:
            write_json(options.json, result)  # those that are done, should the next one fail
    print(describe_training(result))
    return 0


def _measure(scene: Any, config: Any, options: argparse.Namespace) -> dict[str, Any]:
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.training.training_speed import SpeedOptions, measure_training
    with tempfile.TemporaryDirectory() as folder:
        return measure_training(
            scene, config, Path(folder), measure_accuracy, SpeedOptions(
                rounds=options.rounds, turn_s=options.turn, compile=options.compile,
                budget_s=options.budget))


def _hardware(configs: dict[str, Any]) -> dict[str, Any]:
    from implicit_relocalizer.evaluation.hardware import describe_hardware
    from implicit_relocalizer.training.precision import choose_device
    return describe_hardware(choose_device(next(iter(configs.values())).device))
