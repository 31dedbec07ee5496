# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration: the shipped files load, and every mistake is answered by name."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from implicit_relocalizer.network.encoders import encoder_names
from implicit_relocalizer.training.configuration import ConfigurationError, TrainingConfig
from implicit_relocalizer.training.configuration_file import (
    configuration_to_dict,
    format_configuration,
    load_configuration,
)
from implicit_relocalizer.training.stages import planned_stages

SHIPPED = sorted((Path(__file__).parents[1] / 'config' / 'train').glob('*.yaml'))


@pytest.fixture
def load(tmp_path):
    def from_text(text='', *overrides):
        path = tmp_path / 'mine.yaml'
        path.write_text(text)
        return load_configuration(path, list(overrides))
    return from_text


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_load_and_name_an_encoder_of_ours(path):
    config = load_configuration(path)
    assert config.encoder.name in encoder_names()
    learned = [stage.name for stage in planned_stages(config)]
    assert learned or config.landmarks.most > 0, 'nothing would be learned'


def test_the_default_of_the_command_line_is_shipped():
    assert 'landmarks' in [path.stem for path in SHIPPED]


def test_an_empty_file_gives_the_defaults(load):
    assert load() == TrainingConfig() == load('# nothing yet\n')


def test_values_arrive_where_they_belong(load):
    config = load('input_width: 320\nmapping: {iterations: 7, learning_rate: 1e-3}\n'
                  'augmentation:\n  zoom: 2\nencoder: {name: resnet18, pretrained: true}\n')
    assert config.input_width == 320 and config.mapping.iterations == 7
    assert config.mapping.learning_rate == 1e-3, 'YAML 1.1 reads 1e-3 as text'
    assert config.augmentation.zoom == 2.0 and isinstance(config.augmentation.zoom, float)
    assert config.encoder.name == 'resnet18' and config.encoder.pretrained is True
    untouched = dataclasses.replace(config.mapping, iterations=TrainingConfig().mapping.iterations,
                                    learning_rate=TrainingConfig().mapping.learning_rate)
    assert untouched == TrainingConfig().mapping


def test_a_configuration_survives_being_written_and_read(load):
    config = load('seed: 4\nhead: {anchors: 9}\nmapping: {learning_rate: 1e-5}\n')
    assert load(yaml.safe_dump(configuration_to_dict(config))) == config
    assert load(format_configuration(config)) == config


def test_every_key_is_printed_with_what_it_means():
    lines = format_configuration(TrainingConfig()).splitlines()
    assert all(len(line) <= 99 for line in lines)
    keys = [index for index, line in enumerate(lines) if line and not line.strip().startswith('#')]
    undocumented = [lines[index] for index in keys if not lines[index - 1].strip().startswith('#')]
    assert undocumented == []
    values = configuration_to_dict(TrainingConfig())
    sections = [value for value in values.values() if isinstance(value, dict)]
    assert len(keys) == len(values) + sum(map(len, sections))


@pytest.mark.parametrize(('text', 'message'), [
    ('iterations: 5', r'mine\.yaml: unknown key iterations; known here: .*mapping'),
    ('mapping: {iteration: 5}', r'mine\.yaml: unknown key mapping\.iteration; .*iterations'),
    ('mapping: 5', r'mine\.yaml: mapping is a section, got 5'),
    ('mapping:', r'mine\.yaml: mapping is a section, got None'),
    ('mapping: {iterations: many}', r"mapping\.iterations is 'many', expected int"),
    ('mapping: {iterations: 2.5}', r'mapping\.iterations is 2\.5, expected int'),
    ('mapping: {iterations: true}', r'mapping\.iterations is True, expected int'),
    ('mapping: {learning_rate: fast}', r"mapping\.learning_rate is 'fast', expected float"),
    ('mapping: {learning_rate: true}', r'mapping\.learning_rate is True, expected float'),
    ('encoder: {name: 18}', r'encoder\.name is 18, expected str'),
    ('alignment: {train_encoder: 1}', r'alignment\.train_encoder is 1, expected bool'),
    ('- 1\n- 2', r'mine\.yaml: expected keys and values'),
    ('a: [', r'mine\.yaml: not YAML'),
])
def test_unknown_keys_and_wrong_types_are_named(load, text, message):
    with pytest.raises(ConfigurationError, match=message):
        load(text)


@pytest.mark.parametrize(('override', 'message'), [
    ('mapping.iterations=-1', r'mapping\.iterations is -1'),
    ('mapping.learning_rate=-1e-3', r'mapping\.learning_rate is -0\.001'),
    ('mapping.learning_rate=.nan', r'mapping\.learning_rate is nan'),
    ('mapping.learning_rate=nan', r'mapping\.learning_rate is nan'),
    ('mapping.max_seconds=.inf', r'mapping\.max_seconds is inf'),
    ('mapping.clamp_start_px=0', r'mapping\.clamp_start_px'),
    ('mapping.clamp_end_px=0', r'mapping\.clamp_end_px'),
    ('mapping.batch_points=0', r'mapping\.batch_points'),
    ('mapping.points_per_view=0', r'mapping\.points_per_view'),
    ('mapping.views_per_image=0', r'mapping\.views_per_image'),
    ('alignment.clamp_px=0', r'alignment\.clamp_px'),
    ('alignment.batch_images=0', r'alignment\.batch_images'),
    ('head.blocks=0', r'head\.blocks'),
    ('head.anchors=0', r'head\.anchors'),
    ('input_width=8', r'input_width is 8, must be in \[64, 4096\]'),
    ('validation_fraction=0.9', r'validation_fraction is 0\.9'),
    ('validation_fraction=.nan', r'validation_fraction is nan'),
    ('precision=float16', r"precision is 'float16', must be one of auto, float32, bfloat16"),
    ('device=tpu', r"device is 'tpu', must be one of auto, cpu, cuda"),
    ('mapping.iterations=0', r'nothing would be learned; set landmarks\.most or'),
    ('augmentation.zoom=0.5', r'augmentation\.zoom is 0\.5, must be >= 1'),
    ('augmentation.tilt_deg=-3', r'augmentation\.tilt_deg is -3'),
])
def test_values_out_of_range_are_named(load, override, message):
    with pytest.raises(ConfigurationError, match=message):
        load('', override)


def test_overrides_beat_the_file_and_may_open_a_section(load):
    config = load('seed: 1\n', 'seed=3', 'mapping.iterations=12', ' encoder.name = resnet18',
                  'alignment.train_encoder=true', 'mapping.learning_rate=2e-3')
    assert (config.seed, config.mapping.iterations) == (3, 12)
    assert config.encoder.name == 'resnet18' and config.alignment.train_encoder is True
    assert config.mapping.learning_rate == 2e-3


@pytest.mark.parametrize(('override', 'message'), [
    ('seed', r"override 'seed': expected section\.key=value"),
    ('seed.deep=1', r"override 'seed\.deep=1': seed is no section"),
    ('mapping.iteration=5', r'unknown key mapping\.iteration'),
    ('maping.iterations=5', r'unknown key maping'),
    ('mapping.iterations=[', r"override 'mapping\.iterations=\[': '\[' is no YAML value"),
    ('mapping=5', r'mapping is a section, got 5'),
])
def test_mistakes_in_overrides_are_named(load, override, message):
    with pytest.raises(ConfigurationError, match=message):
        load('seed: 1\n', override)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r'absent\.yaml: no such configuration file'):
        load_configuration(tmp_path / 'absent.yaml')
