# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Models against each other as a picture: error over time, error over size, and the fronts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from implicit_relocalizer.evaluation.label_placement import Label, place_labels

COLOURS = ('#2a6f97', '#e8700f', '#2a9d3a', '#8e5ea2', '#c1121f', '#8a6d3b', '#008b8b')
FRONT_COLOUR, GREY = '#22303c', '#6b7480'
AREA_PER_MB, LEAST_AREA = 14.0, 16.0

Row = Mapping[str, Any]


def draw_pareto(path: Path, result: Mapping[str, Any]) -> None:
    """Write the picture (PNG, or what the suffix says) of a `measure_pareto`.

    Models without an answer to half of the held-out images have no median and are left out.
    """
    threads = str(result['threads'][0])
    rows = [row for row in result['models'] if row['test']['median_translation_m'] is not None]
    colours = _colours(rows)
    figure = Figure(figsize=(15.5, 8.2), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    hardware = result['hardware']
    figure.suptitle(
        f'{result["scene"]}, {result["split"]} split: what a model costs, and how well it finds '
        f'held-out images', fontsize=15, color=FRONT_COLOUR)
    time_axes, size_axes = figure.subplots(1, 2, width_ratios=(1.75, 1.0), sharey=True)

    def milliseconds(row: Row) -> float:
        return float(row['latency'][threads]['median_ms'])

    def megabytes(row: Row) -> float:
        return float(row['model']['bytes']) / 1e6

    _draw(time_axes, rows, milliseconds, 'unbeaten_in_time', colours)
    _draw(size_axes, rows, megabytes, 'unbeaten_in_size', colours)
    plural = '' if threads == '1' else 's'
    time_axes.set_xlabel(f'ms an image, image in memory to pose: {threads} thread{plural} of '
                         f'{hardware["gpu"] or hardware["processor"]}')
    time_axes.set_ylabel('held-out median position error [cm]')
    size_axes.set_xlabel('model file [MB]')
    part = {'validation': 'validation', 'test': 'held-out'}[result['chosen_by']]
    time_axes.set_title(f'Line: no other is both faster and better on {part} images', loc='left',
                        fontsize=11, color=GREY)
    size_axes.set_title('Line: no other is both smaller and better', loc='left', fontsize=11,
                        color=GREY)
    figure.legend(handles=_legend(rows, colours), loc='outside lower center', frameon=False,
                  ncols=10, fontsize=11, handletextpad=0.8, columnspacing=2.0,
                  borderpad=1.0)
    figure.canvas.draw()  # the layout has to be there before labels can avoid each other
    figure.set_layout_engine('none')
    _label(time_axes, rows, milliseconds, 'unbeaten_in_time', others=True)
    _label(size_axes, rows, megabytes, 'unbeaten_in_size', others=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    names = list(dict.fromkeys(row['encoder'] for row in rows))
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def _centimetres(row: Row) -> float:
    return 100.0 * float(row['test']['median_translation_m'])


def _area(row: Row) -> float:
    return max(LEAST_AREA, AREA_PER_MB * float(row['model']['bytes']) / 1e6)


def _draw(axes: Axes, rows: Sequence[Row], cost: Callable[[Row], float], unbeaten: str,
          colours: Mapping[str, str]) -> None:
    front = _front(rows, cost, unbeaten)
    axes.plot([cost(row) for row in front], [_centimetres(row) for row in front],
              color=FRONT_COLOUR, linewidth=1.6, alpha=0.75, zorder=2)
    for row in rows:
        axes.scatter([cost(row)], [_centimetres(row)], s=_area(row), zorder=3,
                     color=colours[row['encoder']], alpha=0.95 if row[unbeaten] else 0.35,
                     edgecolors=FRONT_COLOUR if row[unbeaten] else 'none', linewidths=1.1)
    axes.set_xscale('log')
    axes.set_yscale('log')
    axes.margins(x=0.14, y=0.16)
    for axis in (axes.xaxis, axes.yaxis):
        _show_numbers(axis)
    axes.grid(color='#e3e6ea', linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _front(rows: Sequence[Row], cost: Callable[[Row], float], unbeaten: str) -> list[Row]:
    return sorted((row for row in rows if row[unbeaten]), key=cost)


def _show_numbers(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axis.set_minor_locator(NullLocator())


def _legend(rows: Sequence[Row], colours: Mapping[str, str]) -> list[Line2D]:
    largest = max(float(row['model']['bytes']) / 1e6 for row in rows)
    sizes = [size for size in (0.5, 2.0, 5.0, 20.0, 50.0) if size <= 1.2 * largest] or [0.5]
    return [*(Line2D([], [], linestyle='', marker='o', markersize=9, color=colour, label=name)
              for name, colour in colours.items()),
            *(Line2D([], [], linestyle='', marker='o', markerfacecolor='none',
                     markeredgecolor=GREY, markersize=max(LEAST_AREA, AREA_PER_MB * size) ** 0.5,
                     label=f'{size:g} MB') for size in sizes[-3:])]


def _label(axes: Axes, rows: Sequence[Row], cost: Callable[[Row], float], unbeaten: str,
           others: bool) -> None:
    """Name the points: those of the front, which choose first, and the others if asked."""
    place_labels(axes, [
        Label(row['label'] if row[unbeaten] or others else '', cost(row), _centimetres(row),
              0.5 * _area(row) ** 0.5, FRONT_COLOUR if row[unbeaten] else GREY,
              'bold' if row[unbeaten] else 'normal')
        for row in sorted(rows, key=lambda row: not row[unbeaten])],
        [(cost(row), _centimetres(row)) for row in _front(rows, cost, unbeaten)])
