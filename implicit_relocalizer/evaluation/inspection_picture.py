# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""An inspected scene as one picture: cameras from above, nearest views, convention errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from implicit_relocalizer.data.frames import Float64Array, Frame
from implicit_relocalizer.evaluation.inspect_scene import Inspection
from implicit_relocalizer.evaluation.inspection import SceneStatistics
from implicit_relocalizer.evaluation.inspection_text import format_length
from implicit_relocalizer.evaluation.pose_readings import GIVEN
from implicit_relocalizer.evaluation.scene_check import SceneCheck
from implicit_relocalizer.evaluation.viewpoint import Viewpoint, view_from_above

TRAIN_COLOUR, TEST_COLOUR = '#3a6ea5', '#e8700f'
GOOD_COLOUR, BAD_COLOUR, PATH_COLOUR = '#2a9d3a', '#c1121f', '#c9ced6'
# So many wedges stay apart on the map; of more frames every n-th gets one.
_MAX_WEDGES = 400
_WEDGE_HALF_ANGLE_DEG = 22.0
_MIN_AGREEMENT_ON_UP = 0.6


def draw_inspection(path: Path, inspection: Inspection) -> None:
    """Write the picture (1700x1000 PNG).

    Poses are drawn as they should be read: converted where another convention fits.
    """
    figure = Figure(figsize=(17, 10), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(_headline(inspection), fontsize=16, linespacing=1.4)
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1.45, 1.0), wspace=0.02)).flat
    _draw_cameras(left.subplots(), inspection)
    above, below = right.subplots(2, 1, height_ratios=(1.0, 0.8))
    _draw_nearest(above, inspection.statistics)
    _draw_conventions(below, inspection.check)
    figure.savefig(path)


def choose_view(T_world_camera_n44: Float64Array) -> tuple[Viewpoint, str]:
    """From above if the cameras agree on what is up, else onto the plane they spread over.

    Returns:
        The view, and what it shows in words.
    """
    positions_n3 = T_world_camera_n44[:, :3, 3]
    extent = positions_n3.max(axis=0) - positions_n3.min(axis=0)
    agreement = float(np.linalg.norm(T_world_camera_n44[:, :3, 1].mean(axis=0)))
    view = view_from_above(T_world_camera_n44)
    heights_n = positions_n3 @ view.up_3
    height = float(heights_n.max() - heights_n.min())
    # A place that is higher than wide is rather one whose cameras were held on their side.
    if agreement >= _MIN_AGREEMENT_ON_UP and height <= float(np.sort(extent)[1]) + 1e-9:
        axis = int(np.abs(view.up_3).argmax())
        snapped = abs(view.up_3[axis]) > 1 - 1e-9
        name = ('-' if view.up_3[axis] < 0 else '') + 'xyz'[axis]
        return view, f'from above ({name} is up for most cameras)' if snapped else 'from above'
    first, second = sorted(np.argsort(extent)[1:])
    return (Viewpoint(np.eye(3)[first], np.eye(3)[second],
                      np.cross(np.eye(3)[first], np.eye(3)[second]),
                      'xyz'[first], 'xyz'[second]),
            f'in the plane of their two largest extents, {"xyz"[first]} and {"xyz"[second]}: '
            f'the cameras do not tell what is up')


def _headline(inspection: Inspection) -> str:
    statistics, check = inspection.statistics, inspection.check
    extent = ' x '.join(f'{side:.2f}' for side in statistics.extent_m)
    lines = [f'{inspection.scene.name}: {statistics.train} training and {statistics.test} test '
             f'frames,  {statistics.image_size[0]}x{statistics.image_size[1]} pixels,  '
             f'{extent} m,  path {format_length(statistics.path_length_m)}']
    if check is not None and check.verdict != 'fits':
        lines.append(_complaint(check))
    return '\n'.join(lines)


def _complaint(check: SceneCheck) -> str:
    if check.convention.verdict == 'other_fits':
        return (f'drawn as {check.convention.best.title}, which fits the images where the given '
                f'convention does not')
    found = check.camera or check.time_shift
    if found is not None:
        return found.title
    return {'none_fits': 'poses and images contradict each other in every convention',
            'undecided': 'the images do not decide the convention of the poses',
            'wrong_unit': 'depth images contradict metres'}[check.verdict]


def _draw_cameras(axes: Axes, inspection: Inspection) -> None:
    T_n44, frames = inspection.T_world_camera_n44, inspection.scene.frames
    view, what = choose_view(T_n44)
    positions_n2 = view.project(T_n44[:, :3, 3])
    headings_n2 = view.project(T_n44[:, :3, 2])
    axes.add_collection(LineCollection(
        _paths(frames, positions_n2), colors=PATH_COLOUR, linewidths=0.8, zorder=1))
    size_m = _wedge_length(positions_n2)
    every = -(-len(frames) // _MAX_WEDGES)
    is_test_n = np.array([frame.split == 'test' for frame in frames])
    for chosen_n, colour, name, zorder in ((~is_test_n, TRAIN_COLOUR, 'training', 2),
                                           (is_test_n, TEST_COLOUR, 'test', 3)):
        indices = np.flatnonzero(chosen_n)
        if not len(indices):
            continue
        label = f'{name} ({len(indices)}' + (
            f', one in {every} with its view)' if every > 1 else ')')
        drawn = indices[::every]
        axes.scatter(positions_n2[indices, 0], positions_n2[indices, 1], s=9 if every == 1 else 4,
                     color=colour, linewidths=0, zorder=zorder + 0.5, label=label)
        axes.add_collection(PolyCollection(
            _wedges(positions_n2[drawn], headings_n2[drawn], size_m),  # type: ignore[arg-type]
            facecolors=colour, edgecolors=colour, alpha=0.35, linewidths=0.6, zorder=zorder))
    _mark_bad_poses(axes, inspection.check, positions_n2)
    pad = max(0.05 * float(np.ptp(positions_n2, axis=0).max()), 1.3 * size_m)
    low, high = positions_n2.min(axis=0) - pad, positions_n2.max(axis=0) + pad
    axes.set_xlim(low[0], high[0], auto=True)
    axes.set_ylim(low[1], high[1], auto=True)
    axes.set_aspect('equal', adjustable='datalim')
    axes.set_title(f'Cameras {what}', fontsize=13)
    for axis, axis_name in ((axes.xaxis, view.right_name), (axes.yaxis, view.up_name)):
        sign = -1.0 if axis_name.startswith('-') else 1.0
        axis.set_major_formatter(FuncFormatter(lambda value, _, s=sign: f'{s * value + 0.0:g}'))
        axis.set_label_text(f'{axis_name.removeprefix("-")} [m]')
    axes.grid(alpha=0.25)
    legend = axes.legend(loc='best', framealpha=0.9)
    for handle in legend.legend_handles[:2]:
        if isinstance(handle, PathCollection):
            handle.set_sizes([40])


def _mark_bad_poses(axes: Axes, check: SceneCheck | None, positions_n2: Float64Array) -> None:
    if check is None or not check.bad_poses:
        return
    bad = [pose.index for pose in check.bad_poses]
    axes.scatter(positions_n2[bad, 0], positions_n2[bad, 1], s=130, marker='x', color=BAD_COLOUR,
                 linewidths=2.0, zorder=6, label='contradicts its neighbours\' images')
    for pose in check.bad_poses:
        axes.annotate(pose.name, positions_n2[pose.index], xytext=(8, 6), fontsize=9,
                      textcoords='offset points', color=BAD_COLOUR, zorder=6)


def _draw_nearest(axes: Axes, statistics: SceneStatistics) -> None:
    axes.set_title('Nearest training view of each test frame', fontsize=13)
    nearest = statistics.nearest
    if nearest is None:
        axes.text(0.5, 0.5, 'one of the splits is empty', ha='center', va='center',
                  transform=axes.transAxes, color='grey')
        axes.set_axis_off()
        return
    large = float(nearest.distances_m.max()) >= 1.0
    scale, unit = (1.0, 'm') if large else (100.0, 'cm')
    distances, angles = nearest.distances_m * scale, nearest.angles_deg
    axes.scatter(distances, angles, s=float(np.clip(6000 / len(distances), 5, 36)),
                 color=TEST_COLOUR, alpha=0.6, linewidths=0)
    for percent, style in ((50, '-'), (90, ':')):
        across, up = np.percentile(distances, percent), np.percentile(angles, percent)
        name = 'median' if percent == 50 else f'{percent} % within'
        axes.axvline(across, color='black', linestyle=style, linewidth=1.1,
                     label=f'{name}: {across:.3g} {unit} / {up:.2g}°')
        axes.axhline(up, color='black', linestyle=style, linewidth=1.1)
    axes.set_xlim(0, max(1.06 * float(distances.max()), 1e-6))
    axes.set_ylim(0, max(1.25 * float(angles.max()), 1e-6))
    axes.set_xlabel(f'distance [{unit}]')
    axes.set_ylabel('angle [°]')
    axes.grid(alpha=0.25)
    axes.legend(loc='upper left', framealpha=0.9)


def _draw_conventions(axes: Axes, check: SceneCheck | None) -> None:
    axes.set_title('Epipolar error of matched images by pose convention', fontsize=13)
    if check is None or not check.convention.rows:
        reason = 'no images were matched' if check is None else check.convention.reason
        axes.text(0.5, 0.5, reason.replace('; ', ';\n'), ha='center', va='center',
                  transform=axes.transAxes, color='grey')
        axes.set_axis_off()
        return
    convention = check.convention
    rows = [row for row in convention.rows
            if row.reading.is_common or row.reading in convention.fitting]
    names = [row.reading.title.replace(', ', ',\n', 1)
             + (' (given)' if row.reading is GIVEN else '') for row in rows]
    medians = [row.evidence.median_px for row in rows]
    colours = [GOOD_COLOUR if row.reading in convention.fitting else BAD_COLOUR for row in rows]
    places = np.arange(len(rows))
    axes.barh(places, medians, color=colours, alpha=0.75, height=0.62)
    for place, row, median in zip(places, rows, medians, strict=True):
        pair_errors = row.evidence.errors_px_p
        axes.plot(pair_errors, np.full(len(pair_errors), place), '|', color='black', alpha=0.35,
                  markersize=9)
        axes.annotate(f'{median:.2f} px', (max(*pair_errors, median), place), xytext=(7, 0),
                      textcoords='offset points', va='center', fontsize=10)
    axes.axvline(convention.limit_px, color='black', linestyle='--', linewidth=1.0)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xscale('log')
    lowest = min([convention.noise_px, *(float(row.evidence.errors_px_p.min()) for row in rows)])
    highest = max(float(row.evidence.errors_px_p.max()) for row in rows)
    axes.set_xlim(max(0.6 * lowest, 1e-3), 6 * highest)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f'median Sampson error [px]; strokes: the {len(rows[0].evidence.errors_px_p)} '
                    f'pairs; dashed: {convention.limit_px:.1f} px pass', fontsize=9)
    axes.grid(axis='x', alpha=0.25)
    axes.set_axisbelow(True)


def _paths(frames: tuple[Frame, ...], positions_n2: Float64Array) -> list[Float64Array]:
    starts = [i for i in range(len(frames))
              if i == 0 or frames[i].sequence != frames[i - 1].sequence]
    return [positions_n2[start:end]
            for start, end in zip(starts, [*starts[1:], len(frames)], strict=True)]


def _wedge_length(positions_n2: Float64Array) -> float:
    """Long enough to see in the picture, whatever the size of the place."""
    return 0.028 * max(float(np.ptp(positions_n2, axis=0).max()), 0.1)


def _wedges(positions_n2: Float64Array, headings_n2: Float64Array, length_m: float,
            ) -> Float64Array:
    """Triangles (n, 3, 2) that open along the headings, shorter where cameras look up or down."""
    angle = np.radians(_WEDGE_HALF_ANGLE_DEG)
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (angle, -angle)]
    corners = [positions_n2 + length_m * headings_n2 @ turn.T for turn in turns]
    return np.stack([positions_n2, *corners], axis=1)
