# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer calibrate`: make confidence a probability and the covariance hold."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_relocalizer.cli.evaluate import check_scene
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers

if TYPE_CHECKING:
    from implicit_relocalizer.evaluation.calibrating import CalibrationOptions

logger = logging.getLogger(__name__)


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'calibrate', help='make confidence a probability and the covariance hold, by the '
                          'held-out frames of a scene')
    parser.add_argument('model', type=Path, help='made by `train`')
    add_scene_arguments(parser)
    parser.add_argument('--out', type=Path, help='model file to write (MODEL itself)')
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that calibrates has."""
    parser.add_argument('--elsewhere', type=Path, action='append', default=[], metavar='SCENE',
                        help='another place, whose images must be refused (may be repeated)')
    parser.add_argument('--bound', type=float, nargs=2, default=(0.25, 5.0),
                        metavar=('M', 'DEG'), help='confidence is the probability that an answer '
                                                   'is within these (%(default)s)')
    parser.add_argument('--false-accepts', type=float, default=0.01, metavar='SHARE',
                        help='how large a share of wrong answers may pass (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='(%(default)s)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result there')


def calibration_options(options: argparse.Namespace) -> CalibrationOptions:
    """What to calibrate for.

    Raises:
        ValueError: bounds or shares that mean nothing.
    """
    from implicit_relocalizer.evaluation.calibrating import CalibrationOptions
    bound_m, bound_deg = options.bound
    if not (bound_m > 0.0 and bound_deg > 0.0 and 0.0 <= options.false_accepts < 1.0):
        raise ValueError(f'--bound {bound_m:g} {bound_deg:g}, --false-accepts '
                         f'{options.false_accepts:g}: bounds have to be positive, a share is from '
                         f'0 to below 1')
    if not options.elsewhere:
        logger.warning('no --elsewhere SCENE: what is to be refused is learned from shuffled and '
                       'spoilt images alone')
    return CalibrationOptions(bound_m, bound_deg, options.false_accepts, seed=options.seed)


def run(options: argparse.Namespace) -> int:
    """Calibrate as the options say."""
    from implicit_relocalizer.data.scenes import read_scene
    from implicit_relocalizer.evaluation.calibrating import calibrate_model
    from implicit_relocalizer.evaluation.provenance import find_doubts
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.localization.model_runner import choose_device
    from implicit_relocalizer.network.model_file import read_metadata
    asked = calibration_options(options)
    metadata = read_metadata(options.model)
    scene = read_scene_argument(options)
    check_scene(scene, metadata)
    for doubt in find_doubts(metadata, scene, options.split):
        logger.warning(doubt)
    out = options.out or options.model
    result = calibrate_model(
        options.model, scene, [read_scene(path) for path in options.elsewhere], out, asked,
        choose_device(options.device))
    print(describe(result))
    print(f'\n{out}')
    if options.json:
        write_json(options.json, result)
        print(options.json)
    return 0


def describe(result: dict[str, Any]) -> str:
    """The result for a person."""
    calibration = result['calibration']
    lines = [f'confidence: probability that an answer is within {calibration["bound_m"]:g} m and '
             f'{calibration["bound_deg"]:g}°; accepted from '
             f'{calibration["min_confidence"]:.3f} on',
             f'{"":34s}{"fitted on":>12s}{"left out":>12s}']
    rows = [('good answers accepted', 'good_accepted'), ('bad answers accepted', 'bad_accepted'),
            ('expected calibration error', 'expected_calibration_error')]
    parts = result['fitted'], result['checked']
    lines += [f'  {label:32s}' + ''.join(_percent(part[key]) for part in parts)
              for label, key in rows]
    lines += [f'  {name + f" within {sigma} sigma":32s}' + ''.join(
        _percent(part[name]['within'][f'{sigma}_sigma']) for part in parts)
        for name in ('position', 'rotation') for sigma in (1, 2, 3)]
    return '\n'.join(lines)


def _percent(share: float | None) -> str:
    return f'{"-" if share is None else f"{100 * share:.1f} %":>12s}'
