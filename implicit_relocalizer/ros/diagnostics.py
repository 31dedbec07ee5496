# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's state as a diagnostic message."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from implicit_relocalizer.localization.belief import Belief, Cause, State
from implicit_relocalizer.localization.statistics import RunStatistics

LEVELS = {State.UNCONFIGURED: DiagnosticStatus.WARN, State.SEARCHING: DiagnosticStatus.WARN,
          State.LOCALIZED: DiagnosticStatus.OK, State.LOST: DiagnosticStatus.ERROR}


def diagnostic_msg(stamp: Time, node_name: str, scene: str, mode: str, belief: Belief,
                   statistics: RunStatistics, now_s: float) -> DiagnosticArray:
    """State, last refusal, confidence, rates and times.

    Args:
        stamp: Of the message.
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
    status = DiagnosticStatus(
        level=level_of(belief), name=f'{node_name}: localization', hardware_id=scene,
        message=f'{belief.state.value}: {belief.cause.value}',
        values=[KeyValue(key=key, value=value) for key, value in values.items()])
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])


def level_of(belief: Belief) -> bytes:
    """How much a person should care."""
    if belief.cause is Cause.WAITING:
        return DiagnosticStatus.WARN  # not found because nobody asked
    return LEVELS[belief.state]


def _number(value: float | None, form: str) -> str:
    return '' if value is None else format(value, form)
