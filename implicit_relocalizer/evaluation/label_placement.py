# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Names beside the points of a plot that cover no point and no other name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

LINE_COLOUR = '#9aa3ad'
# Directions from the point, the likely ones first, and how far from its edge, in points.
_DIRECTIONS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 0), (-1, 1), (-1, -1))
_DISTANCES = (4.0, 11.0, 20.0, 32.0, 46.0, 62.0)
_LONG = 15.0
_DIAGONAL = 0.75
_LINE_STEP_PX = 4.0


@dataclass(frozen=True)
class Label:
    """A name and its point.

    Attributes:
        text: The name; empty for a point that is only to be kept free.
        x, y: In the data's units.
        radius: Of the marker, in points.
        colour: Of the text.
        weight: Of the font, as matplotlib calls it.
    """

    text: str
    x: float
    y: float
    radius: float
    colour: str
    weight: str = 'normal'


def place_labels(axes: Axes, labels: Sequence[Label],
                 line: Sequence[tuple[float, float]] = (), size: float = 9.5) -> None:
    """Write every name as near to its point as there is room; the first ones choose first.

    Call it when limits and layout are as they will be: the figure has been drawn once.

    Args:
        axes: With the points.
        labels: Of all points.
        line: Corners of a line that names should not cross, in the data's units.
        size: Of the font.
    """
    taken = [*(_marker_box(axes, label) for label in labels), *_along(axes, line)]
    for label in labels:
        if label.text:
            taken.append(_place(axes, label, size, taken))


def _place(axes: Axes, label: Label, size: float, taken: Sequence[Bbox]) -> Bbox:
    """Write one name where it overlaps least; returns what it takes."""
    frame = axes.get_window_extent()
    best: tuple[float, Annotation, Bbox] | None = None
    for text in _candidates(axes, label, size):
        text.update_positions(_renderer(axes))
        box = Text.get_window_extent(text, _renderer(axes))  # of the text without its line
        covered = sum(_shared_area(box, other) for other in taken) \
            + box.width * box.height - _shared_area(box, frame)
        if best is not None and covered >= best[0]:
            text.remove()
            continue
        if best is not None:
            best[1].remove()
        best = covered, text, box
        if covered < 1.0:
            break
    assert best is not None
    return best[2]


def _candidates(axes: Axes, label: Label, size: float) -> Iterator[Annotation]:
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            reach = (label.radius + distance) * (_DIAGONAL if right and up else 1.0)
            text = axes.annotate(
                label.text, (label.x, label.y), (right * reach, up * reach),
                textcoords='offset points', fontsize=size, color=label.colour, zorder=5,
                fontweight=label.weight, ha={1: 'left', 0: 'center', -1: 'right'}[right],
                va={1: 'bottom', 0: 'center', -1: 'top'}[up],
                arrowprops={'arrowstyle': '-', 'color': LINE_COLOUR, 'linewidth': 0.8,
                            'shrinkA': 0.0, 'shrinkB': label.radius}
                if distance > _LONG else None,
                path_effects=[patheffects.withStroke(linewidth=2.5, foreground='white')])
            text.set_in_layout(False)
            yield text


def _marker_box(axes: Axes, label: Label) -> Bbox:
    x, y = axes.transData.transform((label.x, label.y))
    radius = label.radius * _renderer(axes).points_to_pixels(1.0)
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _along(axes: Axes, line: Sequence[tuple[float, float]]) -> list[Bbox]:
    """Small boxes that cover a line."""
    if len(line) < 2:
        return []
    corners_n2 = axes.transData.transform(line)
    boxes = []
    for begin, end in pairwise(corners_n2):
        steps = max(1, int(np.hypot(*(end - begin)) / _LINE_STEP_PX))
        boxes += [Bbox.from_bounds(x - 1.0, y - 1.0, 2.0, 2.0)
                  for x, y in np.linspace(begin, end, steps)]
    return boxes


def _renderer(axes: Axes):  # type: ignore[no-untyped-def]  # matplotlib has no type for it
    figure = axes.figure
    assert isinstance(figure, Figure) and isinstance(figure.canvas, FigureCanvasAgg)
    return figure.canvas.get_renderer()


def _shared_area(one: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)
