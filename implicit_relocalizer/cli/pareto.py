# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer pareto`: models of one place by error, time and size."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.evaluate import positive
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers

logger = logging.getLogger(__name__)


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'pareto', help='error against time and size of several models of one place',
        description='Measures the held-out error of each model again, times all of them in turns '
                    'in one process, and finds those that no other beats: in time and in size, '
                    'each with the error on the validation images, which were chosen by.')
    parser.add_argument('models', type=Path, nargs='+', metavar='MODEL',
                        help='model files, or folders of runs, such as runs/experiments/size, of '
                             'which the models of SCENE and its split are taken')
    add_scene_arguments(parser)
    parser.add_argument('--threads', type=positive, nargs='+', default=[1, 2], metavar='N',
                        help='CPU threads to time with, one after the other (1 2)')
    parser.add_argument('--rounds', type=positive, default=40, metavar='N',
                        help='how often each model is timed (%(default)s)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='cpu')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result there')
    parser.add_argument('--picture', type=Path, metavar='FILE', help='draw it there')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the result and the picture."""
    from tqdm import tqdm

    from implicit_relocalizer.evaluation.pareto import (
        WARM_UP_ROUNDS,
        find_models,
        measure_pareto,
    )
    from implicit_relocalizer.evaluation.pareto_text import describe_pareto
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.localization.model_runner import ModelRunner, choose_device
    scene = read_scene_argument(options)
    models = find_models(options.models, scene)
    threads = _possible_threads(options.threads)
    total = len(models) + len(threads) * (options.rounds + WARM_UP_ROUNDS)
    with tqdm(total=total, desc=f'{len(models)} models', disable=None) as bar:
        result = measure_pareto(models, scene, options.split, ModelRunner,
                                choose_device(options.device), threads, options.rounds,
                                progress=lambda: bar.update())
    print(describe_pareto(result))
    if options.json:
        write_json(options.json, result)
    if options.picture:
        _draw(options.picture, result)
    return 0


def _draw(path: Path, result: dict[str, Any]) -> None:
    from implicit_relocalizer.evaluation.pareto_picture import draw_pareto
    draw_pareto(path, result)


def _possible_threads(asked: list[int]) -> list[int]:
    """Those for which this process has cores: more threads than cores say nothing."""
    from implicit_relocalizer.evaluation.hardware import describe_hardware
    cores = describe_hardware()['cores']
    possible = [count for count in dict.fromkeys(asked) if count <= cores]
    if len(possible) < len(set(asked)):
        logger.warning('this process may use %d cores: %s threads are not timed', cores,
                       ', '.join(str(count) for count in asked if count > cores))
    if not possible:
        raise ValueError(f'--threads {min(asked)}: this process may use {cores} cores')
    return possible
