# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From a model file back to a network that can learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.keypoints import at_keypoints, look_up
from implicit_relocalizer.network.landmarks import LandmarkHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import ModelFileError, ModelMetadata, load_model
from implicit_relocalizer.training.configuration import ConfigurationError, TrainingConfig
from implicit_relocalizer.training.configuration_file import configuration_from_dict
from implicit_relocalizer.training.networks import assemble_localizer


@dataclass(frozen=True)
class RestoredModel:
    """A model file opened for learning: the network, what the file says, how it was trained."""

    localizer: Localizer
    metadata: ModelMetadata
    config: TrainingConfig


def restore_model(path: Path) -> RestoredModel:
    """Build the network of a model file anew and give it the file's weights.

    The file's own module runs, but is compiled; the configuration in its metadata says how to
    build the same one.

    Raises:
        ModelFileError: no usable model file, no configuration in it, a configuration or a network
            that this version does not know, or a pose regression.
    """
    module, metadata = load_model(path)
    values = metadata.training.get('configuration')
    if not isinstance(values, dict):
        raise ModelFileError(f'{path}: does not say how it was trained (no configuration in its '
                             f'metadata); make it with `implicit-relocalizer train`')
    try:
        config = configuration_from_dict(values, str(path))
    except ConfigurationError as error:
        raise ModelFileError(f'{error}; it was trained by another version of this program, train '
                             f'it again') from error
    if config.regression.iterations > 0:
        raise ModelFileError(f'{path}: is a pose regression, which predicts no points; only '
                             f'localizers can be fine-tuned')
    state = module.state_dict()
    anchors = torch.zeros(config.head.anchors, 3)
    encoder = build_encoder(metadata.encoder)
    if config.encoder.keypoints:
        encoder = at_keypoints(encoder)
    look_up(encoder, config.landmarks.points_asked if config.landmarks.most > 0
            else config.encoder.points_per_image)
    localizer = assemble_localizer(
        encoder, config, anchors,
        (module.input_width, module.input_height), module.nominal_focal_px,
        state['origin_world_3'])
    if config.landmarks.most > 0:
        count, key_size = state['head.keys_md'].shape
        localizer.head = LandmarkHead(encoder.channels, key_size, count,
                                      module.head.nominal_depth_m,
                                      len(state['head.centres_cd']))
    # Whatever was calibrated does not hold for what comes next, and older files have none.
    for name, value in localizer.calibration.state_dict(prefix='calibration.').items():
        state.setdefault(name, value)
    state.pop('uniforms_h4', None)  # random numbers of older files, four for each hypothesis
    state['uniforms_h3'] = localizer.uniforms_h3
    try:
        localizer.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ModelFileError(f'{path}: its weights do not fit the network of its configuration '
                             f'({reason}); it was trained by another version of this program, '
                             f'train it again') from error
    return RestoredModel(localizer, metadata, config)
