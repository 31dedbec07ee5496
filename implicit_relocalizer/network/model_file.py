# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The model file: one TorchScript module with its metadata inside.

`torch.jit.load` runs code from the file: load only models that you trust like a program.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

FORMAT_VERSION = 1
METADATA_NAME = 'metadata.json'

# What the module returns, by name (see `network.localizer.Localizer.forward`).
OUTPUT_NAMES = (
    'R_world_camera', 't_world_camera', 'covariance', 'confidence', 'points_world',
    'points_camera', 'weights', 'pixels', 'reprojection_error_px', 'inlier_fraction')
# What a localizer does one after the other.
STEPS = ('prepare', 'encode', 'interpret', 'predict', 'hypothesize', 'refine', 'assess')
# What localizers return besides, for a calibration to be fitted on.
CALIBRATION_OUTPUTS = ('raw_covariance', 'features')


class ModelFileError(RuntimeError):
    """A model file cannot be used; the message names the file, the reason and the remedy."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model knows about itself.

    Attributes:
        scene: Name of the place that was learned.
        image_size: Width and height in pixels of the training images. Images of the same
            aspect ratio are accepted in any resolution.
        K_33: Pinhole intrinsics of the training images, row by row.
        position_min_m: Smallest x, y, z of the training cameras in the world frame.
        position_max_m: Largest x, y, z of the training cameras in the world frame.
        encoder: Name of the image encoder.
        world_frame: What the labels called the world; the node's `map_frame` names it in ROS.
        format_version: Of this file format.
        calibration: Filled by calibration; empty means that confidence is a raw score.
        accuracy: Train and held-out errors measured when the model was made.
        training: How it was trained: configuration, seconds, versions.
    """

    scene: str
    image_size: tuple[int, int]
    K_33: tuple[tuple[float, float, float], ...]
    position_min_m: tuple[float, float, float]
    position_max_m: tuple[float, float, float]
    encoder: str
    world_frame: str = 'world'
    format_version: int = FORMAT_VERSION
    calibration: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialize to JSON with stable key order."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelMetadata:
        """Parse `to_json` output; unknown keys are ignored so that newer files still open.

        Raises:
            ValueError: not JSON, a missing key, a value of the wrong kind, or a newer format.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError('metadata is not a JSON object')
        version = values.get('format_version')
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise ValueError(f'format version {version!r}, this program reads up to '
                             f'{FORMAT_VERSION}: update implicit_relocalizer')
        known = {f.name for f in fields(cls)}
        chosen = {key: value for key, value in values.items() if key in known}
        try:
            for key in ('image_size', 'position_min_m', 'position_max_m'):
                if key in chosen:
                    chosen[key] = tuple(chosen[key])
            if 'K_33' in chosen:
                chosen['K_33'] = tuple(tuple(row) for row in chosen['K_33'])
            return cls(**chosen)
        except TypeError as error:
            raise ValueError(f'metadata is incomplete or of the wrong kind: {error}') from None


def save_model(module: torch.jit.ScriptModule, path: Path, metadata: ModelMetadata) -> None:
    """Write the module and its metadata as one file; a crash leaves the old file whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    torch.jit.save(module, str(partial), _extra_files={METADATA_NAME: metadata.to_json()})
    partial.replace(path)


def load_model(path: Path, device: torch.device | str = 'cpu',
               ) -> tuple[torch.jit.ScriptModule, ModelMetadata]:
    """Load a model file onto a device.

    Raises:
        ModelFileError: missing, not a model file, from a newer version, or the device is absent.
    """
    path = Path(path)
    metadata = read_metadata(path)
    try:
        module = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(f'{path}: cannot be loaded on {device}: {reason}') from error
    module.eval()
    return module, metadata


def make_ready(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The same module made to run only: frozen, and with memory spent on time.

    Convolutions get their weights as channels-last images need them, and the scale and shift of
    the batch normalisation behind them (resnet18: 147 -> 106 ms, on one core, of 240x360 pixels).
    Only `forward` and the methods in STEPS are left of it. The given module is still good for
    everything but to be written to a file.

    Tables that the code makes of numbers alone are constants afterwards, on the module's device.
    """
    for part in module.modules():
        prepare: Callable[[], None] | None = getattr(part, 'make_ready', None)
        if prepare is not None:
            prepare()
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    devices = [tensor.device for tensor in (*module.buffers(), *module.parameters())]
    ready = torch.jit.freeze(module, [name for name in STEPS if hasattr(module, name)])
    for graph in _graphs(ready):
        # Freezing optimizes after it propagates constants, which brings some more to light.
        torch._C._jit_pass_constant_propagation(graph)
    for device in devices[:1]:
        move_constants(ready, device)
    return ready


def move_constants(frozen: torch.jit.ScriptModule, device: torch.device) -> None:
    """Bring the constants of a frozen module that has not run yet to a device, in place.

    Tables are made on the CPU, from where each would be copied to a GPU for every image, and each
    copy waited for.
    """
    for graph in _graphs(frozen):
        for node in graph.findAllNodes('prim::Constant'):
            if not node.hasAttribute('value'):
                continue
            if node.kindOf('value') == 't':
                node.t_('value', node.t('value').to(device))
            elif str(node.output().type()) == 'List[Tensor]':
                node.ival_('value', [tensor.to(device) for tensor in node.ival('value')])


def _graphs(frozen: torch.jit.ScriptModule) -> list[Any]:
    """`torch.Graph`, whose types lack most, of what can be called; each has all that it calls."""
    return [getattr(frozen, name).graph for name in ('forward', *STEPS) if hasattr(frozen, name)]


def read_metadata(path: Path) -> ModelMetadata:
    """Read a model file's metadata without running any of its code.

    Raises:
        ModelFileError: missing or not a model file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f'{path}: no such model file; make one with '
                             f'`implicit-relocalizer train SCENE --output RUN`')
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith('/extra/' + METADATA_NAME)]
            text = archive.read(names[0]).decode()
        return ModelMetadata.from_json(text)
    except zipfile.BadZipFile:
        raise ModelFileError(f'{path}: not a TorchScript file, or cut off while copying '
                             f'({path.stat().st_size} bytes)') from None
    except IndexError:
        raise ModelFileError(f'{path}: a TorchScript file without our metadata; export it with '
                             f'`implicit-relocalizer train`') from None
    except (ValueError, KeyError) as error:
        raise ModelFileError(f'{path}: {error}') from None
