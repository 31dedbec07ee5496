# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How honest a model's answers are, as lines of a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from implicit_relocalizer.evaluation.coverage import SIGMAS

Row = Callable[..., str]
_PARTS = ('train', 'test')


def describe_honesty(result: Mapping[str, Any], row: Row) -> list[str]:
    """Lines about `covariance`, `confidence` and `acceptance`, those that were measured.

    Args:
        result: Of `evaluate`; results of older versions have nothing of these.
        row: Formats a label and its cells.
    """
    lines = []
    if result.get('covariance'):
        lines += ['', row('errors within the covariance\'s', 'training', 'held-out'),
                  *_coverage_rows(result['covariance'], row)]
    if result.get('confidence'):
        lines += ['', *_confidence_rows(result, row)]
    if result.get('acceptance'):
        lines += ['', *_acceptance_rows(result['acceptance'], row)]
    if result.get('left_out'):
        lines += ['', *(f'  no {name}: {reason}' for name, reason in result['left_out'].items())]
    if lines and result.get('warnings'):
        lines += ['', *(f'  note: {warning}' for warning in result['warnings'])]
    return lines


def _coverage_rows(covariance: Mapping[str, Any], row: Row) -> list[str]:
    rows = []
    for part in ('position', 'orientation'):
        expected = covariance['test'][part]['expected']
        rows += [row(f'{part}, {sigma} sigma (should be {_percent(expected[key])})',
                     *(_percent(covariance[split][part]['within'][key]) for split in _PARTS))
                 for sigma, key in ((sigma, f'{sigma}_sigma') for sigma in SIGMAS)]
    return rows


def _confidence_rows(result: Mapping[str, Any], row: Row) -> list[str]:
    both = result['confidence'], result['confidence_with_elsewhere']
    own = both[0]
    return [
        row(f'probability of {own["bound_m"]:g} m and {own["bound_deg"]:g}°', 'held-out',
            '+ elsewhere' if both[1] else ''),
        *(row(label, *(show(part) for part in both if part)) for label, show in (
            ('answers (within that)', lambda part: f'{part["answers"]} ({part["good_answers"]})'),
            ('expected calibration error',
             lambda part: _percent(part['expected_calibration_error']))))]


def _acceptance_rows(acceptance: Mapping[str, Any], row: Row) -> list[str]:
    at = acceptance['at_threshold']
    rows = [row(f'accepted from confidence {at["threshold"]:.3f} on', '', '')]
    for label, name in (
            (f'held-out, within {acceptance["bound_m"]:g} m and {acceptance["bound_deg"]:g}°',
             'good'), ('held-out, farther off', 'wrong'), ('images of other places', 'elsewhere')):
        accepted, count = at['counts'][name]
        if count:
            rows.append(row(label, f'{accepted} of {count}', _percent(at[f'{name}_accepted'])))
    return rows


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.1f} %'
