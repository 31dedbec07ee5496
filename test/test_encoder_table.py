# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The encoder table: counts that are known, times that are times."""

import json

import pytest
import torch

from implicit_relocalizer.cli import main


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp('table') / 'encoders.json'
    assert main(['encoders', 'resnet18', 'gradient_descriptor', '--size', '96', '64',
                 '--seconds', '0.05', '--json', str(path)]) == 0
    return json.loads(path.read_text())


def test_weights_and_file_size_are_counted(measured):
    resnet, descriptor = measured['rows']
    assert (resnet['encoder'], descriptor['encoder']) == ('resnet18', 'gradient_descriptor')
    # torchvision's 11,689,512 less the classifier's 513,000, and three 1x1 convolutions to 256
    laterals = sum((channels + 1) * 256 for channels in (128, 256, 512))
    assert resnet['encoder_parameters'] == 11_689_512 - 513_000 + laterals
    assert descriptor['encoder_parameters'] == 0
    for row in (resnet, descriptor):
        assert row['parameters'] > row['encoder_parameters']
        assert row['model_file_bytes'] > 4 * row['parameters']


def test_times_say_where_they_were_taken(measured):
    assert set(measured['hardware']) >= {'cpu'}
    assert ('cuda' in measured['hardware']) == torch.cuda.is_available()
    assert measured['input_size'] == [96, 64] and measured['cpu_threads'] == 1
    for row in measured['rows']:
        for timing in row['timing'].values():
            assert 0.0 < timing['encoder_ms'] < 10_000.0
            assert 0.0 < timing['localizer_ms'] < 10_000.0
    # Beside other work two times of nearly equal length change places; these are far apart.
    descriptor = measured['rows'][1]['timing']['cpu']
    assert descriptor['encoder_ms'] < descriptor['localizer_ms']


def test_an_unknown_encoder_is_named(capsys):
    assert main(['encoders', 'resnet81']) == 1
    assert "encoder 'resnet81' is unknown; choose of" in capsys.readouterr().err
