# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer evaluate BAG`: how well a recorded run of the node went."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from implicit_relocalizer.cli.bag_arguments import bag_options
from implicit_relocalizer.data.readers.bag_options import BagOptions
from implicit_relocalizer.data.readers.bag_storage import STORAGE_SUFFIXES
from implicit_relocalizer.data.recorded_run import RunOptions

logger = logging.getLogger(__name__)

# Of a recording that cannot be judged, and of a wrong command line.
UNUSABLE_STATUS = 2

RUN_OPTIONS = ('estimate_topic', 'reference_topic', 'reference_parent', 'reference_child',
               'reference_frame', 'same_world', 'wrong_beyond', 'run_model')
# Of the options for bags, those that say how to read a run.
_RUN_BAG_OPTIONS = ('image_topic', 'camera_frame', 'T_body_camera', 'pose_is_camera', 'max_gap_s')
# Of these, those that say how --model sees the images.
_CAMERA_OPTIONS = ('camera_info_topic', 'camera_info_file', 'rectified')
SHARED_OPTIONS = (*_RUN_BAG_OPTIONS, *_CAMERA_OPTIONS)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a group of options for recorded runs."""
    shared = ', '.join('--' + name.replace('_', '-') for name in SHARED_OPTIONS)
    add = parser.add_argument_group(
        'recorded runs', f'`evaluate BAG`, together with {shared}; what is left out is looked '
        'for in the bag').add_argument
    add('--estimate-topic', metavar='TOPIC',
        help='PoseStamped or PoseWithCovarianceStamped (default: .../relocalizer/'
             'pose_with_covariance, else .../relocalizer/pose)')
    add('--reference-topic', metavar='TOPIC',
        help='PoseStamped, PoseWithCovarianceStamped or Odometry')
    add('--reference-parent', metavar='FRAME',
        help='reference from /tf in this frame, not from a topic')
    add('--reference-child', metavar='FRAME',
        help='whose transforms are the reference (default: those of the camera)')
    add('--reference-frame', metavar='FRAME',
        help='whose poses the reference topic holds (default: child_frame_id of Odometry); the '
             'camera is looked up in /tf_static from there')
    add('--same-world', action='store_true',
        help='the frame of the reference is that of the estimates under another name')
    add('--wrong-beyond', type=float, nargs=2, metavar=('M', 'DEG'),
        help='an estimate farther off is a false accept (0.5 10)')
    add('--model', type=Path, metavar='MODEL', dest='run_model',
        help='the model that ran: --html and --rerun then show the learned place')


def names_recording(path: Path) -> bool:
    """Whether a path is meant as a recording: a folder, or a file of such a name."""
    return path.is_dir() or path.suffix in (*STORAGE_SUFFIXES, '.bag')


def run(options: argparse.Namespace) -> int:
    """Evaluate the recording that stands in the place of the model.

    Files are written last, all or none; whatever makes a recording unusable ends with
    `UNUSABLE_STATUS` and one sentence.
    """
    try:
        _evaluate(options.model, options)
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        if options.debug:
            raise
        print(f'implicit-relocalizer {options.command}: {error}', file=sys.stderr)
        return UNUSABLE_STATUS
    return 0


def _evaluate(path: Path, options: argparse.Namespace) -> None:
    from implicit_relocalizer.cli.compare import compare_with, print_comparison, read_other
    from implicit_relocalizer.data.readers.run_bag import read_recorded_run
    from implicit_relocalizer.evaluation.comparison import RUN_KIND
    from implicit_relocalizer.evaluation.metrics import RecallLimit
    from implicit_relocalizer.evaluation.recorded_run import (
        WRONG_BEYOND,
        compare_run,
        measure_run,
    )
    from implicit_relocalizer.evaluation.records import json_text, write_texts
    from implicit_relocalizer.evaluation.rerun_recording import require_rerun, write_rerun
    from implicit_relocalizer.evaluation.run_frames import trajectory_texts
    from implicit_relocalizer.evaluation.run_text import describe_run
    from implicit_relocalizer.evaluation.trajectory_files import name_trajectories
    wrong_beyond = (WRONG_BEYOND if options.wrong_beyond is None
                    else RecallLimit(*options.wrong_beyond))
    if not (wrong_beyond.translation_m > 0.0 and wrong_beyond.rotation_deg > 0.0):
        raise ValueError(f'--wrong-beyond {wrong_beyond.translation_m:g} '
                         f'{wrong_beyond.rotation_deg:g}: expected metres and degrees above 0')
    camera = {name: getattr(options, name) for name in _CAMERA_OPTIONS
              if getattr(options, name) is not None}
    if options.run_model and not (options.html or options.rerun):
        raise ValueError('--model is for --html FILE and --rerun FILE; give one of them too')
    if camera and not options.run_model:
        raise ValueError('--camera-info-topic, --camera-info-file and --rectified say how '
                         '--model MODEL sees the images; give it too')
    if options.rerun:
        require_rerun()
    other = read_other(options.against, {'kind': RUN_KIND})
    comparison = compare_run(read_recorded_run(path, _run_options(options)))
    result = measure_run(comparison, wrong_beyond, options.per_frame or other is not None)
    result.update(compare_with(other, result, options))
    texts: dict[Path, str] = {}
    if options.json:
        texts[options.json] = json_text(result)
    if options.tum:
        texts.update(name_trajectories(options.tum, *trajectory_texts(
            comparison.run, comparison.answers, comparison.reference_of)))
    if options.html or options.rerun:
        from implicit_relocalizer.evaluation.report.page import render_page
        from implicit_relocalizer.evaluation.report.run_contents import run_contents
        from implicit_relocalizer.evaluation.report.run_pictures import read_run_frames
        contents = run_contents(comparison, result, wrong_beyond, options.run_model, camera)
        if options.html:
            texts[options.html] = render_page(contents)
        if options.rerun:
            write_rerun(options.rerun, contents, read_run_frames(comparison.run, camera))
    write_texts(texts)
    print(describe_run(result))
    print_comparison(result)
    for file in (*texts, *([options.rerun] if options.rerun else [])):
        print(f'\n{file}')


def _run_options(options: argparse.Namespace) -> RunOptions:
    given = bag_options(options)
    shared = {name: given[name] for name in _RUN_BAG_OPTIONS if given[name] is not None}
    return RunOptions(
        options.estimate_topic, options.reference_topic, options.reference_parent,
        options.reference_child, options.same_world,
        BagOptions(pose_frame=options.reference_frame, **shared))  # type: ignore[arg-type]
