# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer experiment`: train and measure what a plan lists, once each."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.cli.train import find_config
from implicit_relocalizer.resources import share_path

logger = logging.getLogger(__name__)


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'experiment', help='train and measure the rows of a plan that have no result yet',
        description='Runs what config/experiments/NAME.yaml lists. Each run leaves one JSON, and '
                    'is not run again while that is there; an interrupted run is resumed.')
    parser.add_argument('plan', metavar='NAME',
                        help='a YAML file, or the name of one in config/experiments')
    parser.add_argument('--only', action='append', default=[], metavar='ROW',
                        help='only this row (may be repeated)')
    parser.add_argument('--scene', action='append', default=[], metavar='SCENE',
                        help='only this scene of the plan (may be repeated)')
    parser.add_argument('--seed', action='append', default=[], type=int, metavar='N',
                        help='only this seed (may be repeated)')
    parser.add_argument('--data', type=Path, default=Path('../shared/data'), metavar='FOLDER',
                        help='what the paths of scenes are relative to (%(default)s)')
    parser.add_argument('--output', type=Path, default=Path('runs/experiments'), metavar='FOLDER',
                        help='run folders and rendered places (%(default)s)')
    parser.add_argument('--benchmarks', type=Path, default=Path('benchmarks'), metavar='FOLDER',
                        help='results: FOLDER/NAME/ROW__SCENE__SEED.json (%(default)s)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--list', action='store_true', help='say what is done and what is not')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run what has no result; a run that fails does not stop the others."""
    from implicit_relocalizer.evaluation.experiment_plan import read_plan
    plan = read_plan(find_plan(options.plan))
    folder = options.benchmarks / plan.name
    failures = []
    for planned in plan.runs(options.only, options.scene, options.seed):
        file = folder / f'{planned.name}.json'
        if options.list:
            print(f'{"done" if file.exists() else "missing":8s}{planned.name}')
            continue
        config = load_planned_configuration(planned, options.device)
        if file.exists():
            warn_if_stale(file, config)
            continue
        logger.info('%s: %s', plan.name, planned.name)
        try:
            record = _run_one(plan, planned, config, options)
        except (ValueError, RuntimeError, OSError) as error:
            if options.debug:
                raise
            logger.error('%s: %s', planned.name, error)
            failures.append(planned.name)
            continue
        from implicit_relocalizer.evaluation.records import write_json
        write_json(file, record)
        print(f'{file}: {_brief(record)}')
    if failures:
        raise RuntimeError(f'{len(failures)} runs failed: {", ".join(failures)}; the reasons are '
                           f'above')
    return 0


def find_plan(name: str) -> Path:
    """A YAML file as given, or by name from the plans that the package brings."""
    if name.endswith(('.yaml', '.yml')):
        return Path(name)
    return share_path(f'config/experiments/{name}.yaml')


def load_planned_configuration(planned: Any, device: str = 'auto') -> Any:
    """The training configuration of a `PlannedRun`."""
    from implicit_relocalizer.training.configuration_file import load_configuration
    return load_configuration(find_config(planned.row.config), [
        *planned.row.overrides, f'seed={planned.seed}', f'device={device}'])


def warn_if_stale(file: Path, config: Any) -> bool:
    """Whether a result was made with other settings than those planned now; says so."""
    from implicit_relocalizer.evaluation.records import read_record
    from implicit_relocalizer.training.configuration_file import configuration_to_dict
    made, planned = read_record(file).get('configuration', {}), configuration_to_dict(config)
    changed = [f'{key} was {old}, is {new}' for key, old, new in _differences(made, planned, '')
               if key not in ('device', 'validation_every_s', 'checkpoint_every_s')]
    if changed:
        logger.warning('%s: made with another configuration (%s); remove it to run it again',
                       file, '; '.join(changed[:3]))
    return bool(changed)


def _differences(made: Mapping[str, Any], planned: Mapping[str, Any], prefix: str,
                 ) -> list[tuple[str, Any, Any]]:
    """Settings that both know and that differ: a setting that came later had its default."""
    found: list[tuple[str, Any, Any]] = []
    for key in made.keys() & planned.keys():
        old, new = made[key], planned[key]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new, f'{prefix}{key}.')
        elif old != new and list(old if isinstance(old, (list, tuple)) else [old]) != list(
                new if isinstance(new, (list, tuple)) else [new]):
            found.append((prefix + key, old, new))
    return sorted(found, key=lambda item: item[0])


def _run_one(plan: Any, planned: Any, config: Any, options: argparse.Namespace) -> dict[str, Any]:
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.evaluation.model_evaluation import (
        EvaluationOptions,
        describe_circumstances,
        describe_model,
        evaluate_module,
    )
    from implicit_relocalizer.evaluation.provenance import digest_names
    from implicit_relocalizer.localization.model_runner import choose_device
    from implicit_relocalizer.network.model_file import load_model
    from implicit_relocalizer.training.configuration_file import configuration_to_dict
    from implicit_relocalizer.training.trainer import train_scene
    start_s = time.monotonic()
    scene = read_planned_scene(planned.scene, options.data, options.output / 'places')
    device = choose_device(config.device)
    circumstances = describe_circumstances(scene, planned.scene.split, planned.scene.format,
                                           device)
    run_dir = options.output / plan.name / planned.name
    trained = train_scene(
        scene, config, run_dir, measure_accuracy, circumstances={
            **circumstances, 'train_frames_sha256': digest_names(scene.split('train'))})
    module, metadata = load_model(run_dir / 'model.pt', device)
    measured = evaluate_module(module, scene, device, EvaluationOptions(
        plan.max_train_frames, variants=planned.row.variants))
    return {
        'kind': 'experiment', 'experiment': plan.name, 'row': planned.row.name,
        'label': planned.row.label, 'seed': planned.seed, **circumstances,
        'model': describe_model(run_dir / 'model.pt', metadata),
        'training_seconds': trained['training_seconds'], 'validation': trained.get('validation'),
        **measured, 'wall_seconds': max(time.monotonic() - start_s, trained['training_seconds']),
        'base_configuration': planned.row.config, 'overrides': list(planned.row.overrides),
        'configuration': configuration_to_dict(config)}


def read_planned_scene(planned: Any, data: Path, places: Path) -> Any:
    """The scene of a `PlannedScene`, rendered first where it has to be."""
    if planned.synthesize is not None:
        from implicit_relocalizer.data.synthetic import synthesize
        # in a process of its own: after rendering in this one, torch once ended it by SIGSEGV
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
            return pool.submit(synthesize, places / planned.name, **planned.synthesize).result()
    from implicit_relocalizer.data.scenes import read_scene
    return read_scene(data / planned.path, planned.format, planned.split)


def _brief(record: Mapping[str, Any]) -> str:
    def part(name: str) -> str:
        summary = record[name]
        if summary['median_translation_m'] is None:
            return f'{name} no answer'
        return (f'{name} {100 * summary["median_translation_m"]:.1f} cm '
                f'{summary["median_rotation_deg"]:.2f}°')
    return f'{part("train")}, {part("test")} after {record["training_seconds"]:.0f} s'
