# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's state in the words of its diagnostics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from implicit_relocalizer.localization.belief import Belief, Cause, State
from implicit_relocalizer.localization.statistics import RunStatistics

DIAGNOSTICS_PERIOD_S = 1.0


class Level(IntEnum):
    """How much a person should care; the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


_LEVELS = {State.UNCONFIGURED: Level.WARN, State.SEARCHING: Level.WARN,
           State.LOCALIZED: Level.OK, State.LOST: Level.ERROR}


@dataclass(frozen=True)
class Status:
    """The fields of diagnostic_msgs/DiagnosticStatus."""

    level: Level
    name: str
    message: str
    hardware_id: str
    values: dict[str, str]


def describe_status(node_name: str, scene: str, mode: str, belief: Belief,
                    statistics: RunStatistics, now_s: float) -> Status:
    """State, last refusal, confidence, rates and times.

    Args:
        node_name: Fully qualified.
        scene: Of the model; empty without one.
        mode: When images are looked at.
        belief: What the node believes.
        statistics: What became of the images.
        now_s: On the clock of the statistics.
    """
    refusal = belief.last_refusal
    values = {
        'state': belief.state.value,
        'state_reason': belief.cause.value,
        'mode': mode,
        'last_refusal': refusal.reason.value if refusal else '',
        'last_refusal_text': str(refusal or ''),
        'confidence': _number(statistics.confidence, '.3f'),
        'images_received': str(statistics.received),
        'images_superseded': str(statistics.superseded),
        'images_answered': str(statistics.answered),
        'images_refused': str(statistics.rejected.total()),
        'images_per_s': f'{statistics.image_rate.per_second(now_s):.1f}',
        'fixes_per_s': f'{statistics.fix_rate.per_second(now_s):.1f}',
        'image_age_s': _number(statistics.image_age_s, '.3f'),
        'inference_ms': _number(statistics.last_inference_ms, '.1f'),
    }
    return Status(level_of(belief), f'{node_name}: localization',
                  f'{belief.state.value}: {belief.cause.value}', scene, values)


def level_of(belief: Belief) -> Level:
    """How much a person should care."""
    if belief.cause is Cause.WAITING:
        return Level.WARN  # not found because nobody asked
    return _LEVELS[belief.state]


def _number(value: float | None, form: str) -> str:
    return '' if value is None else format(value, form)
