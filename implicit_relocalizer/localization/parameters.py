# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The values of the node's parameters, and which of them can be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_relocalizer.localization.agreement import AgreementLimits
from implicit_relocalizer.localization.belief import Mode, Rules
from implicit_relocalizer.localization.parameter_table import PARAMETERS

CHOICES = {entry.name: entry.choices for entry in PARAMETERS if entry.choices}
_ENTRIES = {entry.name: entry for entry in PARAMETERS}


class ParameterError(ValueError):
    """A parameter has an unusable value; the message names what is allowed."""


@dataclass(frozen=True)
class Parameters:
    """Values of the parameters of the same names; see localization/parameter_table.py."""

    model: Path
    device: str
    num_threads: int
    cuda_graphs: bool
    autostart: bool
    mode: str
    map_frame: str
    odom_frame: str
    base_frame: str
    camera_frame: str
    tf_mode: str
    odometry: str
    image_transport: str
    image_reliability: str
    image_depth: int
    rectified: bool
    min_confidence: float
    max_position_std_m: float
    map_margin_m: float
    max_rate_hz: float
    consensus_fixes: int
    consensus_window_s: float
    agree_translation_m: float
    agree_rotation_deg: float
    odometry_drift: float
    max_linear_speed_mps: float
    max_angular_speed_dps: float
    lost_after_s: float
    request_timeout_s: float
    odometry_wait_s: float
    tf_rate_hz: float
    tf_tolerance: float
    tf_when_lost: str
    announce_initialpose: bool
    initialpose_repeat_s: float
    initialpose_std_m: float
    initialpose_std_deg: float

    @property
    def rules(self) -> Rules:
        """What decisions about poses go by."""
        limits = AgreementLimits(
            self.agree_translation_m, self.agree_rotation_deg, self.odometry_drift,
            self.max_linear_speed_mps, self.max_angular_speed_dps)
        return Rules(Mode(self.mode), limits, self.consensus_fixes, self.consensus_window_s,
                     self.lost_after_s, self.request_timeout_s)

    @property
    def needs_odometry(self) -> bool:
        """Whether an image without odometry at its stamp is of no use."""
        return self.odometry == 'required' or self.tf_mode == 'map_to_odom'


def find_refusal(values: Iterable[tuple[str, object]]) -> str:
    """Why one of these values cannot be used, or an empty text; not by type or range."""
    for name, value in values:
        entry = _ENTRIES.get(name)
        if entry is None:
            continue
        if entry.choices and value not in entry.choices:
            return f"parameter '{name}' is '{value}'; allowed are {', '.join(entry.choices)}"
        if entry.is_frame and not value:
            return f"parameter '{name}' is empty; name a frame, such as {entry.default}"
    return ''


def make_parameters(values: Mapping[str, Any]) -> Parameters:
    """The parameters of these values, one for every name, in type and range already.

    Raises:
        ParameterError: a value is none of the allowed.
    """
    refusal = find_refusal(values.items())
    if refusal:
        raise ParameterError(refusal)
    return Parameters(**{**values, 'model': Path(values['model']).expanduser()})
