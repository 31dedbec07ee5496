# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What ends a training says in one sentence what to change, and loses nothing."""

import multiprocessing
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from box_room import write_box_room
from training_runs import (
    BRIEF,
    one_thread,
    program,
    train,
    train_command,
    weights_of,
    write_settings,
)

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


def test_the_cpu_without_memory_names_the_setting(folder, tmp_path):
    """A real allocation that fails: the features of a batch would take 15 GB of 8."""
    command = program(*train_command(folder, tmp_path / 'run', *BRIEF,
                                     'mapping.batch_points=20000000'))

    def limit_memory():
        resource.setrlimit(resource.RLIMIT_AS, (2 ** 33, 2 ** 33))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=one_thread(),
                          preexec_fn=limit_memory)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert ('implicit-relocalizer train: mapping: out of memory on the CPU; set '
            'mapping.batch_points=10000000 (now 20000000) or input_width=80 (now 160)'
            ) in done.stderr


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
    context = multiprocessing.get_context('spawn')
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / 'run', held, release))
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


OPENS = '''
import collections, sys
from pathlib import Path
opened = collections.Counter()
sys.addaudithook(lambda event, arguments: opened.update([str(arguments[0])])
                 if counting and event == 'open' and '/rgb/' in str(arguments[0]) else None)
counting = False
sys.path.insert(0, sys.argv[1])
from training_runs import BRIEF, train
from implicit_relocalizer.data.readers.folder import read_folder_scene
scene = read_folder_scene(Path(sys.argv[2]))
counting = True
result = train(scene, Path(sys.argv[3]), *BRIEF, 'mapping.iterations=4',
               'alignment.iterations=2', 'validation_fraction=0.2', 'validation_every_s=1e-9')
counting = False
assert len(result['validation_history']['mapping']) == 4
assert len(opened) == 12, opened
assert set(opened.values()) == {1}, opened
'''


def test_no_image_is_decoded_twice_in_a_run(folder, tmp_path):
    """Counts the real openings of image files, of training, validation and held-out frames."""
    done = subprocess.run(
        [sys.executable, '-c', OPENS, str(Path(__file__).parent), str(folder),
         str(tmp_path / 'run')], capture_output=True, text=True, timeout=300, env=one_thread())
    assert done.returncode == 0, done.stderr
