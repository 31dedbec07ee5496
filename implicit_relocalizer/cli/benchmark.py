# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer benchmark`: what an answer costs here, beside its rivals."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_relocalizer.cli.evaluate import check_scene, positive
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.resources import share_path

if TYPE_CHECKING:
    import torch

    from implicit_relocalizer.data.frames import Scene
    from implicit_relocalizer.evaluation.speed.images import BenchmarkImages
    from implicit_relocalizer.evaluation.speed.runtime import Runtime
    from implicit_relocalizer.localization.estimate import PoseEstimate
    from implicit_relocalizer.network.model_file import ModelMetadata

logger = logging.getLogger(__name__)

BOUNDS = 'config/benchmark_bounds.yaml'


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'benchmark', help='time a model step by step, beside its rivals and over DDS',
        description='Times every step of an answer, the whole, pose regression and, if asked, a '
        'SIFT map on the same images, taking turns; then the node over DDS. The ratios are the '
        'result: times are those of this machine.')
    parser.add_argument('model', type=Path, help='made by `train`')
    add_scene_arguments(parser, required=False)
    parser.add_argument('--frames', type=positive, default=8, metavar='N',
                        help='held-out images of SCENE, or images of noise without one '
                             '(%(default)s)')
    parser.add_argument('--size', type=_size, metavar='WxH',
                        help='resize the images to this (the size of the training images)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda', 'both'), default='auto',
                        help='auto: the CPU, and CUDA where there is one (%(default)s)')
    parser.add_argument('--threads', type=positive, metavar='N',
                        help='of torch and OpenCV (what torch takes by itself)')
    parser.add_argument('--rounds', type=positive, default=60, metavar='N',
                        help='how often each is timed (%(default)s)')
    parser.add_argument('--warm-up', type=positive, default=12, metavar='N',
                        help='rounds before these (%(default)s)')
    parser.add_argument('--sift', action='store_true',
                        help='also a SIFT map of the training images of SCENE')
    parser.add_argument('--dds', action=argparse.BooleanOptionalAction, default=None,
                        help='also the node, between processes (by default where there is ROS 2; '
                             'with --dds it is an error where there is none)')
    parser.add_argument('--rates', type=float, nargs='+', default=[10.0, 30.0, 60.0],
                        metavar='HZ', help='of images over DDS, the first one for the ratio; '
                                           'flat out comes besides (10 30 60)')
    parser.add_argument('--dds-seconds', type=float, default=10.0, metavar='S',
                        help='for each rate over DDS (%(default)g)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result there')
    parser.add_argument('--guard', action='store_true',
                        help='measure what the bounds are on, and no more; exit status 1 where '
                             'one is broken in each of --attempts measurements')
    parser.add_argument('--bounds', type=Path, metavar='FILE', help=f'for --guard ({BOUNDS})')
    parser.add_argument('--attempts', type=positive, default=3, metavar='N',
                        help='for --guard (%(default)s)')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure as the options say; with a guard the exit status is its verdict."""
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.evaluation.speed.guard import find_unchecked, guard, read_bounds
    from implicit_relocalizer.evaluation.speed.text import describe_benchmark
    bounds = read_bounds(options.bounds or share_path(BOUNDS)) if options.guard else ()
    with _threads(options.threads):
        measurement = _Measurement(options, frozenset(bound.ratio for bound in bounds))
        if options.guard:
            result, excesses = guard(measurement, bounds, options.attempts)
        else:
            result, excesses = measurement(), []
    print(describe_benchmark(result))
    if options.json:
        write_json(options.json, result)
        print(f'\n{options.json}')
    for bound in find_unchecked(result, bounds):
        logger.warning('%s on %s was not measured, and is not guarded', bound.ratio, bound.device)
    for excess in excesses:
        logger.error('%s', excess)
    return int(bool(excesses))


class _Measurement:
    """What the options ask for, measured at each call.

    Args:
        options: Of the command.
        ratios: Only these matter; none named, all do.
    """

    def __init__(self, options: argparse.Namespace, ratios: frozenset[str]) -> None:
        from implicit_relocalizer.evaluation.speed.rivals import build_sift_localizer
        from implicit_relocalizer.network.model_file import read_metadata
        self._options, self._ratios = options, ratios
        self._devices = _devices(options.device)
        metadata = read_metadata(options.model)
        scene = None if options.scene is None else read_scene_argument(options)
        self._images = _images(options, metadata, scene)
        if options.sift and scene is None:
            raise ValueError('--sift makes a map of the training images of a scene: name a SCENE '
                             'after MODEL')
        self._sift = (cache(partial(build_sift_localizer, scene)) if options.sift and scene
                      else None)
        self._runtime = _runtime()

    def __call__(self) -> Mapping[str, Any]:
        """Measure, within this process and then over DDS."""
        from tqdm import tqdm

        from implicit_relocalizer.evaluation.speed.measuring import (
            BenchmarkOptions,
            measure_model,
            parts_of,
        )
        asked = BenchmarkOptions(self._options.rounds, self._options.warm_up,
                                 parts_of(self._ratios))
        total = (asked.rounds + asked.warm_up_rounds) * len(self._devices)
        with tqdm(total=total, desc='rounds', unit='round', disable=None) as bar:
            result = measure_model(self._options.model, self._images, self._devices,
                                   self._runtime, self._sift, asked, lambda: bar.update())
        if self._options.dds is not False and (
                not self._ratios or 'dds_over_process' in self._ratios):
            for device in self._devices:
                _measure_dds(self._options, device, self._images, result)
        return result


def _measure_dds(options: argparse.Namespace, device: torch.device, images: BenchmarkImages,
                 result: dict[str, Any]) -> None:
    """Add the node over DDS; where that cannot be, and nobody insists, the reason."""
    from implicit_relocalizer.evaluation.speed.over_dds import add_dds
    from implicit_relocalizer.ros.benchmark.dds import measure_dds
    from implicit_relocalizer.ros.benchmark.plan import BenchmarkError
    measured = result['devices'][device.type]
    logger.info('over DDS on %s ...', device.type)
    try:
        dds = measure_dds(options.model, device.type, images.images_hw3, images.K_n33[0],
                          options.rates, options.dds_seconds, result['threads']['torch'])
    except BenchmarkError as error:
        if options.dds:
            raise
        reason = str(error).splitlines()[0]
        logger.warning('not measured over DDS: %s', reason)
        measured['dds_absent_because'] = reason
    else:
        add_dds(measured, dds, f'{options.rates[0]:g}')


def _images(options: argparse.Namespace, metadata: ModelMetadata,
            scene: Scene | None) -> BenchmarkImages:
    import numpy as np

    from implicit_relocalizer.evaluation.speed.images import noise_images, scene_images
    from implicit_relocalizer.localization.camera_check import check_aspect
    from implicit_relocalizer.localization.rejection import NoPoseError
    size = options.size or metadata.image_size
    try:
        check_aspect(size, metadata.image_size)
    except NoPoseError as error:
        raise ValueError(f'--size {size[0]}x{size[1]}: {error}') from None
    if scene is None:
        return noise_images(np.array(metadata.K_33), metadata.image_size, options.frames, size)
    check_scene(scene, metadata)
    return scene_images(scene, options.split, options.frames, size)


def _runtime() -> Runtime:
    """What the robot runs: the node's own parts."""
    from implicit_relocalizer.evaluation.speed.runtime import Runtime
    from implicit_relocalizer.localization.image_decoding import rgb_from_message
    from implicit_relocalizer.localization.model_runner import ModelRunner
    return Runtime(ModelRunner, rgb_from_message, _build_regressor, _message_builder())


def _message_builder() -> Callable[[PoseEstimate], object] | None:
    """What makes the messages of an estimate as the node does; None where there is no ROS 2."""
    try:
        from implicit_relocalizer.ros import conversions
    except ImportError as error:
        logger.warning('no ROS 2 here (%s): building messages is not timed', error)
        return None

    def build_messages(estimate: PoseEstimate) -> object:
        header = conversions.Header(frame_id='map')
        pose = conversions.pose_from_matrix(estimate.T_map_camera)
        return (conversions.pose_msg(header, pose),
                conversions.pose_with_covariance_msg(header, pose, estimate.covariance_66),
                conversions.transform_msg(header, pose, 'camera'))

    return build_messages


def _build_regressor(encoder_name: str, input_size: tuple[int, int]) -> torch.nn.Module:
    """A pose regression of `config/train/pose_regression.yaml` on any encoder, untrained."""
    import torch

    from implicit_relocalizer.network.encoders import build_encoder
    from implicit_relocalizer.network.regressor import PoseRegressor, RegressionHead
    from implicit_relocalizer.training.configuration_file import load_configuration
    # as the file says of the fixed descriptor; a CNN needs no stem
    stem = ['regression.stem_blocks=3'] if encoder_name == 'gradient_descriptor' else []
    settings = load_configuration(share_path('config/train/pose_regression.yaml'),
                                  stem).regression
    encoder = build_encoder(encoder_name)
    head = RegressionHead(encoder.channels, settings.stem_blocks, settings.pooled_cells,
                          settings.width, settings.dropout)
    return PoseRegressor(encoder, head, input_size, torch.zeros(3), 1.0)


def _devices(name: str) -> list[torch.device]:
    """Raises ModelFileError where CUDA is asked for and there is none."""
    import torch

    from implicit_relocalizer.localization.model_runner import choose_device
    if name == 'auto':
        name = 'both' if torch.cuda.is_available() else 'cpu'
    return [choose_device(each) for each in (('cpu', 'cuda') if name == 'both' else (name,))]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """The same number of threads for torch and OpenCV, and afterwards what was before."""
    import cv2
    import torch
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count or before[0])
    cv2.setNumThreads(count or before[0])
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _size(text: str) -> tuple[int, int]:
    width, separator, height = text.lower().partition('x')
    if not (separator and width.isdecimal() and height.isdecimal()
            and min(int(width), int(height)) >= 16):
        raise argparse.ArgumentTypeError(f'{text!r} is no size of at least 16x16, such as 640x480')
    return int(width), int(height)
