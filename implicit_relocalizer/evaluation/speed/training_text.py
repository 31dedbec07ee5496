# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The result of `training-benchmark` as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from implicit_relocalizer.evaluation.hardware import BUSY, is_busy


def describe_training(result: Mapping[str, Any]) -> str:
    """Steps that learn by gradients, where the time of each training goes, and its errors."""
    hardware, parts = result['hardware'], []
    machine = (f'{hardware["gpu"] or hardware["processor"]}, {hardware["threads"]} CPU '
               f'thread{"" if hardware["threads"] == 1 else "s"}'
               f'{BUSY if is_busy(hardware) else ""}')
    configurations: Mapping[str, Any] = result['configurations']
    steps = list(_step_rows(configurations))
    if steps:
        parts += [f'Steps of training on {machine}: the real loop, the bare network (forward, '
                  f'loss, backward and update on one batch in memory), and data alone:\n',
                  _markdown(['configuration, stage', 'computed in', 'batch', 'loop /s',
                             'bare /s', 'loop over bare, time', 'data /s', 'time for data %',
                             's to the first step'], steps)]
    names = list(dict.fromkeys(phase for values in configurations.values()
                               for phase in values['phase_seconds']))
    parts += [f'Seconds of a whole training on {result["scene"]}, {machine}:\n', _markdown(
        ['', *configurations],
        [[name, *(_seconds(values['phase_seconds'].get(name))
                  for values in configurations.values())] for name in names]
        + [['**all**', *(_seconds(values['wall_seconds'])
                         for values in configurations.values())]])]
    parts += ['Seconds until the median error on the validation images was first so small, '
              'looking at it included, and errors in the end:\n', _markdown(
                  ['', *configurations], list(_error_rows(configurations)))]
    return '\n'.join(parts)


def _step_rows(configurations: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, values in configurations.items():
        for stage, variants in values['steps'].items():
            for row in variants:
                yield [f'{name}, {stage}', row['variant'], f'{row["batch"]} {row["item"]}',
                       f'{row["loop_per_s"]:.3g}', f'{row["bare_per_s"]:.3g}',
                       f'{row["loop_over_bare"]:.2f}', f'{row["data_per_s"]:.3g}',
                       f'{100 * row["share_of_data"]:.1f}',
                       f'{row["seconds_to_first_step"]:.1f}']


def _error_rows(configurations: Mapping[str, Any]) -> Iterator[list[str]]:
    reached = {float(error) for values in configurations.values()
               for error in values['seconds_to_error']}
    for error_m in sorted(reached, reverse=True):
        yield [f'{100 * error_m:g} cm', *(
            _seconds(values['seconds_to_error'].get(f'{error_m:g}'))
            for values in configurations.values())]
    for part, title in (('train', 'training images'), ('validation', 'validation images'),
                        ('test', 'held-out images')):
        yield [title, *(_errors(values.get(part)) for values in configurations.values())]


def _errors(summary: Mapping[str, Any] | None) -> str:
    if summary is None or summary['median_translation_m'] is None:
        return '-'
    return (f'{100 * summary["median_translation_m"]:.1f} cm, '
            f'{summary["median_rotation_deg"]:.2f}°')


def _seconds(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ['---', *['---:'] * (len(titles) - 1)], *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'
