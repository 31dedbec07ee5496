# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The result of a recorded run as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from implicit_relocalizer.evaluation.coverage import SIGMAS, VALID
from implicit_relocalizer.evaluation.metrics import ALL_LIMITS


def describe_run(result: Mapping[str, Any]) -> str:
    """The values of `measure_run`, for a person."""
    errors, wrong = result['errors'], result['false_accepts']
    first, latency = result['time_to_first_fix_s'], result['latency_ms']
    lines = [
        f'{result["bag"]}: estimates from {result["topics"]["estimates"]}, images from '
        f'{result["topics"]["images"]}',
        f'  reference: {result["reference"]}', '',
        _row('images (answered)', f'{result["images_asked"]} ({result["images_answered"]}), '
             f'{result["availability"]:.1%}'),
        _row('first fix after', f'{first["by_stamp"]:.3f} s of stamps, '
             f'{first["by_bag_time"]:.3f} s of recording'),
        _row('latency, median and 95 %', f'{latency["median"]:.0f} ms, {latency["p95"]:.0f} ms'),
        '',
        _row('images with a reference (answered)',
             f'{errors["frames"]} ({errors["frames_answered"]})'),
        *(_row(label, f'{100 * errors[f"{key}_translation_m"]:.1f} cm '
               f'{errors[f"{key}_rotation_deg"]:.2f}°')
          for key, label in (('median', 'median error'), ('p90', '90 % of the errors below'),
                             ('p99', '99 % of the errors below'))),
        *(_row(f'within {limit.label}', f'{errors["recall"][limit.key]:.1%}')
          for limit in ALL_LIMITS),
        _row(f'wrong by more than {wrong["beyond_m"]:g} m or {wrong["beyond_deg"]:g}°',
             f'{wrong["count"]}, {wrong["share"]:.2%} of the answers'),
        '', *_covariance_lines(result['covariance'])]
    if result['states']:
        lines += ['', f'  states ({result["topics"]["diagnostics"]})', *_state_lines(result)]
    if result['warnings']:
        lines += ['', *(f'  note: {warning}' for warning in result['warnings'])]
    return '\n'.join(lines)


def _covariance_lines(covariance: Mapping[str, Any] | None) -> list[str]:
    if covariance is None:
        return ['  no covariance on this topic (PoseStamped has none)']
    lines = []
    bad = {kind: count for kind, count in covariance['kinds'].items()
           if count and kind != VALID}
    if bad:
        total = sum(covariance['kinds'].values())
        lines.append(f'  of {total} covariances not usable: ' + ', '.join(
            f'{count} {kind.replace("_", " ")}' for kind, count in bad.items()))
    parts = [covariance['position'], covariance['orientation']]
    lines.append(_cells('errors within the covariance\'s', 'position', 'orientation', 'expected'))
    for sigma in SIGMAS:
        key = f'{sigma}_sigma'
        lines.append(_cells(f'  {sigma} sigma', *(_share(part['within'][key]) for part in parts),
                            _share(parts[0]['expected'][key])))
    medians = [part['median_normalised_error'] for part in parts]
    lines.append(_cells('  median normalised error', *(
        '-' if median is None else f'{median:.2f}'
        for median in (*medians, parts[0]['expected_median_normalised_error']))))
    return lines


def _state_lines(result: Mapping[str, Any]) -> list[str]:
    start_ns = result['states'][0]['since_ns']
    return [f'    {(change["since_ns"] - start_ns) / 1e9:9.2f} s  {change["state"]}: '
            f'{change["reason"]}' for change in result['states']]


def _row(label: str, value: str) -> str:
    return f'  {label:<40}{value}'


def _cells(label: str, *cells: str) -> str:
    return (f'  {label:<40}' + ''.join(f'{cell:<14}' for cell in cells)).rstrip()


def _share(value: float | None) -> str:
    return '-' if value is None else f'{value:.1%}'
