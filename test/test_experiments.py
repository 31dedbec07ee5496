# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Plans of experiments, their runs, and the tables that are made from the results."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from box_room import write_box_room

from implicit_relocalizer.cli import main
from implicit_relocalizer.cli.experiment import load_planned_configuration
from implicit_relocalizer.cli.tables import tables_of
from implicit_relocalizer.evaluation.experiment_plan import PlanError, read_plan
from implicit_relocalizer.evaluation.records import RecordError, read_record, write_json
from implicit_relocalizer.evaluation.tables import make_tables

ROOT = Path(__file__).resolve().parents[1]
PLANS = sorted((ROOT / 'config' / 'experiments').glob('*.yaml'))
TINY = {
    'title': 'Tiny', 'about': 'Nothing to learn here.', 'config': 'mapping', 'seeds': [0],
    'max_train_frames': 2,
    'set': ['input_width=64', 'mapping.iterations=3', 'head.width=16',
            'mapping.views_per_image=1', 'mapping.points_per_view=20', 'validation_fraction=0.25'],
    'scenes': {'absent': {'path': 'absent'}, 'room': {'path': 'room', 'format': 'folder'}},
    'rows': {'all': {'label': 'everything', 'variants': True},
             'no-zoom': {'label': 'without zoom', 'set': ['augmentation.zoom=1'],
                         'seeds': [1]}}}


def write_plan(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
    return path


def record(row='ours', seed=0, scene='room', split='standard', cm=1.0, **changes) -> dict:
    def summary(factor):
        return {'frames': 10, 'frames_answered': 10, 'median_translation_m': factor * cm / 100,
                'median_rotation_deg': 0.1 * factor, 'p90_translation_m': 0.1,
                'recall': {'5cm_5deg': 0.5, '10cm_5deg': 0.75, '25cm_5deg': 1.0 / factor}}
    return {'kind': 'experiment', 'row': row, 'label': f'label of {row}', 'seed': seed,
            'scene': scene, 'split': split, 'train': summary(1), 'test': summary(2),
            'training_seconds': 90.0, 'milliseconds_per_image': 20.0, 'wall_seconds': 100.0,
            'model': {'bytes': 2_500_000},
            'hardware': {'processor': 'abacus', 'cores': 2, 'threads': 1, 'gpu': None},
            'versions': {'torch': '2.12'}, **changes}


@pytest.mark.parametrize('path', PLANS, ids=[path.stem for path in PLANS])
def test_every_plan_can_be_run(path):
    plan = read_plan(path)
    runs = list(plan.runs())
    assert len({run.name for run in runs}) == len(runs) > 0
    for run in runs:
        assert load_planned_configuration(run).seed == run.seed
    assert plan.seeds == (0, 1, 2)
    assert {(scene.path, scene.split) for scene in plan.scenes} >= {
        ('two_rooms', 'standard'), ('two_rooms', 'hard'), (None, 'standard')}


@pytest.mark.parametrize(('changes', 'message'), [
    ({'row': {}}, "unknown key 'row'"),
    ({'rows': {}}, 'rows is empty'),
    ({'seeds': ['one']}, 'expected whole numbers'),
    ({'rows': {'a__b': {'label': 'x'}}}, 'no name for a file'),
    ({'rows': {'a': {'set': []}}}, 'rows.a: has no label'),
    ({'rows': {'a': {'label': 'x', 'scenes': ['cellar']}}}, "names 'cellar'"),
    ({'scenes': {'room': {'split': 'hard'}}}, 'scenes.room needs either path or synthesize'),
    ({'title': 3}, 'title is 3, expected str'),
])
def test_mistakes_in_plans_are_named(tmp_path, changes, message):
    with pytest.raises(PlanError, match=r'tiny\.yaml') as raised:
        read_plan(write_plan(tmp_path / 'tiny.yaml', **changes))
    assert message in str(raised.value)


@pytest.fixture(scope='module')
def experiment(tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder with an experiment that was run, and the command; one scene is not there."""
    folder = tmp_path_factory.mktemp('experiment')
    write_box_room(folder / 'room', 8, held_out_every=4)
    plan = write_plan(folder / 'tiny.yaml')
    command = ['experiment', str(plan), '--data', str(folder), '--device', 'cpu',
               '--output', str(folder / 'runs'), '--benchmarks', str(folder / 'benchmarks')]
    assert main(command) == 1, 'the absent scene'
    return folder, command


def test_an_experiment_leaves_a_result_of_every_run_and_failures_stop_nothing(
        experiment, capsys):
    folder, command = experiment
    results = folder / 'benchmarks' / 'tiny'
    assert sorted(path.name for path in results.iterdir()) == [
        'all__room__0.json', 'no-zoom__room__1.json']
    made = read_record(results / 'all__room__0.json')
    assert set(made['variants']['kabsch']) == {'train', 'test'}
    assert made['train']['frames'] == 2 and made['configuration']['input_width'] == 64
    assert made['hardware']['processor'] and 'revision' in made['versions']
    assert made['wall_seconds'] >= made['training_seconds'] > 0
    assert read_record(results / 'no-zoom__room__1.json')['configuration']['seed'] == 1
    page = make_tables(folder / 'benchmarks', {'tiny': read_plan(Path(command[1]))})
    assert '## Tiny' in page and '| without zoom | 1 |' in page and 'pose by Kabsch' in page
    assert 'Planned and not run: `all__absent__0`, `no-zoom__absent__1`' in page
    assert main([*command, '--scene', 'absent', '--only', 'all']) == 1
    assert '1 runs failed: all__absent__0' in capsys.readouterr().err


def test_an_experiment_runs_once_and_notices_a_changed_plan(experiment, tmp_path, capsys, caplog):
    folder, command = experiment
    file = folder / 'benchmarks' / 'tiny' / 'all__room__0.json'
    before = file.stat().st_mtime_ns
    assert main([*command, '--scene', 'room']) == 0
    assert 'another configuration' not in caplog.text
    changed = write_plan(tmp_path / 'tiny.yaml', set=[*TINY['set'], 'head.blocks=1'])
    with caplog.at_level(logging.WARNING):
        assert main(['experiment', str(changed), *command[2:], '--scene', 'room']) == 0
    assert 'head.blocks was 2, is 1' in caplog.text and 'remove it' in caplog.text
    assert file.stat().st_mtime_ns == before, 'it had a result'

    capsys.readouterr()
    assert main([*command, '--list', '--seed', '1']) == 0
    assert capsys.readouterr().out.split() == [
        'missing', 'no-zoom__absent__1', 'done', 'no-zoom__room__1']
    assert main([*command, '--only', 'some']) == 1
    assert "no row 'some'; it has all, no-zoom" in capsys.readouterr().err
    assert main([*command, '--seed', '7']) == 1
    assert 'no seed 7; it has 0, 1' in capsys.readouterr().err


def test_tables_show_mean_and_range_side_by_side(tmp_path):
    for seed, cm in enumerate((1.0, 2.0, 6.0)):
        write_json(tmp_path / 'study' / f'ours__room__{seed}.json', record(seed=seed, cm=cm))
    write_json(tmp_path / 'study' / 'worse__room__0.json', record('worse', cm=50.0))
    write_json(tmp_path / 'sift_map' / 'room.json', record(
        kind='sift_map', row='sift_map', label='SIFT map (rival)'))
    write_json(tmp_path / 'other.json', {'not': 'a result'})
    page = make_tables(tmp_path, {})
    ours = next(line for line in page.splitlines() if line.startswith('| label of ours'))
    cells = [cell.strip() for cell in ours.strip('|').split('|')]
    assert cells[1:4] == ['3', '3.0 (1.0-6.0)', '6.0 (2.0-12.0)']
    assert cells[-4:] == ['1.5', '20', '2.5', 'A']
    study = page[page.index('## study'):]
    assert study.index('label of ours') < study.index('label of worse'), 'bad results stay in'
    assert study.index('label of worse') < study.index('SIFT map (rival)')
    assert '**A**: CPU abacus' in page


def test_tables_show_geometry_and_seeds_without_an_answer(tmp_path):
    def geometry(value):
        averages = {'median': value, 'median_weighted': value / 2,
                    'median_trusted_half': value / 4, 'mean_trusted_half': value}
        return {'world_m': averages, 'depth_relative': averages}
    with_depth = record(geometry={'train': geometry(0.04), 'test': geometry(0.08)})
    silent = record(seed=1)
    silent['test'] = {**silent['test'], 'median_translation_m': None, 'median_rotation_deg': None}
    write_json(tmp_path / 'study' / 'a.json', with_depth)
    write_json(tmp_path / 'study' / 'b.json', silent)
    page = make_tables(tmp_path, {})
    assert '| label of ours | 4.0 | 8.0 | 2.0 | 4.0 | 1.0 | 2.0 | 4.0 | 8.0 |' in page
    assert '2.0, 1 without' in page


@pytest.mark.parametrize('key', ['split', 'hardware', 'test', 'wall_seconds'])
def test_a_missing_key_is_named_with_its_file(tmp_path, key):
    values = record()
    del values[key]
    write_json(tmp_path / 'study' / 'a.json', values)
    with pytest.raises(RecordError, match=rf'a\.json: has no {key}; make the result again'):
        make_tables(tmp_path, {})


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda values: values['train'].pop('recall'), 'has no train.recall'),
    (lambda values: values['train']['recall'].pop('10cm_5deg'), 'has no 10cm_5deg'),
    (lambda values: values['hardware'].pop('processor'), 'has no processor'),
    (lambda values: values.update(test=None), 'test is None'),
])
def test_missing_parts_are_named_with_their_file(tmp_path, spoil, message):
    values = record()
    spoil(values)
    write_json(tmp_path / 'study' / 'a.json', values)
    with pytest.raises(RecordError, match=r'a\.json') as raised:
        make_tables(tmp_path, {})
    assert message in str(raised.value)


def test_fine_tuning_shows_before_above_after(tmp_path):
    for row in ('after', 'before'):
        write_json(tmp_path / 'finetuning' / f'{row}__room__0.json', record(row))
    page = make_tables(tmp_path, {})
    assert 'with positions alone' in page
    assert page.index('label of before') < page.index('label of after')


def test_times_on_a_busy_machine_are_marked(tmp_path):
    values = record()
    write_json(tmp_path / 'study' / 'a.json', values)
    assert '| 1.5 | 20 | 2.5 |' in make_tables(tmp_path, {})
    values['hardware']['load_average'] = 3.0
    write_json(tmp_path / 'study' / 'a.json', values)
    assert '| 1.5 \\* | 20 \\* | 2.5 |' in make_tables(tmp_path, {})


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / 'study').mkdir()
    (tmp_path / 'study' / 'a.json').write_text(json.dumps(record())[:50])
    with pytest.raises(RecordError, match=r'a\.json: not JSON'):
        make_tables(tmp_path, {})


def test_what_encoders_cost_stands_beside_their_accuracy(tmp_path):
    timing = {'cpu': {'encoder_ms': 3.0, 'localizer_ms': 7.0}}
    table = {'kind': 'encoders', 'input_size': [360, 240], 'cpu_threads': 1, 'rows': [
        {'encoder': 'resnet18', 'parameters': 2e6, 'model_file_bytes': 8e6, 'timing': timing}],
        'hardware': {'cpu': {'processor': 'abacus', 'gpu': None}}}
    write_json(tmp_path / 'encoders' / 'cost.json', table)
    write_json(tmp_path / 'encoders' / 'a.json', record())
    page = make_tables(tmp_path, {})
    assert '| resnet18 | 2.00 | 8.0 | 3.0 | 7.0 |' in page and '| label of ours |' in page
    del table['rows']
    write_json(tmp_path / 'encoders' / 'cost.json', table)
    with pytest.raises(RecordError, match=r'cost\.json: has no rows'):
        make_tables(tmp_path, {})


def test_no_number_is_refused_rather_than_written(tmp_path):
    write_json(tmp_path / 'a.json', {'value': 1.0})
    with pytest.raises(ValueError, match='not JSON compliant'):
        write_json(tmp_path / 'a.json', {'value': np.nan})
    assert json.loads((tmp_path / 'a.json').read_text()) == {'value': 1.0}


def test_results_page_is_what_the_command_makes(tmp_path, capsys):
    page = ROOT / 'doc' / 'results.md'
    assert page.read_text() == tables_of(ROOT / 'benchmarks'), (
        'doc/results.md is stale: run `implicit-relocalizer tables`')
    arguments = ['tables', '--benchmarks', str(ROOT / 'benchmarks'), '--output']
    assert main([*arguments, str(tmp_path / 'results.md')]) == 0
    assert main([*arguments, str(tmp_path / 'results.md'), '--check']) == 0
    (tmp_path / 'results.md').write_text('tuned by hand')
    assert main([*arguments, str(tmp_path / 'results.md'), '--check']) == 1
    assert 'run `implicit-relocalizer tables`' in capsys.readouterr().err
