# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`calibrate` from the command line, on a model whose errors are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from implicit_relocalizer.cli import main
from implicit_relocalizer.localization.estimate import least_confidence
from implicit_relocalizer.network.calibration import Calibration
from implicit_relocalizer.network.model_file import (
    ModelMetadata,
    load_model,
    read_metadata,
    save_model,
)

WIDTH, HEIGHT = 32, 24
K_33 = np.array([[30.0, 0.0, 15.5], [0.0, 30.0, 11.5], [0.0, 0.0, 1.0]])


class SkyModel(nn.Module):
    """Knows where it is, the origin, as long as the sky is brighter than the ground.

    Its errors are a few times larger than it says (1 cm, 2 degrees); its raw confidence is
    nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calibration = Calibration()

    def forward(self, image_hw3: Tensor, K: Tensor) -> Dict[str, Tensor]:
        rows = image_hw3.double().mean(dim=[1, 2]) / 255.0
        half = rows.shape[0] // 2
        contrast = rows[:half].mean() - rows[half:].mean()
        drawn = torch.sin(1e6 * torch.stack([rows[0], rows[3], rows[half]]))
        error = 0.03 * drawn + 3.0 * (contrast < 0.3).double()
        features = torch.zeros(8, dtype=torch.float64)
        features[0] = 10.0 * contrast
        eye = torch.eye(3, dtype=torch.float64)
        raw = torch.diag(torch.tensor([1e-4, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3], dtype=torch.float64))
        confidence, covariance = self.calibration(
            features, torch.zeros(1, dtype=torch.float64)[0], raw)
        return {'R_world_camera': eye, 't_world_camera': error, 'covariance': covariance,
                'confidence': confidence, 'raw_covariance': raw, 'features': features}


class Mute(nn.Module):
    """A model of an older version."""

    def forward(self, image_hw3: Tensor, K: Tensor) -> Dict[str, Tensor]:
        return {'confidence': K.sum()}


class Earlier(nn.Module):
    """A model whose calibration is of an older version."""

    def __init__(self) -> None:
        super().__init__()
        self.calibration = nn.Module()
        self.calibration.register_buffer('position_weights_g', torch.zeros(8))

    def forward(self, image_hw3: Tensor, K: Tensor) -> Dict[str, Tensor]:
        return {'confidence': K.sum() + self.calibration.position_weights_g.sum()}


def write_scene(folder: Path, sky: float, ground: float, held_out: int = 32) -> Path:
    """A camera in the origin that sees sky and ground; every other frame is held out."""
    for name in ('rgb', 'poses', 'splits'):
        (folder / name).mkdir(parents=True)
    np.savetxt(folder / 'K.txt', K_33)
    rng = np.random.default_rng(len(folder.name))
    names = [f'{number:03d}' for number in range(2 * held_out)]
    for name in names:
        rows = np.where(np.arange(HEIGHT) < HEIGHT // 2, sky, ground)
        pixels = rows[:, None, None] + rng.normal(0.0, 8.0, (HEIGHT, WIDTH, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / 'rgb' / f'{name}.png')
        np.savetxt(folder / 'poses' / f'{name}.txt', np.eye(4))
    (folder / 'splits' / 'standard.txt').write_text('\n'.join(names[::2]) + '\n')
    return folder


def write_model(path: Path, module: nn.Module) -> Path:
    save_model(torch.jit.script(module), path, ModelMetadata(
        scene='here', image_size=(WIDTH, HEIGHT), K_33=tuple(map(tuple, K_33.tolist())),
        position_min_m=(-1.0, -1.0, -1.0), position_max_m=(1.0, 1.0, 1.0), encoder='none'))
    return path


@pytest.fixture(scope='module')
def here(tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp('scenes') / 'here', 220.0, 30.0)


@pytest.fixture(scope='module')
def elsewhere(tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp('scenes') / 'elsewhere', 130.0, 120.0)


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / 'here.pt', SkyModel())


def test_the_calibrated_model_is_honest(here, elsewhere, model, tmp_path, capsys):
    before = model.read_bytes()
    out, result_file = tmp_path / 'calibrated.pt', tmp_path / 'result.json'
    assert main(['calibrate', str(model), str(here), '--elsewhere', str(elsewhere), '--out',
                 str(out), '--bound', '0.25', '8', '--json', str(result_file)]) == 0
    assert model.read_bytes() == before
    result = json.loads(result_file.read_text())
    checked = result['checked']
    assert checked['accepted']['elsewhere'][0] == 0 < checked['accepted']['elsewhere'][1]
    accepted, asked = checked['accepted']['view']
    assert accepted > 0.9 * asked > 25
    assert checked['position']['compared'] == accepted
    assert checked['expected_calibration_error'] < 0.05
    # 3 cm at most, told as 1 cm: the calibrated covariance holds.
    assert checked['position']['within']['1_sigma'] == pytest.approx(0.68, abs=0.25)
    printed = capsys.readouterr().out
    assert 'within 0.25 m and 8°' in printed and str(out) in printed
    calibration = read_metadata(out).calibration
    assert calibration['elsewhere'] == ['elsewhere'] and calibration['scene'] == 'here'
    assert least_confidence(-1.0, calibration) == calibration['min_confidence'] >= 0.5
    module, _ = load_model(out)
    image = torch.from_numpy(np.asarray(Image.open(here / 'rgb' / '000.png')).copy())
    outputs = module(image, torch.from_numpy(K_33))
    assert float(outputs['confidence']) > 0.9
    assert (torch.diagonal(outputs['covariance'])[:3] > 2e-4).all()
    assert float(module(image.flip(0), torch.from_numpy(K_33))['confidence']) < 0.1


def test_calibrating_again_starts_anew(here, elsewhere, model, tmp_path):
    arguments = [str(here), '--elsewhere', str(elsewhere), '--bound', '0.25', '8']
    assert main(['calibrate', str(model), *arguments]) == 0
    first = load_model(model)[0].calibration.log_scale_2.clone()
    assert main(['calibrate', str(model), *arguments]) == 0
    again = load_model(model)[0].calibration.log_scale_2
    assert first.abs().max() > 0.5
    torch.testing.assert_close(again, first)


def test_what_cannot_be_calibrated_is_told_and_left_alone(here, elsewhere, model, tmp_path,
                                                          capsys):
    few = write_scene(tmp_path / 'few', 220.0, 30.0, held_out=8)
    mute = write_model(tmp_path / 'mute.pt', Mute())
    earlier = write_model(tmp_path / 'earlier.pt', Earlier())
    before = model.read_bytes()
    for arguments, reason in (
            ([str(mute), str(here)], 'mute.pt: is not a localizer of this version'),
            ([str(earlier), str(here)], 'earlier.pt: is not a localizer of this version'),
            ([str(model), str(few)], 'has 8 held-out frames; a calibration needs at least 16'),
            ([str(model), str(here), '--bound', '0', '5'], 'bounds have to be positive'),
            ([str(model), str(here), '--false-accepts', '1'], 'a share is from 0 to below 1'),
            ([str(model), str(elsewhere)], '0 answers are within 0.25 m / 5 deg')):
        assert main(['calibrate', *arguments]) == 1
        assert reason in capsys.readouterr().err
    assert model.read_bytes() == before
    assert not list(tmp_path.glob('*.partial'))
