# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the page's program draws, as JSON values of a bounded size."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.coverage import SIGMAS, limit_of, share_of
from implicit_relocalizer.evaluation.metrics import RECALL_LIMITS, Float64Array
from implicit_relocalizer.evaluation.report.contents import (
    GROUP_NAMES,
    FramePicture,
    MapCloud,
    ReportContents,
)
from implicit_relocalizer.evaluation.report.markup import clean
from implicit_relocalizer.evaluation.report.measures import FrameMeasures
from implicit_relocalizer.evaluation.report.verdict import judged_covariance
from implicit_relocalizer.evaluation.viewpoint import Viewpoint, view_from_above

MAX_FRAMES, MAX_STATES, MAX_CURVE = 3000, 1000, 300
# By which marks are coloured: one contains the other.
_LIMITS = [limit for limit in RECALL_LIMITS if limit.rotation_deg == 5.0]
_DIGITS = 5
_INT16 = 32_000


def page_data(contents: ReportContents, measures: FrameMeasures,
              max_frames: int = MAX_FRAMES) -> dict[str, Any]:
    """Everything that is drawn, in the coordinates of a view from above (right, ahead, up)."""
    view = _viewpoint(contents)
    shown = choose_frames(contents, measures, max_frames)
    return {
        'kind': contents.kind,
        'groups': {group: GROUP_NAMES[group] for group in _groups(contents)},
        'judged': contents.judged_group,
        'axes': [view.right_name, view.up_name],
        'limits': [[limit.translation_m, limit.rotation_deg, limit.label] for limit in _LIMITS],
        'wrong': [contents.wrong_beyond.translation_m, contents.wrong_beyond.rotation_deg],
        'sigmas': [[sigma, limit_of(sigma, 3) / limit_of(1, 3), share_of(sigma)]
                   for sigma in SIGMAS],
        'frames': _columns(contents, measures, view, shown),
        'frame_count': len(contents.frames),
        'counts': _count(contents, measures),
        'states': [[number(i.start_s), number(i.end_s), clean(i.state), clean(i.reason),
                    clean(i.refusal)] for i in contents.states[:MAX_STATES]],
        'curves': _curves(contents, measures),
        'covariance': judged_covariance(contents),
        'confidence': contents.result.get('confidence'),
        'acceptance': contents.result.get('acceptance'),
        'comparison': contents.result.get('comparison'),
        'pictures': [_picture(shown.index(i), picture, view)
                     for i, picture in contents.pictures.items()],
        'cloud': None if contents.cloud is None else _cloud(contents.cloud, view)}


def script_text(values: Mapping[str, Any]) -> str:
    """JSON that no text in it can end: safe between script tags, in ASCII."""
    text = json.dumps(_finite(values), allow_nan=False, separators=(',', ':'))
    return text.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')


def choose_frames(contents: ReportContents, measures: FrameMeasures, count: int) -> list[int]:
    """Indices of at most about `count` frames, in order; training frames get a quarter at most.

    Of each of as many stretches as are needed, the worst answer, the median one and one image
    without an answer stay, so that no peak and no gap goes missing; pictured frames always stay.
    """
    if len(contents.frames) <= count:
        return list(range(len(contents.frames)))
    groups = np.array([frame.group for frame in contents.frames])
    background = np.flatnonzero(groups != contents.judged_group)
    chosen = set(contents.pictures)
    chosen.update(background[np.unique(np.linspace(
        0, len(background) - 1, min(count // 4, len(background))).astype(int))].tolist())
    counted = np.flatnonzero(groups == contents.judged_group)
    room = count - len(chosen)
    if len(counted) <= room:
        return sorted(chosen.union(counted.tolist()))
    badness = np.nan_to_num(measures.badness, nan=-1.0)
    for part in np.array_split(counted, max(1, room // 3)):
        ascending = part[np.argsort(badness[part], kind='stable')]
        silent = part[~measures.is_answered[part]]
        chosen.update(map(int, (ascending[-1], ascending[len(part) // 2], *silent[:1])))
    return sorted(chosen)


def number(value: float | None) -> float | None:
    """Few digits; None for what is no number."""
    return None if value is None or not np.isfinite(value) else float(f'{value:.{_DIGITS}g}')


def _count(contents: ReportContents, measures: FrameMeasures) -> dict[str, Any]:
    """How many judged frames, drawn or not, keep which of `_LIMITS` first; the last one: none."""
    indices = [i for i, f in enumerate(contents.frames) if f.group == contents.judged_group]
    position_m, rotation_deg = measures.position_m[indices], measures.rotation_deg[indices]
    is_judged = np.isfinite(position_m)
    kept = [int(((position_m <= limit.translation_m) & (rotation_deg <= limit.rotation_deg)).sum())
            for limit in _LIMITS]
    return {'classes': np.diff([0, *kept, int(is_judged.sum())]).tolist(),
            'silent': int((~measures.is_answered[indices]).sum()),
            'without_reference': int((measures.is_answered[indices] & ~is_judged).sum()),
            'refused': sum(contents.frames[i].is_accepted is False for i in indices)}


def _groups(contents: ReportContents) -> list[str]:
    return [group for group in GROUP_NAMES if any(f.group == group for f in contents.frames)]


def _viewpoint(contents: ReportContents) -> Viewpoint:
    poses = [pose for frame in contents.frames for pose in (
        frame.T_true if frame.T_true is not None else frame.T_estimate,) if pose is not None]
    return view_from_above(np.array(poses) if poses else np.eye(4)[None])


def _basis(view: Viewpoint) -> Float64Array:
    """Rotation (3, 3) from the map to right, ahead, up."""
    return np.stack([view.right_3, view.up_in_picture_3, view.up_3])


def _columns(contents: ReportContents, measures: FrameMeasures, view: Viewpoint,
             shown: Sequence[int]) -> dict[str, Any]:
    frames = [contents.frames[i] for i in shown]
    texts = sorted({frame.refusal for frame in frames})
    number_of = {text: i for i, text in enumerate(texts)}
    measured = {name: [number(value) for value in values[list(shown)]] for name, values in (
        ('position', measures.position_m), ('rotation', measures.rotation_deg),
        ('sigma', measures.position_sigma_m), ('turn_sigma', measures.rotation_sigma_deg),
        ('normalised', measures.normalised_position),
        ('normalised_turn', measures.normalised_rotation))}
    return {
        'index': list(shown), 'name': [clean(frame.name, 120) for frame in frames],
        'group': [frame.group for frame in frames],
        'time': [number(frame.time_s) if frame.time_s is None else round(frame.time_s, 4)
                 for frame in frames],
        'true': _places([frame.T_true for frame in frames], view),
        'estimate': _places([frame.T_estimate for frame in frames], view),
        **measured,
        'confidence': [number(frame.confidence) for frame in frames],
        'accepted': [frame.is_accepted for frame in frames],
        'refusals': [clean(text) for text in texts],
        'refusal': [number_of[frame.refusal] for frame in frames]}


def _places(poses: Sequence[Float64Array | None], view: Viewpoint) -> list[list[float] | None]:
    """Position and quaternion (x y z w) in the coordinates of the view; seven numbers each."""
    known = [i for i, pose in enumerate(poses) if pose is not None]
    places: list[list[float] | None] = [None] * len(poses)
    if known:
        T_n44 = np.array([poses[i] for i in known], np.float64)
        basis = _basis(view)
        quaternions = Rotation.from_matrix(basis @ T_n44[:, :3, :3]).as_quat()
        rows = np.round(np.hstack([T_n44[:, :3, 3] @ basis.T, quaternions]), 4).tolist()
        for i, row in zip(known, rows, strict=True):
            places[i] = row
    return places


def _curves(contents: ReportContents, measures: FrameMeasures) -> dict[str, Any]:
    """Errors in ascending order beside the share of the images asked that are no worse."""
    groups = np.array([frame.group for frame in contents.frames])
    has_reference = np.array([frame.T_true is not None for frame in contents.frames], bool)
    curves: dict[str, Any] = {}
    for group in _groups(contents):
        asked = (groups == group) & has_reference
        curves[group] = {'asked': int(asked.sum()), **{
            name: _curve(values[asked]) for name, values in (
                ('position', measures.position_m), ('rotation', measures.rotation_deg))}}
    return curves


def _curve(errors_n: Float64Array) -> list[list[float | None]]:
    ascending = np.sort(errors_n[np.isfinite(errors_n)])
    if not len(ascending):
        return []
    chosen = np.unique(np.linspace(0, len(ascending) - 1, min(
        MAX_CURVE, len(ascending))).astype(int))
    return [[number(float(ascending[i])), number((i + 1) / len(errors_n))] for i in chosen]


def _picture(place: int, picture: FramePicture, view: Viewpoint) -> dict[str, Any]:
    values: dict[str, Any] = {'frame': place, 'size': list(picture.size), 'points': None}
    points = picture.points
    if points is not None:
        values['points'] = {
            'pixels': _rounded(points.pixels_n2, 1), 'projected': _rounded(points.projected_n2, 1),
            'residual': _rounded(points.residual_px_n, 2), 'weight': _rounded(points.weights_n, 3),
            'place': _rounded(points.points_map_n3 @ _basis(view).T, 3),
            'colour': points.colours_n3.tolist()}
    return values


def _cloud(cloud: MapCloud, view: Viewpoint) -> dict[str, Any]:
    """Points as little-endian int16 around a centre, in units of `step_m`."""
    points_n3 = cloud.points_map_n3 @ _basis(view).T
    centre_3 = (points_n3.min(axis=0) + points_n3.max(axis=0)) / 2.0
    step_m = max(float(np.abs(points_n3 - centre_3).max()), 1e-6) / _INT16
    whole = np.round((points_n3 - centre_3) / step_m).astype('<i2')
    return {'count': len(whole), 'centre': [number(value) for value in centre_3],
            'step_m': step_m, 'points': _base64(whole),
            'colours': _base64(cloud.colours_n3.astype(np.uint8))}


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode('ascii')


def _rounded(values: Float64Array, digits: int) -> list[Any]:
    """Nested lists; JSON has no NaN."""
    rounded = np.round(values, digits).astype(object)
    rounded[~np.isfinite(values)] = None
    return list(rounded.tolist())


def _finite(values: Any) -> Any:
    """The same values with None for numbers that are not finite."""
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values
