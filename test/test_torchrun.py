# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Several processes train one model: the same gradients as one, and one set of files."""

import importlib
import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from box_room import write_box_room
from forked_programs import CONTEXT, finish
from torch.distributed.run import main as run
from training_runs import BRIEF, train_command

from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.model_file import load_model
from implicit_relocalizer.training.buffer import PointBuffer
from implicit_relocalizer.training.checkpoint import load_checkpoint
from implicit_relocalizer.training.configuration import MappingConfig
from implicit_relocalizer.training.mapping import MappingStage
from implicit_relocalizer.training.optimization import Optimization, StageLoss
from implicit_relocalizer.training.team import ALONE, Team, TeamError, join_team

POINTS = 64
CHANNELS = 24


def make_buffer() -> PointBuffer:
    """Points of two cameras, the same in every process."""
    generator = torch.Generator().manual_seed(5)
    K = torch.tensor([[100.0, 0, 79.5], [0, 100, 59.5], [0, 0, 1]]).expand(2, 3, 3)
    return PointBuffer(
        torch.randn(POINTS, CHANNELS, generator=generator).half(),
        torch.rand(POINTS, 2, generator=generator) * 100, torch.arange(POINTS) % 2, K,
        torch.eye(3).expand(2, 3, 3), torch.tensor([[0.0, 0, 0], [0.5, 0, 0]]))


def gradients_of_a_step(team: Team, monkey: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The gradients after one step of stage A on this process's share of the points."""
    torch.manual_seed(team.rank)  # another head in each process, until the team copies the first
    head = PointHead(CHANNELS, torch.zeros(3, 3), width=16, blocks=1)
    if team is ALONE:
        torch.manual_seed(0)
        head = PointHead(CHANNELS, torch.zeros(3, 3), width=16, blocks=1)
    own = torch.tensor(team.share(range(POINTS)))
    config = MappingConfig(batch_points=len(own), iterations=1)
    stage = MappingStage(head, make_buffer(), config, 160, 100.0, torch.Generator(),
                         torch.device('cpu'), torch.float32)
    monkey.setattr(torch, 'randint', lambda *arguments, **options: own)
    optimization = Optimization(stage, head, team)
    optimization.update(optimization.compute(0.5), 0)
    return [parameter.grad.clone() for parameter in head.parameters()]


def gloo_threads() -> int:
    """How many threads of this process carry the team's messages."""
    names = [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]
    return names.count('pt_gloo_runloop')


def in_a_team(rank: int, port: int, folder: str) -> None:
    """What each of two processes does."""
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank),
                      MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    for name in [name for name in sys.modules if name.startswith('torch.distributed.nn')]:
        del sys.modules[name]  # as in a new process
    with join_team('cpu') as team, pytest.MonkeyPatch.context() as monkey:
        assert (team.rank, team.size, team.is_first) == (rank, 2, rank == 0)
        importlib.import_module('torch.distributed.nn')  # as DistributedDataParallel does
        gradients = gradients_of_a_step(team, monkey)
        assert team.sum([1.0, rank]) == [2.0, 1.0]
        assert team.gather(f'r{rank}') == ['r0', 'r1']
        assert team.from_first(lambda: {'from': rank}) == {'from': 0}
        with pytest.raises(OSError if rank == 0 else TeamError, match='no room'):
            team.from_first(fail)
        assert gloo_threads() > 0
        torch.save(gradients, Path(folder) / f'{rank}.pt')
    # One that dropped the last message while the interpreter ends would abort the process.
    assert gloo_threads() == 0


def fail() -> None:
    raise OSError('no room on the disk')


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def test_two_processes_have_the_gradients_of_one(tmp_path):
    multiprocessing.start_processes(in_a_team, (free_port(), str(tmp_path)), nprocs=2,
                                    start_method=CONTEXT.get_start_method())
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    with pytest.MonkeyPatch.context() as monkey:
        alone = gradients_of_a_step(ALONE, monkey)
    assert any(gradient.abs().max() > 1e-3 for gradient in alone)
    for one, other, whole in zip(first, second, alone, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-6)


def torchrun(logs: Path, arguments: list[str]) -> None:
    """The program, less the start of its own interpreter; what is printed goes to files."""
    os.environ['OMP_NUM_THREADS'] = '1'
    run(['--standalone', '--nproc-per-node', '2', '--log-dir', str(logs), '--redirects', '1',
         '-m', 'implicit_relocalizer.cli', *arguments])


def test_torchrun_trains_one_model(tmp_path):
    scene = write_box_room(tmp_path / 'room', 12)
    run_dir = tmp_path / 'run'
    arguments = train_command(scene, run_dir, *BRIEF, 'mapping.iterations=110',
                              'alignment.iterations=2', 'alignment.batch_images=2',
                              'input_width=64', 'checkpoint_every_s=0.5',
                              'mapping.max_seconds=60')
    status, output = finish(tmp_path / 'torchrun.log', torchrun, tmp_path / 'logs', arguments)
    assert status == 0, output
    spoken = [path.read_text() for path in tmp_path.glob('logs/**/stdout.log')]
    assert len(spoken) == 2
    assert ''.join(spoken).count('model.pt') == 1, 'one process speaks'
    result = json.loads((run_dir / 'result.json').read_text())
    assert result['processes'] == 2
    assert [row[0] for row in result['history']['mapping']] == [100, 110]
    assert result['test']['frames'] == 2
    state = load_checkpoint(run_dir / 'checkpoint.pt', {})
    samplers = [random['sampler'] for random in state['loop']['random']]
    assert len(samplers) == 2 and not torch.equal(*samplers), 'each process draws its own'
    load_model(run_dir / 'model.pt')
    assert sorted(path.name for path in run_dir.glob('tensorboard/*')) == ['alignment', 'mapping']
    assert all(len(list(path.iterdir())) == 1 for path in run_dir.glob('tensorboard/*'))


def test_a_stage_computes_the_same_with_and_without_its_wrapper():
    head = PointHead(CHANNELS, torch.zeros(3, 3), width=16, blocks=1)
    stage = MappingStage(head, make_buffer(), MappingConfig(batch_points=8), 160, 100.0,
                         torch.Generator().manual_seed(1), torch.device('cpu'), torch.float32)
    wrapped = StageLoss(stage, head)(0.5)
    stage = MappingStage(head, make_buffer(), MappingConfig(batch_points=8), 160, 100.0,
                         torch.Generator().manual_seed(1), torch.device('cpu'), torch.float32)
    loss, median_error, *_ = stage.step(0.5)
    assert torch.equal(wrapped.loss, loss) and wrapped.median_error == median_error
