# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One picture of a played drive that a person understands at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from implicit_relocalizer.evaluation.clouds import ColouredCloud
from implicit_relocalizer.evaluation.drive import DriveResult
from implicit_relocalizer.evaluation.metrics import Float64Array, RecallLimit
from implicit_relocalizer.evaluation.viewpoint import Viewpoint, view_from_above, view_from_behind

TRUTH_COLOUR, ESTIMATE_COLOUR, ERROR_COLOUR = '#2a9d3a', '#e8700f', '#c1121f'
TRAINING_COLOUR, ROTATION_COLOUR = '#b8bec6', '#3a6ea5'
_CLOUD_SHARE = (2.0, 98.0)  # percentiles of the points that a cloud panel must show
_SMALLEST_ERROR_CM, _SMALLEST_ERROR_DEG = 0.1, 0.01


@dataclass(frozen=True)
class Glimpse:
    """A held-out frame to show: image, learned cloud, and the true one where depth exists."""

    name: str
    rgb_hw3: np.ndarray
    T_world_camera: Float64Array
    imagined: ColouredCloud
    measured: ColouredCloud | None


def draw_drive(path: Path, title: str, drive: DriveResult, T_world_training_n44: Float64Array,
               glimpses: Sequence[Glimpse], limit: RecallLimit) -> None:
    """Write the picture (1800x1200 PNG).

    Args:
        path: File to write.
        title: First line, such as the name of the place.
        drive: The drive with its truth.
        T_world_training_n44: Camera poses of the training images (n, 4, 4).
        glimpses: Held-out frames, three or four, each a row.
        limit: Drawn into the error curves; frames within it count in the headline.
    """
    figure = Figure(figsize=(18, 12), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(f'{title}\n{_headline(drive, limit)}', fontsize=17, linespacing=1.5)
    left, right = _split(figure, 1, 2, wspace=0.02)
    above = view_from_above(np.concatenate([T_world_training_n44, drive.T_world_camera_true]))
    map_part, curve_part = _split(left, 2, 1, height_ratios=(1.55, 1.0), hspace=0.03)
    _draw_map(map_part.subplots(), above, drive, T_world_training_n44)
    _draw_errors(curve_part.subplots(2, 1, sharex=True), drive, limit)
    _draw_glimpses(right, above, glimpses)
    figure.savefig(path)


def _headline(drive: DriveResult, limit: RecallLimit) -> str:
    summary = drive.summarize()
    if not summary.frames_answered:
        return f'none of {summary.frames_asked} images was answered'
    return (f'{summary.frames_answered} of {summary.frames_asked} held-out images answered, '
            f'half of them within {summary.median_translation_m * 100:.1f} cm and '
            f'{summary.median_rotation_deg:.2f}°;  '
            f'{drive.errors.within(limit).sum() / max(summary.frames_asked, 1):.0%} of all '
            f'within {limit.label}')


def _draw_map(axes: Axes, above: Viewpoint, drive: DriveResult,
              T_world_training_n44: Float64Array) -> None:
    training_n2 = above.project(T_world_training_n44[:, :3, 3])
    true_n2 = above.project(drive.T_world_camera_true[:, :3, 3])
    answered = drive.answered
    estimate_n2 = above.project(drive.T_world_camera[answered, :3, 3])
    _scatter(axes, training_n2, s=14, color=TRAINING_COLOUR, label='training images', zorder=1)
    # Error lines lie below both of their ends.
    axes.add_collection(LineCollection(
        np.stack([true_n2[answered], estimate_n2], axis=1),  # type: ignore[arg-type]
        colors=ERROR_COLOUR, linewidths=1.3, label='error', zorder=2))
    _scatter(axes, true_n2, s=52, facecolors='none', edgecolors=TRUTH_COLOUR, linewidths=1.6,
                 label='truth', zorder=3)
    _scatter(axes, estimate_n2, s=16, color=ESTIMATE_COLOUR, label='estimate', zorder=4)
    if not answered.all():
        _scatter(axes, true_n2[~answered], s=60, marker='x', color='black',
                 label='no answer', zorder=3)
    # A wild estimate must not shrink the place to a dot.
    _show_region(axes, np.concatenate([training_n2, true_n2]), margin=0.08)
    outside = int(np.sum(~_inside(axes, estimate_n2)))
    axes.set_title('The drive from above' + (f'  ({outside} estimates lie outside)' if outside
                                             else ''), fontsize=14)
    _name_axis(axes.xaxis, above.right_name)
    _name_axis(axes.yaxis, above.up_name)
    axes.grid(alpha=0.25)
    axes.legend(loc='best', framealpha=0.9)


def _draw_errors(axes: Sequence[Axes], drive: DriveResult, limit: RecallLimit) -> None:
    frame_numbers = np.flatnonzero(drive.answered)
    rows = (
        (axes[0], drive.errors.translation_m * 100, limit.translation_m * 100,
         'position error [cm]', ESTIMATE_COLOUR, _SMALLEST_ERROR_CM, 'cm'),
        (axes[1], drive.errors.rotation_deg, limit.rotation_deg,
         'rotation error [°]', ROTATION_COLOUR, _SMALLEST_ERROR_DEG, '°'))
    for panel, errors, bound, name, colour, smallest, unit in rows:
        panel.plot(frame_numbers, np.maximum(errors, smallest), '.-', color=colour,
                   linewidth=1.2, markersize=6)
        panel.axhline(bound, color=ERROR_COLOUR, linestyle='--', linewidth=1.2,
                      label=f'limit {bound:g} {unit}')
        if len(errors):
            panel.axhline(max(float(np.median(errors)), smallest), color=colour, linestyle=':',
                          linewidth=1.4, label=f'median {np.median(errors):.2g} {unit}')
        for missing in np.flatnonzero(~drive.answered):
            panel.axvspan(missing - 0.5, missing + 0.5, color='black', alpha=0.12, linewidth=0)
        panel.set_yscale('log')
        panel.set_ylim(top=5 * max([bound, *errors]))  # room for the legend
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_ylabel(name)
        panel.grid(alpha=0.25)
        panel.legend(loc='upper right', ncols=2, framealpha=0.9, fontsize=9)
        panel.set_xlim(-0.5, max(len(drive.names), 1) - 0.5)
    axes[0].set_title('Errors along the drive'
                      + ('' if drive.answered.all() else '  (grey: no answer)'), fontsize=14)
    axes[1].set_xlabel('held-out image, in the order of the drive')


def _draw_glimpses(figure: SubFigure, above: Viewpoint, glimpses: Sequence[Glimpse]) -> None:
    if not glimpses:
        return
    grid = figure.subplots(len(glimpses), 3, squeeze=False)
    for axes, title in zip(grid[0], ('What the camera saw', 'What the network imagines',
                                     'The true geometry (depth)'), strict=True):
        axes.set_title(title, fontsize=14)
    for row, glimpse in zip(grid, glimpses, strict=True):
        row[0].margins(0)
        row[0].imshow(glimpse.rgb_hw3)
        row[0].set_aspect('equal', adjustable='datalim')  # as large a panel as its neighbours
        row[0].set_frame_on(False)
        row[0].set_xlabel(f'held-out image {glimpse.name}', fontsize=9)
        view = view_from_behind(glimpse.T_world_camera, above.up_3)
        reference = glimpse.measured or glimpse.imagined
        bounds_n2 = np.percentile(view.project(reference.points_world_n3), _CLOUD_SHARE, axis=0)
        camera_12 = view.project(glimpse.T_world_camera[None, :3, 3])
        for axes, cloud in zip(row[1:], (glimpse.imagined, glimpse.measured), strict=True):
            axes.set_facecolor('#f3f4f6')
            if cloud is None:
                axes.text(0.5, 0.5, 'no depth images\nin this scene', ha='center', va='center',
                          transform=axes.transAxes, color='grey')
            else:
                _draw_cloud(axes, view, cloud)
            _scatter(axes, camera_12, marker='^', s=70, color=TRUTH_COLOUR,
                         edgecolors='white', zorder=10)
            _show_region(axes, np.concatenate([bounds_n2, camera_12]), margin=0.05)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
        row[1].set_xlabel('from behind and above; faint = little trusted', fontsize=9)
        row[2].set_xlabel('triangle: the camera', fontsize=9)


def _draw_cloud(axes: Axes, view: Viewpoint, cloud: ColouredCloud) -> None:
    order = np.argsort(-view.depth(cloud.points_world_n3))  # far points first
    points_n2 = view.project(cloud.points_world_n3[order])
    colours_n4 = np.column_stack([cloud.colours_n3[order], 0.08 + 0.92 * cloud.weights_n[order]])
    # The sparser the cloud, the larger its points: about the same area is covered.
    _scatter(axes, points_n2, s=np.clip(22_000 / len(points_n2), 1.5, 16.0), c=colours_n4,
                 linewidths=0)


def _split(figure: Figure | SubFigure, rows: int, columns: int,
           **style: Any) -> tuple[SubFigure, ...]:
    return tuple(np.asarray(figure.subfigures(rows, columns, **style)).flat)


def _scatter(axes: Axes, points_n2: Float64Array, **style: Any) -> None:
    axes.scatter(points_n2[:, 0], points_n2[:, 1], **style)


def _name_axis(axis: Axis, name: str) -> None:
    # Ticks show the world's own coordinates, also where an axis runs against the picture.
    sign = -1.0 if name.startswith('-') else 1.0
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{sign * value + 0.0:g}'))
    axis.set_label_text(f'{name.removeprefix("-")} [m]')


def _show_region(axes: Axes, points_n2: Float64Array, margin: float) -> None:
    low, high = points_n2.min(axis=0), points_n2.max(axis=0)
    pad = margin * max(float((high - low).max()), 0.5)
    # With auto=True the aspect may widen these limits to fill the panel.
    axes.set_xlim(low[0] - pad, high[0] + pad, auto=True)
    axes.set_ylim(low[1] - pad, high[1] + pad, auto=True)
    axes.set_aspect('equal', adjustable='datalim')


def _inside(axes: Axes, points_n2: Float64Array) -> np.ndarray:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return np.all((points_n2 >= [left, bottom]) & (points_n2 <= [right, top]), axis=1)
