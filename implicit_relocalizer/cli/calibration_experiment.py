# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer calibration-experiment`: a calibration from every frame of a scene."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_relocalizer.cli.calibrate import add_options, calibration_options, describe
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.cli.train import find_config

if TYPE_CHECKING:
    from implicit_relocalizer.data.frames import Scene

logger = logging.getLogger(__name__)


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'calibration-experiment',
        help='calibrate on every frame of a scene, each held out once',
        description='Trains FOLDS models, each without every FOLDS-th frame, asks each about the '
                    'frames that it did not learn, and calibrates by all of these answers '
                    'together: more than one split holds. What is printed was checked on the '
                    'frames of one model after the other, by what the others had said. A training '
                    'that was interrupted is resumed.')
    add_scene_arguments(parser)
    add_options(parser)
    parser.add_argument('--folds', type=int, default=8, help='(%(default)s)')
    parser.add_argument('--config', default='landmarks', help='of the trainings (%(default)s)')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        dest='overrides', help='override of the trainings')
    parser.add_argument('--output', type=Path, default=Path('runs/calibration'), metavar='FOLDER',
                        help='run folders (%(default)s)')
    parser.add_argument('--out', type=Path, required=True, metavar='MODEL',
                        help='the first of the models, calibrated')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, ask, calibrate as the options say."""
    from implicit_relocalizer.data.scenes import read_scene
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.evaluation.calibrating import ask_part, fit_and_store
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.localization.model_runner import choose_device
    from implicit_relocalizer.network.calibration import start_anew
    from implicit_relocalizer.network.model_file import load_model
    from implicit_relocalizer.training.configuration_file import load_configuration
    from implicit_relocalizer.training.trainer import train_scene
    asked = calibration_options(options)
    scene = read_scene_argument(options)
    if not 2 <= options.folds <= len(scene.frames) // 2:
        raise ValueError(f'--folds {options.folds}: {scene.root} has {len(scene.frames)} frames; '
                         f'at least 2 folds of 2 frames are needed')
    others = [read_scene(path) for path in options.elsewhere]
    config = load_configuration(find_config(options.config), [
        *options.overrides, f'seed={options.seed}', f'device={options.device}'])
    device = choose_device(options.device)
    samples = []
    for index in range(options.folds):
        fold = hold_out(scene, index, options.folds)
        run_dir = options.output / f'{scene.name}__{index}_of_{options.folds}'
        trained = train_scene(fold, config, run_dir, measure_accuracy)
        logger.info('fold %d of %d: held out %.1f cm', index + 1, options.folds,
                    100.0 * trained['test']['median_translation_m'])
        module, metadata = load_model(run_dir / 'model.pt', device)
        start_anew(module.calibration, metadata.position_min_m, metadata.position_max_m)
        samples.append(ask_part(module, metadata, fold.split('test'), fold, others, index,
                                options.folds, asked, device))
    module, metadata = load_model(
        options.output / f'{scene.name}__0_of_{options.folds}' / 'model.pt', device)
    start_anew(module.calibration, metadata.position_min_m, metadata.position_max_m)
    result = fit_and_store(module, metadata, samples, len(scene.frames), scene, others,
                           options.out, asked)
    print(describe(result))
    print(f'\n{options.out}')
    if options.json:
        write_json(options.json, {**result, 'folds': options.folds})
        print(options.json)
    return 0


def hold_out(scene: Scene, index: int, folds: int) -> Scene:
    """The scene with every `folds`-th frame, from `index` on, held out and all others learned."""
    return replace(scene, frames=tuple(
        replace(frame, split='test' if number % folds == index else 'train')
        for number, frame in enumerate(scene.frames)))
