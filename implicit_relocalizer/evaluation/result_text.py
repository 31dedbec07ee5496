# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A result as a table for the terminal; training and held-out frames always side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from implicit_relocalizer.evaluation.honesty_text import describe_honesty
from implicit_relocalizer.evaluation.metrics import ALL_LIMITS, RECALL_LIMITS, RecallLimit
from implicit_relocalizer.evaluation.pose_variants import VARIANT_LABELS

_PARTS = ('train', 'test')


def describe_result(result: Mapping[str, Any]) -> str:
    """The values of an `evaluate` or `sift-map` result, for a person."""
    lines = [f'{result["scene"]}, split {result["split"]}'
             + (f', {result["skipped_frames"]} frames skipped' if result['skipped_frames']
                else ''),
             _row('', 'training', 'held-out')]
    for label, show in _SUMMARY_ROWS:
        lines.append(_row(label, *(show(result[part]) for part in _PARTS)))
    for limit in ALL_LIMITS:
        if limit in RECALL_LIMITS or any(limit.key in result[part]['recall'] for part in _PARTS):
            lines.append(_row(f'within {limit.label}', *(
                _recall(result[part], limit) for part in _PARTS)))
    geometry = result.get('geometry')
    if geometry:
        lines.append('')
        lines.append(_row('predicted points against depth', 'training', 'held-out'))
        for label, key, scale, unit in _GEOMETRY_ROWS:
            group, _, name = key.partition('.')
            lines.append(_row(label, *(
                '-' if not geometry[part]
                else _number(geometry[part][group][name], '.1f', scale) + unit
                for part in _PARTS)))
    if result.get('variants'):
        lines += ['', _row('other ways to the pose', 'training', 'held-out')]
        for name, parts in result['variants'].items():
            lines.append(_row(VARIANT_LABELS.get(name, name), *(
                _below('median')(parts[part]) if part in parts else '-' for part in _PARTS)))
    lines += describe_honesty(result, _row)
    lines += ['', f'  {_number(result["milliseconds_per_image"], ".0f")} ms an image in the '
                  f'median on {_machine(result["hardware"])}']
    return '\n'.join(lines)


def _row(label: str, *cells: str) -> str:
    return (f'  {label:<44}' + ''.join(f'{cell:>20}' for cell in cells)).rstrip()


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return '-' if value is None else format(value * scale, form)


def _machine(hardware: Mapping[str, Any]) -> str:
    return hardware['gpu'] or f'{hardware["processor"]}, {hardware["threads"]} threads'


def _recall(summary: Mapping[str, Any], limit: RecallLimit) -> str:
    return _number(summary['recall'].get(limit.key), '.0%')


def _below(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda s: (_number(s.get(f'{name}_translation_m'), '.1f', 100) + ' cm '
                      + _number(s.get(f'{name}_rotation_deg'), '.2f') + '°')


_SUMMARY_ROWS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ('frames (answered)', lambda s: f'{s["frames"]} ({s["frames_answered"]})'),
    ('median error', _below('median')),
    ('90 % of the errors below', _below('p90')),
    ('99 % of the errors below', _below('p99')))

_GEOMETRY_ROWS = (
    ('world points, median distance', 'world_m.median', 100, ' cm'),
    ('world points, weighted median', 'world_m.median_weighted', 100, ' cm'),
    ('world points, median of the trusted half', 'world_m.median_trusted_half', 100, ' cm'),
    ('world points, mean of the trusted half', 'world_m.mean_trusted_half', 100, ' cm'),
    ('depth, median error', 'depth_relative.median', 100, ' %'),
    ('depth, weighted median error', 'depth_relative.median_weighted', 100, ' %'),
    ('depth, median error of the trusted half', 'depth_relative.median_trusted_half', 100, ' %'))
