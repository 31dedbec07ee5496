# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Model files: what goes in comes out, and what is no model is answered with its name."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from implicit_relocalizer.network.encoders import build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import (
    CALIBRATION_OUTPUTS,
    FORMAT_VERSION,
    METADATA_NAME,
    OUTPUT_NAMES,
    ModelFileError,
    ModelMetadata,
    load_model,
    read_metadata,
    save_model,
)

METADATA = ModelMetadata(
    scene='kitchen', image_size=(160, 120),
    K_33=((130.0, 0.0, 79.5), (0.0, 130.0, 59.5), (0.0, 0.0, 1.0)),
    position_min_m=(0.0, -1.0, 0.5), position_max_m=(3.0, 1.0, 1.5),
    encoder='gradient_descriptor', accuracy={'test': {'median_translation_m': 0.03}})


@pytest.fixture(scope='module')
def module() -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    encoder = build_encoder('gradient_descriptor')
    head = PointHead(encoder.channels, torch.rand(5, 3), width=16, blocks=1)
    localizer = Localizer(encoder, head, (160, 120), 130.0, torch.zeros(3))
    return torch.jit.script(localizer.eval())


@pytest.fixture(scope='module')
def model(module, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('model') / 'new' / 'folder' / 'kitchen.pt'
    save_model(module, path, METADATA)
    return path


def write_metadata(model: Path, path: Path, text: str) -> Path:
    """Copy a model file with other metadata."""
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, 'w') as new:
        for item in old.infolist():
            is_metadata = item.filename.endswith(METADATA_NAME)
            new.writestr(item.filename, text if is_metadata else old.read(item))
    return path


def test_module_and_metadata_come_back_the_same(module, model):
    loaded, metadata = load_model(model)
    assert metadata == METADATA == read_metadata(model)
    image = torch.randint(0, 256, (120, 160, 3), dtype=torch.uint8)
    K_33 = torch.tensor(METADATA.K_33)
    expected, actual = module(image, K_33), loaded(image, K_33)
    names = OUTPUT_NAMES + CALIBRATION_OUTPUTS
    assert set(actual) == set(names)
    assert all(torch.equal(actual[name], expected[name]) for name in names)
    assert not loaded.training


def test_reading_metadata_runs_nothing_of_the_file(model, tmp_path, monkeypatch):
    """The code and the weights may be anything: only the JSON is looked at."""
    broken = tmp_path / 'broken.pt'
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(broken, 'w') as new:
        for item in old.infolist():
            keep = item.filename.endswith(METADATA_NAME)
            new.writestr(item.filename, old.read(item) if keep else b'raise SystemExit(3)')

    def refuse(*args, **kwargs):
        raise AssertionError('reads more than the metadata')
    for name in ('torch.load', 'torch.jit.load', 'pickle.load', 'pickle.loads'):
        monkeypatch.setattr(name, refuse)
    assert read_metadata(broken) == METADATA


def test_a_missing_file_is_answered_with_how_to_make_one(tmp_path):
    path = tmp_path / 'absent.pt'
    with pytest.raises(ModelFileError, match=r'absent\.pt: no such model file.*train'):
        load_model(path)


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_off_while_copying_is_named(model, tmp_path, share):
    whole = model.read_bytes()
    path = tmp_path / 'cut.pt'
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ModelFileError, match=r'cut\.pt: .*cut off while copying'):
        load_model(path)


def test_damage_within_the_file_is_named(model, tmp_path):
    damaged = bytearray(model.read_bytes())
    start = damaged.find(b'"accuracy"')
    damaged[start:start + 10] = b'\xff' * 10
    path = tmp_path / 'damaged.pt'
    path.write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r'damaged\.pt'):
        load_model(path)


def test_a_text_file_is_no_model(tmp_path):
    path = tmp_path / 'notes.pt'
    path.write_text('the model is on the other disk\n')
    with pytest.raises(ModelFileError, match=r'notes\.pt: not a TorchScript file'):
        load_model(path)


def test_a_foreign_torchscript_file_is_told_apart(tmp_path):
    path = tmp_path / 'foreign.pt'
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    with pytest.raises(ModelFileError, match=r'foreign\.pt: .*without our metadata'):
        load_model(path)


def test_our_metadata_without_a_module_is_named(model, tmp_path):
    path = tmp_path / 'hollow.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('hollow/extra/' + METADATA_NAME, METADATA.to_json())
    with pytest.raises(ModelFileError, match=r'hollow\.pt: cannot be loaded on cpu'):
        load_model(path)


def test_a_newer_format_asks_for_an_update(module, tmp_path):
    path = tmp_path / 'newer.pt'
    save_model(module, path, replace(METADATA, format_version=FORMAT_VERSION + 1))
    with pytest.raises(ModelFileError, match=r'newer\.pt: format version 2.*update'):
        load_model(path)


def test_unknown_keys_of_later_programs_are_ignored(model, tmp_path):
    values = json.loads(METADATA.to_json()) | {'invented_later': [1, 2]}
    assert read_metadata(write_metadata(model, tmp_path / 'a.pt', json.dumps(values))) == METADATA


@pytest.mark.parametrize('change', [
    {'image_size': 5}, {'K_33': [1.0, 2.0]}, {'position_min_m': None}, {'format_version': None}])
def test_values_of_the_wrong_kind_are_errors_of_the_file(model, tmp_path, change):
    values = json.loads(METADATA.to_json()) | change
    path = write_metadata(model, tmp_path / 'odd.pt', json.dumps(values))
    with pytest.raises(ModelFileError, match=r'odd\.pt'):
        read_metadata(path)


@pytest.mark.parametrize('text', ['', '[]', '{"format_version": 1}', 'not json'])
def test_metadata_that_is_not_ours_is_an_error_of_the_file(model, tmp_path, text):
    path = write_metadata(model, tmp_path / 'other.pt', text)
    with pytest.raises(ModelFileError, match=r'other\.pt'):
        read_metadata(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason='only a machine without CUDA refuses it')
def test_an_absent_device_is_named(model):
    with pytest.raises(ModelFileError, match=r'kitchen\.pt: cannot be loaded on cuda'):
        load_model(model, 'cuda')


def test_an_interrupted_save_leaves_the_old_file(module, tmp_path, monkeypatch):
    path = tmp_path / 'model.pt'
    save_model(module, path, METADATA)
    before = path.read_bytes()

    def save_a_part(script_module, target, _extra_files):
        Path(target).write_bytes(before[:1000])
        raise KeyboardInterrupt
    monkeypatch.setattr('torch.jit.save', save_a_part)
    with pytest.raises(KeyboardInterrupt):
        save_model(module, path, replace(METADATA, scene='other'))
    assert path.read_bytes() == before
    monkeypatch.undo()
    save_model(module, path, replace(METADATA, scene='other'))
    assert read_metadata(path).scene == 'other'
    assert [p.name for p in tmp_path.iterdir()] == ['model.pt']
