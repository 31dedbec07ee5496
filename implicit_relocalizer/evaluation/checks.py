# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Requirements on a demo run, each with its value, its limit and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from implicit_relocalizer.evaluation.drive import DriveResult

LARGEST_MODEL_BYTES = 8_000_000
LONGEST_TRAINING_S = 300.0
LONGEST_DEMO_S = 720.0


@dataclass(frozen=True)
class Check:
    """One requirement.

    Attributes:
        name: Key in results.
        text: What is measured, for a person.
        value: Measured; None or NaN where there is nothing to measure, which fails.
        relation: Whether the limit is the least or the most allowed.
        limit: In the unit of the value.
        required: False turns a miss into a warning.
    """

    name: str
    text: str
    value: float | None
    relation: Literal['at least', 'at most']
    limit: float
    required: bool = True

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit."""
        if self.value is None or math.isnan(self.value):
            return False
        return (self.value >= self.limit if self.relation == 'at least'
                else self.value <= self.limit)

    def to_dict(self) -> dict[str, Any]:
        """The check as JSON values."""
        missing = self.value is None or math.isnan(self.value)
        return {'name': self.name, 'text': self.text, 'value': None if missing else self.value,
                'relation': self.relation, 'limit': self.limit, 'required': self.required,
                'passed': self.passed}

    def describe(self) -> str:
        """One line, such as `FAILED  median position error [m]: 0.12, at most 0.05`."""
        verdict = 'ok' if self.passed else 'FAILED' if self.required else 'warning'
        value = 'nothing' if self.to_dict()['value'] is None else f'{self.value:.3g}'
        return f'{verdict:<8}{self.text}: {value}, {self.relation} {self.limit:g}'


def check_conduct(drive: DriveResult) -> list[Check]:
    """How the node has to behave, whatever the place."""
    asked = max(len(drive.names), 1)
    return [
        Check('answered', 'share of the images sent that were answered',
              float(drive.answered.sum()) / asked, 'at least', 0.9),
        Check('unknown_stamps', 'poses whose stamp is no image\'s stamp',
              drive.unknown_stamps, 'at most', 0),
        Check('duplicate_stamps', 'poses that repeat the stamp of another',
              drive.duplicate_stamps, 'at most', 0),
        Check('poses_without_tf', 'poses without a transform of the same stamp',
              drive.poses_without_tf, 'at most', 0),
        Check('tf_difference', 'largest difference of a pose and its transform',
              drive.tf_difference if drive.answered.any() else None, 'at most', 1e-6)]


def check_synthetic_accuracy(drive: DriveResult) -> list[Check]:
    """How well the rendered place has to be learned."""
    summary = drive.summarize()
    return [
        Check('median_translation_m', 'median position error [m]',
              summary.median_translation_m, 'at most', 0.05),
        Check('median_rotation_deg', 'median rotation error [°]',
              summary.median_rotation_deg, 'at most', 1.5),
        Check('recall_10cm_5deg', 'share of the images sent found within 10 cm / 5°',
              summary.recall['10cm_5deg'], 'at least', 0.9)]


def check_real_accuracy(drive: DriveResult) -> list[Check]:
    """How well a place of the user's own has to be learned."""
    return [Check('recall_25cm_5deg', 'share of the images sent found within 25 cm / 5°',
                  drive.summarize().recall['25cm_5deg'], 'at least', 0.7)]


def check_quick_accuracy(drive: DriveResult) -> list[Check]:
    """How well a tiny rendered place has to be learned in seconds: better than a guess.

    These limits say that the whole chain works, nothing about how good the method is.
    """
    summary = drive.summarize()
    return [
        Check('median_translation_m', 'median position error [m], quick',
              summary.median_translation_m, 'at most', 0.25),
        Check('median_rotation_deg', 'median rotation error [°], quick',
              summary.median_rotation_deg, 'at most', 5.0)]


def check_costs(model_bytes: int, training_s: float | None, demo_s: float,
                strict_times: bool) -> list[Check]:
    """What may be spent. Times are warnings unless strict: a busy machine is no defect."""
    checks = [Check('model_bytes', 'size of the model [bytes]', model_bytes, 'at most',
                    LARGEST_MODEL_BYTES)]
    if training_s is not None:
        checks.append(Check('training_seconds', 'training [s]', training_s, 'at most',
                            LONGEST_TRAINING_S, required=strict_times))
    checks.append(Check('demo_seconds', 'the whole demo without installation [s]', demo_s,
                        'at most', LONGEST_DEMO_S, required=strict_times))
    return checks


def describe_drive(result: Mapping[str, Any]) -> str:
    """The table of a demo's `result.json` values for a terminal."""
    def row(name: str, *cells: str) -> str:
        return f'  {name:<18}' + ''.join(f'{cell:>12}' for cell in cells)

    def number(value: float | None, form: str, scale: float = 1.0) -> str:
        return '-' if value is None else format(value * scale, form)

    latency = result['latency_ms']
    lines = [
        f'{result["scene"]}: {result["frames_sent"]} held-out images sent, '
        f'{result["frames_answered"]} answered',
        row('', 'median', '90 %', 'on training images'.rjust(24)),
        row('position error', number(result['median_translation_m'], '.1f', 100) + ' cm',
            number(result['p90_translation_m'], '.1f', 100) + ' cm',
            (number(result['train_median_translation_m'], '.1f', 100) + ' cm').rjust(24)),
        row('rotation error', number(result['median_rotation_deg'], '.2f') + '°',
            number(result['p90_rotation_deg'], '.2f') + '°',
            (number(result['train_median_rotation_deg'], '.2f') + '°').rjust(24)),
        row('', *_recall_names(result['recall'])),
        row('images found', *(f'{share:.0%}' for share in result['recall'].values())),
        row('', 'median', '95 %'),
        row('image to pose', number(latency['median'], '.0f') + ' ms',
            number(latency['p95'], '.0f') + ' ms')]
    return '\n'.join(lines)


def _recall_names(recall: Mapping[str, float]) -> Sequence[str]:
    return [key.replace('cm_', ' cm/').replace('deg', '°') for key in recall]
