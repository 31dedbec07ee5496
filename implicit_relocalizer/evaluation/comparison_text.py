# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A comparison of two results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNIT_TEXTS = {'cm': ' cm', 'deg': '°', '%': ' %'}
_DIGITS = {'cm': 2, 'deg': 2, '%': 1}


def describe_comparison(comparison: Mapping[str, Any], this_name: str) -> str:
    """The values of `compare_results`, for a person.

    Args:
        comparison: Of `compare_results`.
        this_name: What the first result is called.
    """
    only = ''.join(f'; {comparison[key]} are only in {name}' for key, name in (
        ('frames_only_here', this_name), ('frames_only_there', comparison['against']))
        if comparison[key])
    lines = [f'{this_name} against {comparison["against"]}: {comparison["frames_compared"]} '
             f'{comparison["frames"]}{only}',
             _line('', 'this', 'other', 'difference',
                   f'{100 * comparison["interval"]:g} % interval', '')]
    for row in comparison['rows']:
        unit, digits = row['unit'], _DIGITS[row['unit']]
        low, high = (_signed(row[key], digits, infinite) for key, infinite in (
            ('low', '-∞'), ('high', '∞')))
        this, other = (_plain(row[key], digits) + UNIT_TEXTS[unit] for key in ('this', 'other'))
        lines.append(_line(
            row['label'], this, other, _signed(row['difference'], digits, '±∞'),
            f'{low} to {high}', row['verdict']))
    lines += ['', '  better, worse: zero is outside of the interval; what has neither may be '
                  'chance.', '  Frames without an answer count as infinitely wrong.']
    return '\n'.join(lines)


def _line(label: str, this: str, other: str, difference: str, interval: str,
          verdict: str) -> str:
    return (f'  {label:<30}{this:>12}{other:>12}{difference:>13}{interval:>22}  '
            f'{verdict}').rstrip()


def _plain(value: float | None, digits: int) -> str:
    return '∞' if value is None else f'{value:.{digits}f}'


def _signed(value: float | None, digits: int, infinite: str) -> str:
    if value is None:
        return infinite
    text = f'{value:+.{digits}f}'
    return text if float(text) else f'{0.0:.{digits}f}'
