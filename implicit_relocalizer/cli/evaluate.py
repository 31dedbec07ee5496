# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer evaluate`: a model on the frames of a scene, or a recorded run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_relocalizer.cli import evaluate_bag
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.data.frames import Scene, SceneError
from implicit_relocalizer.data.readers.bag_options import BagOptions

if TYPE_CHECKING:
    from implicit_relocalizer.evaluation.locating import LocatedFrame
    from implicit_relocalizer.network.model_file import ModelMetadata

logger = logging.getLogger(__name__)

KIND = 'evaluation'
SCENE_OPTIONS = (
    'split', 'format', 'intrinsics', 'images', 'max_width', 'train_frames', 'device', 'geometry',
    'variants', 'max_train_frames', 'elsewhere', 'max_elsewhere_frames',
    *(field.name for field in fields(BagOptions) if field.name not in evaluate_bag.SHARED_OPTIONS))


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'evaluate', help='measure a model on a scene with known poses, or a recorded run',
        usage='%(prog)s [options] MODEL SCENE\n       %(prog)s [options] BAG',
        description='MODEL SCENE: localize the frames of a scene and compare with their poses. '
        'BAG: compare the poses that the node sent during a recording with a reference in it; '
        f'exit status {evaluate_bag.UNUSABLE_STATUS} where it cannot be judged.')
    parser.add_argument('model', type=Path, metavar='MODEL|BAG',
                        help='made by `train`; or, alone, a recording: folder, .mcap or .db3')
    add_scene_arguments(parser, required=False)
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--geometry', action=argparse.BooleanOptionalAction, default=None,
                        help='hold the predicted points against depth images '
                             '(by default where the scene has some)')
    parser.add_argument('--variants', action='store_true',
                        help='take the pose from the same points in other ways too')
    parser.add_argument('--elsewhere', type=Path, action='append', default=[], metavar='SCENE',
                        help='another place: how many of its images are accepted (may be '
                             'repeated)')
    parser.add_argument('--max-elsewhere-frames', type=positive, metavar='N',
                        help='ask about at most N images of each, evenly spread (all)')
    add_result_arguments(parser)
    parser.add_argument('--tum', type=Path, metavar='PREFIX',
                        help='write PREFIX_estimate.txt and PREFIX_reference.txt, which evo '
                             'reads: of the recording, or of the held-out frames')
    parser.add_argument('--html', type=Path, metavar='FILE',
                        help='write a page with plots, the worst images and the learned place; it '
                             'opens from disk')
    parser.add_argument('--rerun', type=Path, metavar='FILE',
                        help='write an .rrd to scrub through with the Rerun viewer, every image '
                             'in it (pip install rerun-sdk)')
    parser.add_argument('--against', type=Path, metavar='OTHER.json',
                        help='compare with this result of the same frames, written with '
                             '--per-frame; see `compare`')
    evaluate_bag.add_run_arguments(parser)
    parser.set_defaults(run=run, parser=parser)


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command that measures frames has."""
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result there')
    parser.add_argument('--per-frame', action='store_true', help='list every frame in FILE')
    parser.add_argument('--max-train-frames', type=positive, metavar='N',
                        help='measure at most N training frames, evenly spread (all)')


def run(options: argparse.Namespace) -> int:
    """Evaluate as the options say: a run where one recording is named, else a model."""
    parser: argparse.ArgumentParser = options.parser
    if options.scene is None:
        if not evaluate_bag.names_recording(options.model):
            parser.error(f'{options.model}: a model needs a SCENE to be measured on; a recorded '
                         f'run is a folder with metadata.yaml, or a .mcap or .db3 file')
        _refuse(options, SCENE_OPTIONS, 'goes with MODEL SCENE, not with a recorded run')
        return evaluate_bag.run(options)
    _refuse(options, evaluate_bag.RUN_OPTIONS, 'goes with a recorded run (BAG alone)')
    return _evaluate_model(options)


def _refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """End with a usage error where an option was given that would have no effect."""
    for name in names:
        if getattr(options, name) != options.parser.get_default(name):
            flag = 'model' if name == 'run_model' else name.replace('_', '-')
            options.parser.error(f'--{flag} {why}')


def _evaluate_model(options: argparse.Namespace) -> int:
    from implicit_relocalizer.cli.compare import compare_with, print_comparison, read_other
    from implicit_relocalizer.data.scenes import read_scene
    from implicit_relocalizer.evaluation.honesty import find_calibration_doubts
    from implicit_relocalizer.evaluation.model_evaluation import (
        EvaluationOptions,
        describe_circumstances,
        describe_model,
        measure_module,
    )
    from implicit_relocalizer.evaluation.provenance import find_doubts
    from implicit_relocalizer.evaluation.records import json_text, write_texts
    from implicit_relocalizer.evaluation.rerun_recording import require_rerun, write_rerun
    from implicit_relocalizer.evaluation.result_text import describe_result
    from implicit_relocalizer.localization.estimate import least_confidence
    from implicit_relocalizer.localization.model_runner import choose_device
    from implicit_relocalizer.network.model_file import load_model
    if options.rerun:
        require_rerun()
    device = choose_device(options.device)
    module, metadata = load_model(options.model, device)
    scene = read_scene_argument(options)
    check_scene(scene, metadata)
    other = read_other(options.against, {'kind': KIND, 'scene': scene.name,
                                         'split': options.split})
    doubts = find_doubts(metadata, scene, options.split)
    for doubt in doubts:
        logger.warning(doubt)
    elsewhere = tuple(read_scene(path) for path in options.elsewhere)
    min_confidence = least_confidence(-1.0, metadata.calibration)
    evaluation = measure_module(module, scene, device, EvaluationOptions(
        options.max_train_frames, wants_geometry(options.geometry, scene), options.variants,
        options.per_frame or other is not None, metadata=metadata,
        min_confidence=min_confidence,
        elsewhere=elsewhere, max_elsewhere_frames=options.max_elsewhere_frames))
    if options.geometry and 'geometry' not in evaluation.result:
        logger.warning('no geometry to compare: the model gives no points, or depth is unknown '
                       'at all of them')
    doubts += find_calibration_doubts(metadata.calibration, scene.name,
                                      [place.name for place in elsewhere])
    result = {'kind': KIND,
              **describe_circumstances(scene, options.split, format_of(options), device),
              'model': describe_model(options.model, metadata), 'warnings': doubts,
              **evaluation.result}
    result.update(compare_with(other, result, options))
    texts = {options.json: json_text(result)} if options.json else {}
    if options.tum:
        texts.update(_trajectories(options.tum, evaluation.located['test']))
    if options.html or options.rerun:
        from implicit_relocalizer.evaluation.report.page import render_page
        from implicit_relocalizer.evaluation.report.scene_contents import SPLITS, scene_contents
        contents = scene_contents(result, evaluation.located, module, min_confidence,
                                  device)
        if options.html:
            texts[options.html] = render_page(contents)
        if options.rerun:
            write_rerun(options.rerun, contents, enumerate(
                answer.frame for split in SPLITS for answer in evaluation.located[split]))
    write_texts(texts)
    print(describe_result(result))
    print_comparison(result)
    for file in (*texts, *([options.rerun] if options.rerun else [])):
        print(f'\n{file}')
    return 0


def _trajectories(prefix: Path, held_out: Sequence[LocatedFrame]) -> dict[Path, str]:
    from implicit_relocalizer.evaluation.trajectory_files import located_texts, name_trajectories
    estimate, reference, are_stamped = located_texts(held_out)
    if not are_stamped:
        logger.warning('the held-out frames have no stamps that increase: their numbers stand '
                       'for seconds in the trajectories')
    return name_trajectories(prefix, estimate, reference)


def check_scene(scene: Scene, metadata: ModelMetadata) -> None:
    """Check that a model can be asked about a scene's images at all.

    Raises:
        SceneError: another aspect ratio, or no frames.
    """
    from implicit_relocalizer.localization.camera_check import check_aspect
    from implicit_relocalizer.localization.rejection import NoPoseError
    if not scene.frames:
        raise SceneError(f'{scene.root}: has no frames to measure')
    try:
        check_aspect(scene.image_size, metadata.image_size)
    except NoPoseError as error:
        raise SceneError(f'{scene.root}: {error}') from None


def wants_geometry(asked: bool | None, scene: Scene) -> bool:
    """Whether to compare with depth: as asked, else where the scene has it.

    Raises:
        SceneError: asked for where no frame has depth.
    """
    available = any(frame.depth_path is not None for frame in scene.frames)
    if asked and not available:
        raise SceneError(f'{scene.root}: no frame has a depth image to hold the points against; '
                         f'leave --geometry out')
    return available if asked is None else asked


def format_of(options: argparse.Namespace) -> str | None:
    """The format that was asked for, or None where it was detected."""
    name = getattr(options, 'format', None)
    return None if name is None else str(name)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not at least 1')
    return value
