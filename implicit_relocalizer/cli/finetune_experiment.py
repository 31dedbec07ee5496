# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer finetune-experiment`: what positions alone add to a trained model.

The first part of a scene's training frames is learned with whole poses, the rest afterwards with
positions alone (and images of the first part, without labels, lest they are forgotten); held-out
frames of the whole scene are measured before and after.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.experiment import find_plan, read_planned_scene
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.cli.train import find_config

logger = logging.getLogger(__name__)

FOLDER = 'finetuning'
LABELS = {'before': 'first part with poses', 'after': '+ the rest with positions alone'}


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'finetune-experiment', help='measure what fine-tuning with positions alone adds',
        description='Each run leaves two JSONs, before and after, and is not run again while they '
                    'are there; an interrupted training is resumed.')
    parser.add_argument('--plan', default='baselines', metavar='NAME',
                        help='whose scenes are used, a YAML file or one of config/experiments '
                             '(%(default)s)')
    parser.add_argument('--scene', action='append', default=[], metavar='SCENE',
                        help='only this scene of the plan (may be repeated)')
    parser.add_argument('--seed', action='append', default=[], type=int, metavar='N',
                        help='(0, 1 and 2; may be repeated)')
    parser.add_argument('--first', type=float, default=0.5, metavar='SHARE',
                        help='of the training frames with whole poses (%(default)s)')
    parser.add_argument('--config', default='landmarks', help='of the training (%(default)s)')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        dest='overrides', help='override of the training')
    parser.add_argument('--set-finetune', action='append', default=[], metavar='KEY=VALUE',
                        dest='finetune_overrides', help='override of the fine-tuning')
    parser.add_argument('--forget', action='store_true',
                        help='fine-tune without the images of the first part, which are otherwise '
                             'used without any labels')
    parser.add_argument('--data', type=Path, default=Path('../shared/data'), metavar='FOLDER',
                        help='what the paths of scenes are relative to (%(default)s)')
    parser.add_argument('--output', type=Path, default=Path('runs/experiments'), metavar='FOLDER',
                        help='run folders and rendered places (%(default)s)')
    parser.add_argument('--benchmarks', type=Path, default=Path('benchmarks'), metavar='FOLDER',
                        help=f'results: FOLDER/{FOLDER}/WHEN__SCENE__SEED.json (%(default)s)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run what has no result, and summarise each scene over its seeds."""
    from implicit_relocalizer.evaluation.experiment_plan import read_plan
    from implicit_relocalizer.evaluation.records import read_record, write_json
    plan = read_plan(find_plan(options.plan))
    known = {scene.name: scene for scene in plan.scenes}
    unknown = sorted(set(options.scene) - set(known))
    if unknown:
        raise ValueError(f'scene {unknown[0]!r} is not in plan {plan.name}; it has '
                         f'{", ".join(known)}')
    folder = options.benchmarks / FOLDER
    for name in options.scene or known:
        records: dict[str, list[dict[str, Any]]] = {when: [] for when in LABELS}
        for seed in options.seed or (0, 1, 2):
            files = {when: folder / f'{when}__{name}__{seed}.json' for when in LABELS}
            if not all(file.exists() for file in files.values()):
                logger.info('%s, seed %d', name, seed)
                for when, record in _run_one(known[name], seed, options).items():
                    write_json(files[when], record)
            for when, file in files.items():
                records[when].append(read_record(file))
        print(summarise(name, records))
    return 0


def summarise(scene: str, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Held-out medians before and after: mean over the seeds, least and most."""
    lines = []
    for when, several in records.items():
        parts = []
        for key, factor, unit in (('median_translation_m', 100.0, ' cm'),
                                  ('median_rotation_deg', 1.0, '°')):
            values = [factor * record['test'][key] for record in several]
            parts.append(f'{statistics.fmean(values):.2f}{unit} '
                         f'({min(values):.2f} to {max(values):.2f})')
        lines.append(f'{scene}, {LABELS[when]}: held-out median {", ".join(parts)}')
    return '\n'.join(lines)


def _run_one(planned: Any, seed: int, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Train on the first part, fine-tune on the rest: the records before and after."""
    from implicit_relocalizer.data.selection import select_training_frames
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.training.configuration_file import load_configuration
    from implicit_relocalizer.training.finetune import finetune_model
    from implicit_relocalizer.training.finetune_configuration import load_finetune_configuration
    from implicit_relocalizer.training.trainer import train_scene
    scene = read_planned_scene(planned, options.data, options.output / 'places')
    parts = {'first': select_training_frames(scene, f'first:{options.first}'),
             'rest': select_training_frames(scene, f'last:{1.0 - options.first}')}
    config = load_configuration(find_config(options.config), [
        *options.overrides, f'seed={seed}', f'device={options.device}'])
    run_dir = options.output / FOLDER / f'{planned.name}__{seed}'
    trained = train_scene(parts['first'], config, run_dir, measure_accuracy)
    models = {'before': run_dir / 'model.pt', 'after': run_dir / 'finetuned.pt'}
    tuned = finetune_model(
        models['before'], parts['rest'], 'position',
        load_finetune_configuration(options.finetune_overrides), models['after'],
        measure_accuracy, seed, options.device,
        known_frames=() if options.forget else parts['first'].split('train'))
    seconds = {'before': trained['training_seconds'], 'after': tuned['wall_seconds']}
    return {when: {**_measure(models[when], scene, parts, planned, options.device),
                   'row': when, 'label': LABELS[when], 'seed': seed, 'first': options.first,
                   'known_frames': tuned['known_frames'],
                   'training_seconds': seconds[when], 'wall_seconds': seconds[when],
                   'finetuning': tuned['settings'], 'base_configuration': options.config,
                   'configuration': trained['configuration']} for when in LABELS}


def _measure(model: Path, scene: Any, parts: Mapping[str, Any], planned: Any,
             device_name: str) -> dict[str, Any]:
    """A model's errors on all training frames, on each part of them, and on held-out frames."""
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.evaluation.model_evaluation import (
        describe_circumstances,
        describe_model,
    )
    from implicit_relocalizer.localization.model_runner import choose_device
    from implicit_relocalizer.network.model_file import load_model
    from implicit_relocalizer.training.plan import spread_frames
    device = choose_device(device_name)
    module, metadata = load_model(model, device)
    frames = {'train': scene.split('train'), **{f'train_{name}': part.split('train')
                                               for name, part in parts.items()}}
    return {'kind': 'experiment', 'experiment': FOLDER,
            **describe_circumstances(scene, planned.split, planned.format, device),
            'model': describe_model(model, metadata),
            **{name: measure_accuracy(module, spread_frames(chosen, 64), device)
               for name, chosen in frames.items()},
            'test': measure_accuracy(module, scene.split('test'), device)}
