# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Stage B: what learns, and that gradients reach all of it."""

import pytest
import torch
from box_room import write_box_room
from training_runs import curves_of, parts_of_loss, run_alignment, train

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import load_posed_images
from implicit_relocalizer.data.readers.folder import read_folder_scene
from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import load_model
from implicit_relocalizer.training.anchors import spread_anchors
from implicit_relocalizer.training.checkpoint import load_checkpoint


@pytest.fixture(scope='module')
def scene(tmp_path_factory) -> Scene:
    return read_folder_scene(write_box_room(tmp_path_factory.mktemp('scene') / 'room', 12))


def test_the_papers_form_trains_everything_end_to_end(scene, tmp_path):
    result = train(scene, tmp_path / 'run', 'mapping.iterations=0', 'alignment.iterations=1',
                   'alignment.train_encoder=true', 'alignment.batch_images=4',
                   'encoder.name=resnet18', 'input_width=96')
    assert result['test']['frames_answered'] == 2
    module, metadata = load_model(tmp_path / 'run' / 'model.pt')
    assert metadata.encoder == 'resnet18'
    state = load_checkpoint(tmp_path / 'run' / 'checkpoint.pt', {})['loop']['optimizer']['state']
    moments = [values['exp_avg'] for values in state.values()]
    assert len(moments) == len(list(module.parameters()))
    assert all(moment.isfinite().all() for moment in moments)
    assert all(moment.any() for moment in moments), 'gradients reach every weight'
    curves = curves_of(tmp_path / 'run', 'alignment')
    [(_, loss)], weights = curves['loss'], result['configuration']['alignment']
    parts = {name: value for name, [value] in parts_of_loss(curves).items()}
    assert set(parts) == {'pose_m', 'reprojection', 'consistency', 'likelihood'}
    assert sum(weights[f'{name.removesuffix("_m")}_weight'] * value
               for name, value in parts.items()) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize('train_encoder', [False, True])
def test_the_encoder_learns_only_where_asked(scene, train_encoder):
    torch.manual_seed(0)
    images = load_posed_images(scene.split('train')[:4])
    encoder = build_encoder('resnet18')
    head = PointHead(encoder.channels, spread_anchors(images, 8, 2.5, 0), width=32, blocks=1)
    localizer = Localizer(encoder, head, (96, 72), 75.0, images.origin_world_3)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    run_alignment(localizer, images, iterations=1, batch_images=2, train_encoder=train_encoder)
    changed = any(not torch.equal(value, before[key])
                  for key, value in encoder.state_dict().items())
    assert changed == train_encoder, 'batch statistics count too'
