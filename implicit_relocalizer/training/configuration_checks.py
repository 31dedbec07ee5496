# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the values of a training configuration may be."""

from __future__ import annotations

import dataclasses
import math

from implicit_relocalizer.network.localizer import ALIGNMENTS
from implicit_relocalizer.training.configuration import ConfigurationError, TrainingConfig

_POSITIVE = {
    'encoder': ('points_per_image',),
    'head': ('blocks', 'anchors', 'width', 'nominal_depth_m', 'offset_scale_m'),
    'landmarks': ('key_size', 'partner_views', 'points_asked'),
    'mapping': ('views_per_image', 'points_per_view', 'batch_points', 'clamp_start_px',
                'clamp_end_px'),
    'alignment': ('batch_images', 'clamp_px'),
    'regression': ('batch_images', 'pooled_cells', 'width'),
}


def check_ranges(config: TrainingConfig, source: str) -> None:
    """Refuse values that cannot work.

    Args:
        config: Of the right types already.
        source: Where it comes from, for the message.

    Raises:
        ConfigurationError: names the key, the value and what is allowed.
    """
    for name, section in (('mapping', config.mapping), ('alignment', config.alignment),
                          ('regression', config.regression), ('head', config.head),
                          ('landmarks', config.landmarks),
                          ('augmentation', config.augmentation)):
        for key, value in dataclasses.asdict(section).items():
            if not isinstance(value, bool) and not 0 <= value < math.inf:
                raise ConfigurationError(f'{source}: {name}.{key} is {value}, must be >= 0')
    for name, keys in _POSITIVE.items():
        for key in keys:
            if getattr(getattr(config, name), key) <= 0:
                raise ConfigurationError(f'{source}: {name}.{key} must be > 0')
    for key, low, high in (('input_width', 64, 4096), ('validation_fraction', 0.0, 0.5)):
        value = getattr(config, key)
        if not low <= value <= high:
            raise ConfigurationError(f'{source}: {key} is {value}, must be in [{low}, {high}]')
    for key, allowed in (('precision', ('auto', 'float32', 'bfloat16')),
                         ('device', ('auto', 'cpu', 'cuda'))):
        if getattr(config, key) not in allowed:
            raise ConfigurationError(f'{source}: {key} is {getattr(config, key)!r}, '
                                     f'must be one of {", ".join(allowed)}')
    if config.localizer.alignment not in ALIGNMENTS:
        raise ConfigurationError(f'{source}: localizer.alignment is '
                                 f'{config.localizer.alignment!r}, must be one of '
                                 f'{", ".join(ALIGNMENTS)}')
    if not 1 <= config.localizer.refined_count <= config.localizer.hypothesis_count:
        raise ConfigurationError(f'{source}: localizer.refined_count must be between 1 and '
                                 f'localizer.hypothesis_count')
    regression = config.regression
    if regression.iterations > 0 and config.mapping.iterations + config.alignment.iterations > 0:
        raise ConfigurationError(f'{source}: regression is a network of its own; with '
                                 f'regression.iterations > 0 set mapping.iterations and '
                                 f'alignment.iterations to 0')
    if regression.dropout >= 1:
        raise ConfigurationError(f'{source}: regression.dropout is {regression.dropout}, must be '
                                 f'< 1')
    stages = (config.mapping, config.alignment, regression)
    if config.landmarks.most == 0 and all(stage.iterations == 0 for stage in stages):
        raise ConfigurationError(f'{source}: nothing would be learned; set landmarks.most or the '
                                 f'iterations of mapping, alignment or regression above 0')
    if config.landmarks.most > 0 and regression.iterations > 0:
        raise ConfigurationError(f'{source}: a regression has no landmarks; set landmarks.most or '
                                 f'regression.iterations to 0')
    if config.augmentation.zoom < 1:
        raise ConfigurationError(f'{source}: augmentation.zoom is {config.augmentation.zoom}, '
                                 f'must be >= 1 (a factor either way)')
