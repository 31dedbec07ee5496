# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration: typed, read from YAML, unknown keys are errors."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from implicit_relocalizer.data.augmentation import ViewRange
from implicit_relocalizer.network.localizer import ALIGNMENTS

T = TypeVar('T')


class ConfigurationError(ValueError):
    """A configuration cannot be used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and whether ImageNet weights are loaded into it."""

    name: str = 'gradient_descriptor'
    pretrained: bool = False


@dataclass(frozen=True)
class HeadConfig:
    """The point head (see `network.heads.PointHead`)."""

    width: int = 256
    blocks: int = 2
    anchors: int = 48
    nominal_depth_m: float = 2.5
    offset_scale_m: float = 1.0


@dataclass(frozen=True)
class LocalizerConfig:
    """How a pose comes from the clouds (see `network.localizer.Localizer`)."""

    alignment: str = 'refined'
    hypothesis_count: int = 128
    refined_count: int = 2


@dataclass(frozen=True)
class MappingConfig:
    """Stage A. `iterations: 0` skips it. Clamps are for an image 360 px wide."""

    iterations: int = 20000
    max_seconds: float = 225.0
    views_per_image: int = 3
    points_per_view: int = 1000
    batch_points: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    clamp_start_px: float = 10.0
    clamp_end_px: float = 2.0
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1


@dataclass(frozen=True)
class AlignmentConfig:
    """Stage B. `iterations: 0` skips it; `train_encoder` trains end to end."""

    iterations: int = 0
    max_seconds: float = 240.0
    batch_images: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    train_encoder: bool = False
    pose_weight: float = 1.0
    metres_per_radian: float = 1.0
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1
    clamp_px: float = 25.0


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a model comes out."""

    input_width: int = 360
    precision: str = 'auto'
    device: str = 'auto'
    seed: int = 0
    validation_fraction: float = 0.05
    validation_every_s: float = 20.0
    checkpoint_every_s: float = 30.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    augmentation: ViewRange = field(default_factory=ViewRange)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)


def load_configuration(path: Path, overrides: list[str] | None = None) -> TrainingConfig:
    """Read a YAML file and apply overrides of the form `section.key=value`.

    Raises:
        ConfigurationError: no such file, no YAML, unknown key, or a value of the wrong type.
    """
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise ConfigurationError(f'{path}: no such configuration file') from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f'{path}: not YAML ({error})') from None
    if not isinstance(values, dict):
        raise ConfigurationError(f'{path}: expected keys and values at the top')
    for override in overrides or []:
        _apply_override(values, override)
    config = _build(TrainingConfig, values, str(path), '')
    _check_ranges(config, str(path))
    return config


def configuration_to_dict(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain nested dictionaries."""
    return dataclasses.asdict(config)


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition('=')
    if not separator:
        raise ConfigurationError(f'override {override!r}: expected section.key=value')
    *sections, last = key.strip().split('.')
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigurationError(f'override {override!r}: {section} is no section')
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigurationError(f'override {override!r}: {text!r} is no YAML value') from None


def _build(cls: type[T], values: dict[str, Any], source: str, prefix: str) -> T:
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigurationError(f'{source}: unknown key {prefix}{unknown[0]}; '
                                 f'known here: {", ".join(sorted(hints))}')
    chosen = {}
    for key, value in values.items():
        hint = hints[key]
        name = prefix + key
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ConfigurationError(f'{source}: {name} is a section, got {value!r}')
            chosen[key] = _build(hint, value, source, name + '.')
        else:
            chosen[key] = _convert(value, hint, source, name)
    return cls(**chosen)


def _convert(value: Any, hint: type, source: str, name: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text; a number is what everybody means by it
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigurationError(f'{source}: {name} is {value!r}, expected {hint.__name__}')


_POSITIVE = {
    'head': ('blocks', 'anchors', 'width', 'nominal_depth_m', 'offset_scale_m'),
    'mapping': ('views_per_image', 'points_per_view', 'batch_points', 'clamp_start_px',
                'clamp_end_px'),
    'alignment': ('batch_images', 'clamp_px'),
}


def _check_ranges(config: TrainingConfig, source: str) -> None:
    for name, section in (('mapping', config.mapping), ('alignment', config.alignment),
                          ('head', config.head), ('augmentation', config.augmentation)):
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
    if config.augmentation.zoom < 1:
        raise ConfigurationError(f'{source}: augmentation.zoom is {config.augmentation.zoom}, '
                                 f'must be >= 1 (a factor either way)')
