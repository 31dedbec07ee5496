# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer train`: what it prints, where it writes, and the curves it leaves."""

import contextlib
import io
import json
import shutil
import sys
import time

import pytest
import yaml
from box_room import write_box_room
from training_runs import curves_of, parts_of_loss

from implicit_relocalizer.cli import main
from implicit_relocalizer.network.model_file import load_model
from implicit_relocalizer.training.configuration_file import load_configuration
from implicit_relocalizer.training.stage_log import StageLog

SMALL = ['--config', 'mapping', '--set', 'input_width=64', '--set', 'mapping.iterations=3',
         '--set', 'head.width=16',
         '--set', 'mapping.views_per_image=1', '--set', 'mapping.points_per_view=20',
         '--set', 'validation_fraction=0.25', '--set', 'device=cpu',
         '--set', 'validation_every_s=1e-9']


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    return write_box_room(tmp_path_factory.mktemp('scene') / 'room', 6, held_out_every=3)


@pytest.fixture(scope='module')
def here(tmp_path_factory):
    """The working folder."""
    folder = tmp_path_factory.mktemp('here')
    with pytest.MonkeyPatch.context() as monkey:
        monkey.chdir(folder)
        yield folder


@pytest.fixture(scope='module')
def run_dir(scene, here):
    """A run whose model was asked for elsewhere; what it printed is in the folder."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(['train', str(scene), '--out', 'maps/office.pt', *SMALL]) == 0
    (here / 'printed').write_text(printed.getvalue())
    return here / 'maps' / 'office_run'


def test_the_model_goes_where_it_was_asked_for_and_the_run_beside_it(run_dir, here):
    assert load_model(here / 'maps' / 'office.pt')[1].scene == 'room'
    assert (run_dir / 'model.pt').read_bytes() == (here / 'maps' / 'office.pt').read_bytes()
    header, *rows, model = (here / 'printed').read_text().splitlines()
    assert header.split()[0] == 'frames' and 'recall' in header
    assert [row.split()[0] for row in rows] == ['train', 'validation', 'test']
    assert all('cm' in row and '°' in row and '%' in row for row in rows)
    assert model.startswith('maps/office.pt: ')


def test_the_result_and_the_model_tell_their_circumstances(run_dir, here, scene):
    result = json.loads((run_dir / 'result.json').read_text())
    for part in ('train', 'validation', 'test'):
        assert {'frames', 'median_translation_m', 'median_rotation_deg', 'p90_translation_m',
                'recall'} <= set(result[part])
    assert (result['scene'], result['split'], result['seed']) == ('room', 'standard', 0)
    assert result['hardware']['device'] == 'cpu' and result['versions']['torch']
    assert result['wall_seconds'] >= result['training_seconds'] > 0
    assert result['configuration']['mapping']['iterations'] == 3
    record = json.loads((run_dir / 'run.json').read_text())
    assert record['starts'][0]['command'] == sys.argv and 'revision' in record['versions']
    assert record['scene_path'] == str(scene)
    training = load_model(here / 'maps' / 'office.pt')[1].training
    assert training['split'] == 'standard' and len(training['train_frames_sha256']) == 64


def test_the_curves_are_there_for_tensorboard(run_dir):
    curves = curves_of(run_dir, 'mapping')
    assert {'loss', 'median_error_px', 'learning_rate', 'points_per_second',
            'validation/median_translation_m', 'validation/median_rotation_deg'} <= set(curves)
    [(step, loss)] = curves['loss']
    result = json.loads((run_dir / 'result.json').read_text())
    assert (step, loss) == (3, pytest.approx(result['history']['mapping'][0][2]))
    weights = result['configuration']['mapping']
    parts = parts_of_loss(curves)
    assert set(parts) == {'reprojection', 'consistency', 'likelihood'}
    assert sum(weights[f'{name}_weight'] * value for name, [value] in parts.items()) == (
        pytest.approx(loss, rel=1e-4))


def test_steps_that_a_kill_took_back_are_not_shown_twice(tmp_path):
    with StageLog(tmp_path, 'mapping', 1) as log:
        for step in (100, 200, 300, 400):
            log.add(step, {'loss': 1.0})
    time.sleep(1.1)  # TensorBoard reads files in the order of the second they were begun in
    with StageLog(tmp_path, 'mapping', 251) as log:  # resumed from a checkpoint at step 250
        for step in (300, 400, 500):
            log.add(step, {'loss': 2.0})
    assert curves_of(tmp_path, 'mapping')['loss'] == [
        (100, 1.0), (200, 1.0), (300, 2.0), (400, 2.0), (500, 2.0)]


def test_without_the_package_a_line_says_how_to_get_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    with caplog.at_level('INFO'), StageLog(tmp_path, 'mapping', 1) as log:
        log.add(1, {'loss': 1.0})
    assert 'pip install tensorboard' in caplog.text
    assert not (tmp_path / 'tensorboard').exists()


def test_print_config_needs_no_scene_and_prints_what_would_be_used(tmp_path, capsys):
    assert main(['train', '--print-config', '--config', 'paper', '--set', 'seed=9']) == 0
    printed = capsys.readouterr().out
    (tmp_path / 'c.yaml').write_text(printed)
    config = load_configuration(tmp_path / 'c.yaml')
    assert config.seed == 9 and config.alignment.train_encoder
    assert '# ' in printed and len(yaml.safe_load(printed)['mapping']) > 10
    assert main(['train', str(tmp_path / 'nowhere'), '--print-config']) == 0
    assert main(['train', '--print-config', '--set', 'sed=9']) == 1


def test_restart_throws_an_earlier_run_away_and_spares_other_files(run_dir, scene, tmp_path,
                                                                       capsys):
    copy = shutil.copytree(run_dir, tmp_path / 'run')
    arguments = ['train', str(scene), '--output', str(copy), *SMALL, '--set', 'seed=1']
    (copy / 'notes.txt').write_text('two hours of my life')
    assert main(arguments) == 1
    assert 'seed was 0, is 1' in capsys.readouterr().err
    assert main([*arguments, '--restart']) == 0
    assert yaml.safe_load((copy / 'config.yaml').read_text())['seed'] == 1
    assert (copy / 'notes.txt').exists(), 'an output folder may hold more than a run'


def test_a_folder_in_place_of_the_model_file_is_named_before_training(scene, tmp_path, capsys):
    assert main(['train', str(scene), '--out', str(tmp_path), *SMALL]) == 1
    error = capsys.readouterr().err
    assert f'{tmp_path}: is a folder; --out wants the name of the model file' in error
