# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer filter-experiment`: what the covariances are worth to a Kalman filter."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.evaluate import check_scene, positive
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers

_CONDITIONS = {'as_recorded': 'as recorded', 'degraded': 'degraded'}


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'filter-experiment', help='does a Kalman filter do better with the covariances of a model '
                                  'than with constant ones?',
        description='Filters the held-out frames, in their order, with simulated odometry: with '
                    'the covariances that the model states, and with a grid of constant ones. '
                    'Once as recorded, and with images blurred, dark, partly covered, noisy or '
                    'coarse.')
    parser.add_argument('model', type=Path, help='calibrated')
    add_scene_arguments(parser)
    parser.add_argument('--drives', type=positive, default=5, metavar='N',
                        help='times that the images are degraded anew (%(default)s)')
    parser.add_argument('--degraded', type=float, default=0.6, metavar='SHARE',
                        help='of the images (%(default)s)')
    parser.add_argument('--drift', type=float, nargs=3, default=(0.02, 0.5, 1.0),
                        metavar=('M', 'DEG', 'DEG'),
                        help='standard deviations of the odometry: of position and rotation after '
                             'one metre, of rotation after turning by one radian (%(default)s)')
    parser.add_argument('--seeds', type=positive, default=20, metavar='N',
                        help='times that the odometry is drawn anew (%(default)s)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result there')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the experiment as the options say."""
    from implicit_relocalizer.evaluation.degraded_camera import DegradedCamera
    from implicit_relocalizer.evaluation.filter_experiment import (
        FilterOptions,
        compare_covariances,
    )
    from implicit_relocalizer.evaluation.filtering import OdometryNoise
    from implicit_relocalizer.evaluation.locating import locate_frames
    from implicit_relocalizer.evaluation.model_evaluation import (
        describe_circumstances,
        describe_model,
        progress_of,
    )
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.localization.estimate import least_confidence
    from implicit_relocalizer.localization.model_runner import choose_device
    from implicit_relocalizer.network.model_file import load_model
    if not 0.0 <= options.degraded <= 1.0 or min(options.drift) <= 0.0:
        raise ValueError(f'--degraded {options.degraded:g} --drift '
                         f'{" ".join(f"{value:g}" for value in options.drift)}: a share is from '
                         f'0 to 1, and odometry without drift needs no filter')
    device = choose_device(options.device)
    module, metadata = load_model(options.model, device)
    scene = read_scene_argument(options)
    check_scene(scene, metadata)
    threshold = least_confidence(-1.0, metadata.calibration)
    given = FilterOptions(OdometryNoise(*options.drift), tuple(range(options.seeds)))

    def measure(shares_and_seeds: list[tuple[float, int]], name: str) -> dict[str, Any]:
        return compare_covariances([locate_frames(
            DegradedCamera(module, share, seed),
            progress_of(scene.split('test'), f'{name} held-out', True), device)
            for share, seed in shares_and_seeds], threshold, given)

    result = {
        'kind': 'filter',
        **describe_circumstances(scene, options.split, getattr(options, 'format', None), device),
        'model': describe_model(options.model, metadata), 'threshold': threshold,
        'is_calibrated': bool(metadata.calibration), 'degraded_share': options.degraded,
        'drives': options.drives,
        'as_recorded': measure([(0.0, 0)], _CONDITIONS['as_recorded']),
        'degraded': measure([(options.degraded, 1 + seed) for seed in range(options.drives)],
                            _CONDITIONS['degraded'])}
    print(describe(result))
    if options.json:
        write_json(options.json, result)
        print(f'\n{options.json}')
    return 0


def describe(result: Mapping[str, Any]) -> str:
    """The result for a person."""
    parts = [result[name] for name in _CONDITIONS]
    lines = [f'{result["scene"]}, split {result["split"]}: root mean square errors',
             _row('', _CONDITIONS.values()),
             _row('images (accepted)', (f'{part["frames"]} ({part["accepted"]})'
                                        for part in parts))]
    lines += [_row(label, (_errors(part[key]) for part in parts)) for label, key in (
        ('answers', 'answers'), ('odometry from the first one on', 'odometry_alone'),
        ('filter, the model\'s covariances', 'own'),
        ('filter, constant of the right size', 'right_size'),
        ('filter, the errors\' own matrix', 'matrix'))]
    lines.append(_row('filter, best constants in hindsight', (
        _errors({'position_rms_m': best['position']['position_rms_m'],
                 'rotation_rms_deg': best['rotation']['rotation_rms_deg']})
        for best in (part['best_constant'] for part in parts))))
    lines.append(_row('constants that do worse', (_shares(part['constants_worse'])
                                                  for part in parts)))
    lines.append(_row('runs won against the best ones', (_shares(part['runs_won'])
                                                         for part in parts)))
    return '\n'.join(lines)


def _row(label: str, cells: Any) -> str:
    return (f'  {label:<38}' + ''.join(f'{cell:>20}' for cell in cells)).rstrip()


def _errors(part: Mapping[str, float]) -> str:
    return f'{100 * part["position_rms_m"]:.2f} cm {part["rotation_rms_deg"]:.3f}°'


def _shares(part: Mapping[str, float]) -> str:
    return f'{100 * part["position"]:.0f} % / {100 * part["rotation"]:.0f} %'
