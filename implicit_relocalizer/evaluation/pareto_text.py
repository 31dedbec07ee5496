# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The table of models against each other, for a terminal or a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from implicit_relocalizer.evaluation.hardware import BUSY, is_busy

NEEDED = ('scene', 'split', 'threads', 'chosen_by', 'hardware', 'models')


def format_pareto(result: Mapping[str, Any]) -> str:
    """A row for each model, the fastest first; + marks what no other beats."""
    threads = [str(count) for count in result['threads']]
    titles = ['', 'encoder', 'input', 'keypoints', 'landmarks', 'MB',
              *(f'ms, {count} thread{"s" if count != "1" else ""}' for count in threads),
              'validation cm', 'training cm', 'held-out cm', 'held-out °',
              'held-out ≤ 5 cm, 5° [%]', 'time', 'size']
    lines = [titles, ['---', '---', *['---:'] * (len(titles) - 4), '---', '---']]
    for row in sorted(result['models'],
                      key=lambda row: row['latency'][threads[0]]['median_ms']):
        test = row['test']
        lines.append([
            row['name'], row['encoder'], '{}x{}'.format(*row['input_size']),
            _or_dash(row['points']), _or_dash(row['landmarks']),
            f'{row["model"]["bytes"] / 1e6:.1f}',
            *(f'{row["latency"][count]["median_ms"]:.1f}' for count in threads),
            _centimetres(row['validation']), _centimetres(row['train']), _centimetres(test),
            '-' if test['median_rotation_deg'] is None else f'{test["median_rotation_deg"]:.2f}',
            f'{100 * test["recall"]["5cm_5deg"]:.0f}',
            '+' if row['unbeaten_in_time'] else '', '+' if row['unbeaten_in_size'] else ''])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def describe_pareto(result: Mapping[str, Any]) -> str:
    """The table below a sentence that says what it is of."""
    hardware = result['hardware']
    part = {'validation': 'validation images', 'test': 'held-out images'}[result['chosen_by']]
    return (f'{result["scene"]}, {result["split"]} split: image in memory to pose, all models in '
            f'turns in one process on {hardware["gpu"] or hardware["processor"]}'
            f'{BUSY if is_busy(hardware) else ""}. + marks models '
            f'that no other beats in both error on {part} and time, or size:\n\n'
            f'{format_pareto(result)}')


def _centimetres(summary: Mapping[str, Any] | None) -> str:
    error = None if summary is None else summary['median_translation_m']
    return '-' if error is None else f'{100 * error:.2f}'


def _or_dash(value: int | None) -> str:
    return '-' if value is None else str(value)
