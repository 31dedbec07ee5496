# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a report tells as a recording of Rerun, to scrub through."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.data.resizing import resized_intrinsics
from implicit_relocalizer.evaluation.metrics import Float64Array, pose_errors
from implicit_relocalizer.evaluation.report.contents import (
    GROUP_NAMES,
    ReportContents,
    ReportFrame,
)

APPLICATION = 'implicit_relocalizer'
# Rerun's timelines: seconds since the first image where they are known, and the image's number.
TIME, NUMBER = 'time', 'image'
_ESTIMATE, _TRUTH = 'map/estimate', 'map/reference'
_MOST_WIDTH_PX, _JPEG_QUALITY = 640, 80
_FRUSTUM_M = 0.25
_ELLIPSOID_SIGMA = 2.0
_BLUE, _ORANGE, _GREY, _RED = (30, 136, 229), (245, 124, 0), (158, 158, 158), (211, 47, 47)


class _View(NamedTuple):
    """An image as it is shown, and its calibration, None where it is unknown."""

    jpeg: bytes
    size: tuple[int, int]
    K_33: Float64Array | None


class RerunMissingError(RuntimeError):
    """The Rerun SDK is not installed; the message says how to."""


def write_rerun(path: Path, contents: ReportContents, images: Iterable[tuple[int, Frame]]) -> None:
    """Write an .rrd file, whole or not at all: camera, image, errors and words over time.

    Args:
        path: The file, replaced where there is one.
        contents: Of the report; its pictures and its result are not used.
        images: Index of a frame of the contents, and where its image and calibration are; frames
            that are left out are shown without an image. Calibrations of identity are unknown.

    Raises:
        RerunMissingError: there is no Rerun SDK.
        OSError: the file cannot be written.
    """
    rr = require_rerun()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    try:
        recording = rr.RecordingStream(APPLICATION)
        recording.save(partial, default_blueprint=_blueprint(contents))
        _log_still(rr, recording, contents)
        views = iter(images)
        waiting = next(views, None)
        for index, frame in enumerate(contents.frames):
            _set_time(recording, index, frame.time_s)
            view = None
            if waiting is not None and waiting[0] == index:
                view, waiting = waiting[1], next(views, None)
            _log_frame(rr, recording, frame, view)
        for state in contents.states:
            recording.set_time(TIME, duration=state.start_s)
            recording.log('words', rr.TextLog(f'{state.state}: {state.reason}', level=(
                'WARN' if state.state == 'LOST' else 'INFO')))
        recording.flush()
        recording.disconnect()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_rerun() -> Any:
    """The Rerun SDK, which weighs hundreds of megabytes and is not installed with the package.

    Raises:
        RerunMissingError: it is not there.
    """
    try:
        import rerun
    except ImportError as error:
        raise RerunMissingError(
            '--rerun needs the Rerun SDK: pip install rerun-sdk, or '
            "pip install 'implicit_relocalizer[rerun]'") from error
    return rerun


def _blueprint(contents: ReportContents) -> Any:
    import rerun.blueprint as rrb
    return rrb.Blueprint(rrb.Horizontal(
        rrb.Spatial3DView(origin='map', name=contents.title),
        rrb.Vertical(
            rrb.Spatial2DView(origin=f'{_ESTIMATE}/camera', name='image'),
            rrb.TimeSeriesView(origin='position', name='position error and sigma [m]'),
            rrb.TimeSeriesView(origin='orientation', name='orientation error and sigma [deg]'),
            rrb.TimeSeriesView(origin='confidence', name='confidence'),
            rrb.TextLogView(origin='words', name='states and refusals')),
        column_shares=(3, 2)))


def _log_still(rr: Any, recording: Any, contents: ReportContents) -> None:
    """What does not change: the learned place, and the way that the reference took."""
    recording.log('map', rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    if contents.cloud is not None:
        recording.log('map/learned', rr.Points3D(
            contents.cloud.points_map_n3, colors=contents.cloud.colours_n3, radii=0.01),
            static=True)
    for group, name in GROUP_NAMES.items():
        way = [frame.T_true[:3, 3] for frame in contents.frames
               if frame.group == group and frame.T_true is not None]
        if len(way) > 1:
            recording.log(f'map/way/{name}', rr.LineStrips3D([np.array(way)], colors=[_GREY]),
                          static=True)


def _set_time(recording: Any, index: int, time_s: float | None) -> None:
    recording.set_time(NUMBER, sequence=index)
    if time_s is None:
        recording.disable_timeline(TIME)
    else:
        recording.set_time(TIME, duration=time_s)


def _log_frame(rr: Any, recording: Any, frame: ReportFrame, view: Frame | None) -> None:
    shown = None if view is None else _show(view)
    _log_camera(rr, recording, _TRUTH, frame.T_true, shown, _GREY)
    answered = frame.T_estimate is not None
    colour = _ORANGE if frame.is_accepted is False else _BLUE
    _log_camera(rr, recording, _ESTIMATE, frame.T_estimate, shown, colour)
    if shown is not None:
        recording.log(f'{_ESTIMATE}/camera/image', rr.EncodedImage(
            contents=shown.jpeg, media_type='image/jpeg'))
    if frame.T_estimate is not None and frame.covariance_66 is not None:
        _log_uncertainty(rr, recording, frame.T_estimate, frame.covariance_66)
    else:
        recording.log('map/uncertainty', rr.Clear(recursive=False))
    if frame.T_true is not None and frame.T_estimate is not None:
        errors = pose_errors(frame.T_true[None], frame.T_estimate[None])
        recording.log('position/error', rr.Scalars(float(errors.translation_m[0])))
        recording.log('orientation/error', rr.Scalars(float(errors.rotation_deg[0])))
    if frame.confidence is not None and np.isfinite(frame.confidence):
        recording.log('confidence', rr.Scalars(frame.confidence))
    if frame.refusal or not answered:
        recording.log('words', rr.TextLog(f'{frame.name}: {frame.refusal or "no answer"}',
                                          level='WARN'))


def _log_camera(rr: Any, recording: Any, entity: str, T_map_camera: Float64Array | None,
                view: _View | None, colour: tuple[int, int, int]) -> None:
    """A frustum; images are drawn in it where the calibration is known."""
    if T_map_camera is None:
        recording.log(entity, rr.Clear(recursive=True))
        return
    recording.log(entity, rr.Transform3D(translation=T_map_camera[:3, 3],
                                         mat3x3=T_map_camera[:3, :3]))
    if view is not None and view.K_33 is not None:
        recording.log(f'{entity}/camera', rr.Pinhole(
            image_from_camera=view.K_33, width=view.size[0], height=view.size[1],
            camera_xyz=rr.ViewCoordinates.RDF, image_plane_distance=_FRUSTUM_M, color=colour))
    else:
        recording.log(f'{entity}/centre', rr.Points3D([[0.0, 0.0, 0.0]], colors=[colour],
                                                      radii=0.04))


def _log_uncertainty(rr: Any, recording: Any, T_map_camera: Float64Array,
                     covariance_66: Float64Array) -> None:
    variances_3, axes_33 = np.linalg.eigh(covariance_66[:3, :3])
    if not (np.isfinite(variances_3).all() and variances_3[0] > 0.0):
        recording.log('map/uncertainty', rr.Clear(recursive=False))
        return
    if np.linalg.det(axes_33) < 0.0:
        axes_33 = axes_33 * [1.0, 1.0, -1.0]
    recording.log('map/uncertainty', rr.Ellipsoids3D(
        centers=[T_map_camera[:3, 3]], half_sizes=[_ELLIPSOID_SIGMA * np.sqrt(variances_3)],
        quaternions=[Rotation.from_matrix(axes_33).as_quat()], colors=[_RED],
        labels=[f'{_ELLIPSOID_SIGMA:g} sigma'], show_labels=False))
    recording.log('position/sigma', rr.Scalars(
        float(np.sqrt(np.trace(covariance_66[:3, :3])))))
    recording.log('orientation/sigma', rr.Scalars(
        float(np.degrees(np.sqrt(np.trace(covariance_66[3:, 3:]))))))


def _show(view: Frame) -> _View:
    image = Image.fromarray(read_frame_image(view).numpy())
    size = image.size
    image.thumbnail((_MOST_WIDTH_PX, _MOST_WIDTH_PX))
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=_JPEG_QUALITY)
    K_33 = (None if np.array_equal(view.K_33, np.eye(3))
            else resized_intrinsics(view.K_33, size, image.size))
    return _View(file.getvalue(), image.size, K_33)
