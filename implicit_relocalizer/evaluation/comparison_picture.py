# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A comparison of two results as a picture: a dot and a bar for each figure, and a zero line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = {'better': '#2a9d3a', 'worse': '#c1121f', '': '#8a9099'}
# What is infinite is drawn to the edge of the panel.
_EDGE = 1.15


def draw_comparison(path: Path, comparison: Mapping[str, Any], this_name: str) -> None:
    """Write the picture (PNG, or what the suffix says) of a `compare_results`.

    Errors are drawn as a share of the other result's, all else in percentage points.
    """
    groups = [(title, rows) for title, rows in _group(comparison['rows']) if rows]
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(comparison['rows']) + 0.7 * len(groups)),
                    dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(f'{this_name} against {comparison["against"]}\n'
                    f'{comparison["frames_compared"]} {comparison["frames"]}; bars: '
                    f'{100 * comparison["interval"]:g} % intervals, grey may be chance',
                    fontsize=11)
    panels = figure.subplots(len(groups), 1, squeeze=False,
                             height_ratios=[len(rows) + 1.0 for _, rows in groups])[:, 0]
    for axes, (title, rows) in zip(panels, groups, strict=True):
        _draw(axes, title, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _group(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    return [('errors, difference in % of the other\'s (left is better)',
             [row for row in rows if row['better'] == 'lower']),
            ('shares of the frames, difference in percentage points (right is better)',
             [row for row in rows if row['better'] == 'higher']),
            ('shares within the covariance, difference in percentage points (towards the '
             'share that should be)', [row for row in rows if row['better'] == 'nearer'])]


def _draw(axes: Axes, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    bounds = [[_relative(row, key) for key in ('low', 'difference', 'high')] for row in rows]
    widest = max([abs(value) for row in bounds for value in row if value is not None] or [1.0])
    edge = _EDGE * (widest or 1.0)
    for height, (row, (low, middle, high)) in enumerate(zip(rows, bounds, strict=True)):
        colour = COLOURS[row['verdict']]
        # An infinite other leaves nothing to be a share of; on which side it is, is known.
        least = 0.0 if low is None and _is_above_zero(row) else -edge
        most = 0.0 if high is None and _is_below_zero(row) else edge
        axes.plot([least if low is None else low, most if high is None else high],
                  [height, height], color=colour, linewidth=3.0, solid_capstyle='butt')
        if middle is not None:
            axes.plot([middle], [height], 'o', color=colour, markersize=7.0)
    axes.axvline(0.0, color='#333333', linewidth=1.0)
    axes.set_xlim(-edge, edge)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row['label'] for row in rows])
    axes.set_title(title, fontsize=10, loc='left')
    axes.grid(axis='x', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)


def _is_above_zero(row: Mapping[str, Any]) -> bool:
    return row['low'] is not None and row['low'] > 0.0


def _is_below_zero(row: Mapping[str, Any]) -> bool:
    return row['high'] is not None and row['high'] < 0.0


def _relative(row: Mapping[str, Any], key: str) -> float | None:
    value = row[key]
    if value is None:
        return None
    if row['better'] != 'lower':
        return float(value)
    return 100.0 * value / row['other'] if row['other'] else None
