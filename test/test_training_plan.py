# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a training plans: frames, anchors and schedules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from box_room import write_box_room

from implicit_relocalizer.data.frames import Scene, SceneError
from implicit_relocalizer.data.images import load_posed_images
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.training.anchors import spread_anchors
from implicit_relocalizer.training.configuration import (
    ConfigurationError,
    MappingConfig,
    TrainingConfig,
)
from implicit_relocalizer.training.loop import LoopState, progress_of
from implicit_relocalizer.training.mapping import clamp_px
from implicit_relocalizer.training.optimization import learning_rate_factor
from implicit_relocalizer.training.plan import plan_job, split_validation
from implicit_relocalizer.training.team import Team


@pytest.fixture(scope='module')
def scene(tmp_path_factory) -> Scene:
    return read_folder_scene(write_box_room(tmp_path_factory.mktemp('scene') / 'room', 30))


def test_anchors_spread_where_the_cameras_look(scene):
    images = load_posed_images(scene.split('train'))
    anchors = spread_anchors(images, 24, 2.0, seed=0)
    assert anchors.shape == (24, 3)
    assert torch.equal(anchors, spread_anchors(images, 24, 2.0, seed=0))
    distance = torch.cdist(anchors, images.t_local_camera_b3)
    assert distance.amin(dim=1).max() < 3.5
    ahead = ((anchors.unsqueeze(1) - images.t_local_camera_b3)
             * images.R_world_camera_b33[:, :, 2]).sum(-1)
    assert (ahead.amax(dim=1) > 1.0).all()
    few = spread_anchors(load_posed_images(scene.frames[:1]), 24, 2.0, seed=0)
    assert few.shape == (24, 3) and few.isfinite().all()


def test_validation_frames_are_spread_and_set_aside(scene):
    frames = scene.split('train')
    fit, validation = split_validation(frames, 0.25)
    assert len(validation) == 6 and not {f.name for f in fit} & {f.name for f in validation}
    assert sorted(f.name for f in (*fit, *validation)) == [f.name for f in frames]
    gaps = np.diff([frames.index(f) for f in validation])
    assert gaps.max() == gaps.min() == 4
    assert split_validation(frames, 0.0) == (frames, ())
    assert split_validation(frames[:3], 0.5) == (frames[:3], ())


def test_progress_is_by_steps_or_by_time_whichever_is_further():
    config = MappingConfig(iterations=100, max_seconds=10.0)
    assert progress_of(LoopState(25, 1.0), config) == 0.25
    assert progress_of(LoopState(25, 9.0), config) == 0.9
    assert progress_of(LoopState(25, 99.0), config) == 1.0
    assert progress_of(LoopState(25, 99.0), replace(config, max_seconds=0.0)) == 0.25


def test_schedules_end_where_they_should():
    factors = [learning_rate_factor(share) for share in np.linspace(0, 1, 201)]
    peak = int(np.argmax(factors))
    assert factors[peak] == pytest.approx(1.0) and peak == 4, 'after a warm-up of 2 %'
    assert factors[0] == pytest.approx(0.05) and factors[-1] == pytest.approx(0.01)
    assert np.all(np.diff(factors[:peak + 1]) > 0) and np.all(np.diff(factors[peak:]) < 0)
    config = MappingConfig(clamp_start_px=16.0, clamp_end_px=1.0)
    assert [clamp_px(config, share) for share in (0, 0.5, 1)] == pytest.approx([16, 4, 1])


def test_the_processes_of_a_team_share_the_frames_and_draw_different_numbers(scene):
    config = TrainingConfig(device='cpu')
    jobs = [plan_job(scene, config, Team(rank, 3)) for rank in range(3)]
    shares = [[frame.name for frame in job.own_frames] for job in jobs]
    names = [name for share in shares for name in share]
    assert sorted(names) == sorted(frame.name for frame in jobs[0].fit_frames)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(torch.equal(job.origin_world_3, jobs[0].origin_world_3) for job in jobs)
    drawn = {float(torch.rand(1, generator=job.generator(1))) for job in jobs}
    assert len(drawn) == 3
    with pytest.raises(ConfigurationError, match='24 training frames for 25 processes'):
        plan_job(scene, config, Team(0, 25))


def test_a_label_that_is_no_number_is_named(scene):
    frames = list(scene.frames)
    pose = frames[7].T_world_camera.copy()
    pose[0, 3] = np.nan
    frames[7] = replace(frames[7], T_world_camera=pose)
    with pytest.raises(SceneError, match=r'0007\.png: its pose or its intrinsics are no numbers'):
        plan_job(replace(scene, frames=tuple(frames)), TrainingConfig(device='cpu'))
