# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What ends a training says in one sentence what to change, and loses nothing."""

import collections
import re
import resource
import sys
from types import SimpleNamespace

import pytest
import torch
from box_room import write_box_room
from forked_programs import CONTEXT, finish, program
from training_runs import BRIEF, train, train_command, weights_of, write_settings

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.training.configuration import ConfigurationError
from implicit_relocalizer.training.memory import (
    explain_memory_errors,
    halved,
    is_memory_error,
)
from implicit_relocalizer.training.run_folder import RunFolder, RunFolderError
from implicit_relocalizer.training.stage import TrainingError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_box_room(tmp_path_factory.mktemp('scene') / 'room', 12)


@pytest.fixture(scope='module')
def scene(folder) -> Scene:
    return read_folder_scene(folder)


def test_a_loss_that_is_no_number_ends_with_what_to_change(scene, tmp_path):
    with pytest.raises(TrainingError, match=r'mapping: the (loss|gradient) became \w+ at step '
                                            r'\d+; set mapping\.learning_rate=3\.3e\+29 '
                                            r'\(now 1e\+30\), or check the poses'):
        train(scene, tmp_path / 'run', *BRIEF, 'mapping.learning_rate=1e30',
              'checkpoint_every_s=1e-9')
    assert not (tmp_path / 'run' / 'model.pt').exists()


def test_weights_that_give_no_loss_are_never_saved(scene, tmp_path):
    """A checkpoint is due at every step, also after the one that ruined the weights."""
    with pytest.raises(TrainingError):
        train(scene, tmp_path / 'run', *BRIEF, 'mapping.learning_rate=1e36',
              'checkpoint_every_s=1e-9')
    if (tmp_path / 'run' / 'checkpoint.pt').exists():
        assert all(value.isfinite().all() for value in weights_of(tmp_path / 'run').values())


def program_in_8_gib(arguments):
    resource.setrlimit(resource.RLIMIT_AS, (2 ** 33, 2 ** 33))
    program(arguments)


def test_the_cpu_without_memory_names_the_setting(folder, tmp_path):
    """A real allocation that fails: the features of a batch would take 15 GB of 8."""
    command = train_command(folder, tmp_path / 'run', *BRIEF, 'mapping.batch_points=20000000')
    status, output = finish(tmp_path / 'log', program_in_8_gib, command)
    assert status == 1 and 'Traceback' not in output
    assert ('implicit-relocalizer train: mapping: out of memory on the CPU; set '
            'mapping.batch_points=10000000 (now 20000000) or input_width=80 (now 160)'
            ) in output


def test_the_gpu_without_memory_names_the_setting():
    """Without a GPU, torch's own error stands for it."""
    error = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
    with pytest.raises(ConfigurationError, match=r'alignment: out of memory on the GPU; set '
                                                 r'alignment\.batch_images=4 \(now 8\)'), \
            explain_memory_errors('alignment', [halved('alignment.batch_images', 8)]):
        raise error
    assert halved('input_width', 100, least=64).smaller == 64


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match=r'^shapes differ$'), explain_memory_errors('x', []):
        raise RuntimeError('shapes differ')
    assert not is_memory_error(KeyError('x')) and is_memory_error(MemoryError())


def test_images_that_do_not_fit_are_refused_before_they_are_decoded(scene, tmp_path,
                                                                    monkeypatch):
    monkeypatch.setattr('psutil.virtual_memory', lambda: SimpleNamespace(available=400_000))
    with pytest.raises(ConfigurationError, match='10 training images of 160x120 would take') as e:
        train(scene, tmp_path / 'run', *BRIEF)
    fitting = int(re.search(r'keep at most (\d+) training images', str(e.value)).group(1))
    assert 2 * fitting * 160 * 120 * 3 <= 0.7 * 400_000 < 2 * (fitting + 1) * 160 * 120 * 3


def hold(path, held, release):
    with RunFolder(path) as run:
        run.acquire()
        held.set()
        release.wait(60)


def test_two_trainings_never_write_into_one_folder(scene, tmp_path):
    held, release = CONTEXT.Event(), CONTEXT.Event()
    process = CONTEXT.Process(target=hold, args=(tmp_path / 'run', held, release))
    process.start()
    try:
        assert held.wait(120)
        with pytest.raises(RunFolderError, match=rf'another training \(process {process.pid} on '
                                                 r'.*\) writes into this folder; wait for it'):
            train(scene, tmp_path / 'run', *BRIEF, restart=True)
        assert not (tmp_path / 'run' / 'config.yaml').exists()
        process.kill()
        process.join()
        train(scene, tmp_path / 'run', *BRIEF, 'mapping.iterations=1')  # the kernel let go
    finally:
        process.kill()
        process.join()


def test_a_run_folder_that_is_a_file_is_named(scene, tmp_path):
    (tmp_path / 'run').write_text('hello')
    write_settings(tmp_path)
    with pytest.raises(RunFolderError, match='run: is a file, not a run folder'):
        train(scene, tmp_path / 'run', *BRIEF)


def train_and_count_openings(folder, run_dir):
    """Train; every image file must have been opened once."""
    opened: collections.Counter[str] = collections.Counter()

    def count(event, arguments):
        if event == 'open' and '/rgb/' in str(arguments[0]):
            opened[str(arguments[0])] += 1
    scene = read_folder_scene(folder)
    sys.addaudithook(count)  # for the rest of the process
    result = train(scene, run_dir, *BRIEF, 'mapping.iterations=4', 'alignment.iterations=2',
                   'validation_fraction=0.2', 'validation_every_s=1e-9')
    counts = dict(opened)
    assert len(result['validation_history']['mapping']) == 4
    assert len(counts) == 12, counts
    assert set(counts.values()) == {1}, counts


def test_no_image_is_decoded_twice_in_a_run(folder, tmp_path):
    """Counts the real openings of image files, of training, validation and held-out frames."""
    status, output = finish(tmp_path / 'log', train_and_count_openings, folder, tmp_path / 'run')
    assert status == 0, output
