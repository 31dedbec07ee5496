# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: declared with type, range and description, read as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

CHOICES = {
    'device': ('auto', 'cpu', 'cuda'),
    'tf_mode': ('map_to_camera', 'none'),
    'image_reliability': ('auto', 'best_effort', 'reliable'),
}


class ParameterError(ValueError):
    """A parameter has an unusable value; the message names what is allowed."""


@dataclass(frozen=True)
class Parameters:
    """Values of the parameters of the same names; see config/relocalizer.yaml."""

    model: Path
    device: str
    num_threads: int
    map_frame: str
    camera_frame: str
    tf_mode: str
    image_reliability: str
    rectified: bool
    min_confidence: float
    max_rate_hz: float


def declare_parameters(node: Node) -> None:
    """Declare every parameter; a value of the wrong type or out of range is refused by rclpy."""
    node.declare_parameters('', [
        ('model', '', _fixed('Path of the model file; required.')),
        ('device', 'auto', _fixed('Where the model runs; auto takes CUDA where there is one.')),
        ('num_threads', 1, _fixed('CPU threads of the model; 0 leaves the choice to torch.',
                                  integer_range=[IntegerRange(from_value=0, to_value=1024)])),
        ('map_frame', 'map', _fixed('Name of the frame that the model answers in.')),
        ('camera_frame', '', _fixed('Optical frame of the camera; empty takes the frame_id '
                                    'of the images.')),
        ('tf_mode', 'map_to_camera', _fixed('Which transform is broadcast.')),
        ('image_reliability', 'auto', _fixed(
            'Reliability of the image subscription; auto follows the publishers.')),
        ('rectified', False, _fixed('The images are rectified: use P of CameraInfo, not K.')),
        ('min_confidence', 0.0, ParameterDescriptor(
            description='An answer with less confidence is not published.',
            floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)])),
        ('max_rate_hz', 0.0, ParameterDescriptor(
            description='At most so many images per second are looked at; 0 means no limit.',
            floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1000.0)])),
    ])


def read_parameters(node: Node) -> Parameters:
    """Read the declared parameters.

    Raises:
        ParameterError: a required one is missing, or a value is none of the allowed.
    """
    value = {name: node.get_parameter(name).value for name in Parameters.__dataclass_fields__}
    if not value['model']:
        raise ParameterError("parameter 'model' is not set; give the path of a model file: "
                             '--ros-args -p model:=/path/to/model.pt')
    for name, allowed in CHOICES.items():
        if value[name] not in allowed:
            raise ParameterError(f"parameter '{name}' is '{value[name]}'; allowed are "
                                 f'{", ".join(allowed)}')
    if not value['map_frame']:
        raise ParameterError("parameter 'map_frame' is empty; name a frame, such as map")
    value['model'] = Path(value['model']).expanduser()
    return Parameters(**value)


def _fixed(description: str, integer_range: list[IntegerRange] | None = None,
           ) -> ParameterDescriptor:
    return ParameterDescriptor(description=description, read_only=True,
                               integer_range=integer_range or [])
