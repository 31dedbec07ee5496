# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed at any moment go on where they were, and end as if nothing had been."""

import json
import logging
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from box_room import write_box_room
from forked_programs import program, start
from training_runs import BRIEF, train, train_command, weights_of, write_settings

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.network.model_file import load_model
from implicit_relocalizer.training.checkpoint import CheckpointError, load_checkpoint

# Both stages, checkpoints all the time.
TWO_STAGES = (*BRIEF, 'mapping.iterations=120', 'alignment.iterations=12',
              'alignment.batch_images=2', 'input_width=96', 'checkpoint_every_s=0.1',
              'validation_every_s=3')
TINY = (*BRIEF, 'mapping.iterations=10')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return write_box_room(tmp_path_factory.mktemp('scene') / 'room', 12)


@pytest.fixture(scope='module')
def scene(folder) -> Scene:
    return read_folder_scene(folder)


@pytest.fixture(scope='module')
def tiny_run(scene, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('tiny') / 'run'
    return run_dir, train(scene, run_dir, *TINY)


@pytest.fixture(scope='module')
def killed_often(folder, tmp_path_factory):
    """A run that was killed at several moments: its folder, and what was saved at each kill."""
    run_dir = tmp_path_factory.mktemp('killed') / 'run'
    command = train_command(folder, run_dir, *TWO_STAGES)
    moments = random.Random(3)
    saved = []
    for stage in ('mapping', 'alignment'):
        log = run_dir.parent / f'{len(saved)}.log'
        seen = saved[-1]['loop']['iteration'] if saved and saved[-1]['stage'] == stage else 0
        process = start(log, program, command)
        try:
            wait_for_checkpoint(process, run_dir, stage, seen, log)
            time.sleep(moments.uniform(0.0, 0.3))
        finally:
            process.kill()
            process.join()
        saved.append(load_checkpoint(run_dir / 'checkpoint.pt', {}))
    return run_dir, saved


def wait_for_checkpoint(process, run_dir: Path, stage: str, after: int, log: Path) -> None:
    """Until the run has saved the stage beyond an iteration."""
    end_s = time.monotonic() + 300
    while True:
        assert process.is_alive() and time.monotonic() < end_s, log.read_text()
        state = load_checkpoint(run_dir / 'checkpoint.pt', {})
        if state and state['stage'] == stage and state['loop']['iteration'] > after:
            return
        time.sleep(0.1)


def test_every_kill_leaves_a_whole_checkpoint_further_on(killed_often):
    run_dir, saved = killed_often
    assert [state['stage'] for state in saved] == ['mapping', 'alignment']
    assert saved[0]['loop']['iteration'] > 0 and saved[0]['done'] == {}
    assert saved[1]['loop']['iteration'] > 0 and saved[1]['done']['mapping']['iteration'] == 120
    assert saved[0]['seconds'] < saved[1]['seconds']
    assert not (run_dir / 'result.json').exists()


@pytest.fixture(scope='module')
def as_the_programs_do():
    """One thread, so that sums are rounded as in the programs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def resumed(killed_often, scene, as_the_programs_do):
    """The run after it was left alone at last."""
    return killed_often[0], train(scene, killed_often[0], *TWO_STAGES)


def test_the_curves_of_both_stages_go_on_without_gap_or_repetition(resumed):
    run_dir, result = resumed
    mapping = [row[0] for row in result['history']['mapping']]
    assert mapping == [100, 120]
    assert [row[0] for row in result['history']['alignment']] == [12]
    for rows in (*result['history'].values(), *result['validation_history'].values()):
        seconds = [row[1] for row in rows]
        assert seconds == sorted(seconds)
    finished = load_checkpoint(run_dir / 'checkpoint.pt', {})
    steps = {int(state['step']) for state in finished['loop']['optimizer']['state'].values()}
    assert steps == {12}, "the optimizer's moments went along"
    assert not list(run_dir.glob('*.partial'))


def test_the_run_folder_knows_every_start(resumed, killed_often):
    starts = json.loads((resumed[0] / 'run.json').read_text())['starts']
    assert [start['resumed'] and start['resumed']['stage'] for start in starts] == [
        None, 'mapping', 'alignment']
    assert [start['resumed']['iteration'] for start in starts[1:]] == [
        state['loop']['iteration'] for state in killed_often[1]]


def test_a_run_killed_often_ends_as_an_unbroken_one(resumed, scene, tmp_path):
    """Nothing is drawn twice or left out, so the weights are the same, not only the errors."""
    run_dir, result = resumed
    unbroken = tmp_path / 'unbroken'
    expected = train(scene, unbroken, *TWO_STAGES)
    first, second = weights_of(run_dir), weights_of(unbroken)
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
    for part in ('train', 'test'):
        assert result[part]['median_translation_m'] == pytest.approx(
            expected[part]['median_translation_m'], rel=0.05)
    _, metadata = load_model(run_dir / 'model.pt')
    assert metadata.accuracy['test'] == result['test']


def test_a_finished_run_is_not_trained_further(scene, tiny_run, caplog):
    run_dir, result = tiny_run
    before = weights_of(run_dir)
    with caplog.at_level(logging.INFO):
        again = train(scene, run_dir, *TINY)
    assert 'resuming mapping at step 10' in caplog.text
    assert again['test'] == result['test'] and again['history'] == result['history']
    assert all(torch.equal(value, before[name]) for name, value in weights_of(run_dir).items())


def test_another_configuration_is_refused_and_leaves_the_folder_alone(scene, tiny_run):
    run_dir, _ = tiny_run
    before = (run_dir / 'config.yaml').read_text()
    with pytest.raises(CheckpointError, match=r'checkpoint\.pt: was made with another '
                                              r'configuration \(seed was 0, is 7\); .*--restart'):
        train(scene, run_dir, *TINY, 'seed=7')
    assert (run_dir / 'config.yaml').read_text() == before
    fewer = replace(scene, frames=scene.frames[:8])
    with pytest.raises(CheckpointError, match='another scene'):
        train(fewer, run_dir, *TINY)


def test_how_often_to_save_may_change_between_runs(scene, tiny_run):
    run_dir, result = tiny_run
    again = train(scene, run_dir, *TINY, 'checkpoint_every_s=5', 'validation_every_s=7')
    assert again['test'] == result['test']


@pytest.mark.parametrize('share', [0.0, 0.5, 'text'])
def test_a_damaged_checkpoint_is_named_with_the_remedy(tiny_run, tmp_path, share):
    whole = (tiny_run[0] / 'checkpoint.pt').read_bytes()
    path = tmp_path / 'checkpoint.pt'
    path.write_bytes(b'hello there\n' if share == 'text' else whole[:int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r'checkpoint\.pt: cannot be read .*delete it'):
        load_checkpoint(path, {})


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    path = tmp_path / 'checkpoint.pt'
    torch.save({'identity': {}, 'stage': 'mapping'}, path)
    with pytest.raises(CheckpointError, match=r'another version of this program; .*--restart'):
        load_checkpoint(path, {})


def test_restart_throws_the_run_away_and_spares_other_files(scene, tmp_path):
    run_dir = tmp_path / 'run'
    write_settings(tmp_path)
    first = train(scene, run_dir, *TINY)
    (run_dir / 'notes.txt').write_text('two hours of my life')
    second = train(scene, run_dir, *TINY, 'seed=1', restart=True)
    assert second['seed'] == 1 and second['train'] != first['train']
    assert len(json.loads((run_dir / 'run.json').read_text())['starts']) == 1
    assert (run_dir / 'notes.txt').exists()
