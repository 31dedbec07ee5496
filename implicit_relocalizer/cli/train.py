# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer train`: from posed images to a model file."""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.resources import share_path

RUNS = Path('runs')


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'train', help='learn a place from posed images',
        epilog='Many GPUs or machines: torchrun --nproc-per-node 4 -m implicit_relocalizer.cli '
               'train SCENE ... (each process takes its share of the images; batches are per '
               'process)')
    add_scene_arguments(parser, required=False)
    parser.add_argument('--config', default='landmarks',
                        help='a YAML file, or the name of one in config/train (%(default)s)')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        dest='overrides', help='override, such as mapping.iterations=2000')
    parser.add_argument('--print-config', action='store_true',
                        help='print every setting as it would be used, and end')
    parser.add_argument('--out', type=Path, metavar='MODEL',
                        help='put the model file there, too')
    parser.add_argument('--output', type=Path, metavar='FOLDER',
                        help='run folder (runs/latest, or NAME_run with --out NAME.pt); an '
                             'interrupted run there is resumed')
    parser.add_argument('--restart', action='store_true', help='throw an earlier run away')
    parser.set_defaults(run=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """Train as the options say."""
    from implicit_relocalizer.training.configuration_file import (
        format_configuration,
        load_configuration,
    )
    config = load_configuration(find_config(options.config), options.overrides)
    if options.print_config:
        print(format_configuration(config), end='')
        return 0
    if options.scene is None:
        options.usage_error('the following arguments are required: scene')
    return _train(options, config)


def _train(options: argparse.Namespace, config: Any) -> int:
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.evaluation.model_evaluation import describe_circumstances
    from implicit_relocalizer.evaluation.provenance import digest_names
    from implicit_relocalizer.training.precision import choose_device
    from implicit_relocalizer.training.team import join_team
    from implicit_relocalizer.training.trainer import train_scene
    run_dir = choose_run_folder(options.output, options.out)
    with join_team(config.device) as team:
        if not team.is_first:
            logging.getLogger().setLevel(logging.WARNING)
        scene = read_scene_argument(options)
        circumstances = {
            **describe_circumstances(scene, options.split, options.format,
                                     choose_device(config.device)),
            'scene_path': str(options.scene),
            'train_frames_sha256': digest_names(scene.split('train'))}
        result = train_scene(scene, config, run_dir, measure_accuracy, circumstances=circumstances,
                             restart=options.restart, team=team)
        if team.is_first:
            model = run_dir / 'model.pt'
            if options.out is not None:
                model = copy_model(model, options.out)
            print(describe(result, model))
    return 0


def choose_run_folder(folder: Path | None, model: Path | None) -> Path:
    """The folder as given; without it, NAME_run beside the model file NAME.pt.

    Raises:
        ValueError: the model file is a folder, which should be known before training, not after.
    """
    if model is not None and model.is_dir():
        raise ValueError(f'{model}: is a folder; --out wants the name of the model file')
    if folder is not None or model is None:
        return folder or RUNS / 'latest'
    return model.with_name(model.stem + '_run')


def copy_model(model: Path, target: Path) -> Path:
    """Put a model file elsewhere; a model that is there already stays whole until then."""
    from implicit_relocalizer.training.durable import write_durably
    target.parent.mkdir(parents=True, exist_ok=True)
    with model.open('rb') as source:
        write_durably(target, lambda file: shutil.copyfileobj(source, file))
    return target


def describe(result: Mapping[str, Any], model: Path) -> str:
    """A table of the errors, and where the model is."""
    lines = [f'{"":12s}{"frames":>7s}{"median":>19s}{"90 %":>10s}   recall']
    for name in ('train', 'validation', 'test'):
        if name in result:
            summary = result[name]
            recall = '  '.join(f'{key.replace("_", "/").replace("deg", "°")} {100 * share:.0f} %'
                               for key, share in summary['recall'].items())
            lines.append(f'{name:12s}{summary["frames"]:7d}{_centimetres(summary, "median"):>12s}'
                         f'{_degrees(summary):>7s}{_centimetres(summary, "p90"):>10s}   {recall}')
    lines.append(f'{model}: {result["model_bytes"] / 1e6:.1f} MB after '
                 f'{result["training_seconds"]:.0f} s')
    return '\n'.join(lines)


def find_config(name: str) -> Path:
    """A YAML file as given, or by name from the configurations that the package brings."""
    if name.endswith(('.yaml', '.yml')):
        return Path(name)
    return share_path(f'config/train/{name}.yaml')


def _centimetres(summary: Mapping[str, Any], kind: str) -> str:
    value = summary[f'{kind}_translation_m']
    return 'no answer' if value is None else f'{100 * value:.1f} cm'


def _degrees(summary: Mapping[str, Any]) -> str:
    value = summary['median_rotation_deg']
    return '' if value is None else f'{value:.2f}°'
