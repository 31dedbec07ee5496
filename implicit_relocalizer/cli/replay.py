# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer replay`: what the node would say to a recording."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_relocalizer.cli.evaluate import positive
from implicit_relocalizer.cli.evaluate_bag import UNUSABLE_STATUS
from implicit_relocalizer.cli.subparsers import Subparsers

if TYPE_CHECKING:
    from implicit_relocalizer.localization.parameters import Parameters
    from implicit_relocalizer.replay.replayed_node import Pace


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'replay', help="run the node's decisions over a recording, without ROS",
        description='Run a model and the decisions of the node over a recording, faster than real '
        'time and without ROS, and write a recording with its poses, transforms and diagnostics '
        "for `evaluate`. Every image is answered, and inference takes no time of the recording's, "
        f'unless --inference-ms is given. Exit status {UNUSABLE_STATUS} where it cannot be done.')
    add = parser.add_argument
    add('model', type=Path, metavar='MODEL', help='made by `train`')
    add('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3')
    add('--out', type=Path, required=True, metavar='BAG2', help='folder to write')
    add('--force', action='store_true', help='replace a bag at BAG2')
    add('--storage', choices=('mcap', 'sqlite3'), help='of BAG2 (default: as BAG)')
    add('--no-images', action='store_true',
        help='leave the images out of BAG2; `evaluate BAG2` needs them')
    add('--image-topic', metavar='TOPIC', help='Image or CompressedImage (default: the only one)')
    add('--camera-info-topic', metavar='TOPIC', help='CameraInfo (default: beside the images)')
    add('--params-file', type=Path, action='append', default=[], metavar='YAML',
        help='parameters of the node, as for ROS 2; several: the later one holds')
    add('--param', action='append', default=[], metavar='NAME:=VALUE',
        help='one parameter of the node, goes before files')
    add('--inference-ms', type=_pace, metavar='MS',
        help="how long the model takes in the recording's time, or `measured`; images that are "
             'superseded meanwhile are dropped, as by the live node')
    add('--workers', type=positive, default=None, metavar='N',
        help='images that are answered at the same time, where every image is answered '
             '(default: as many as there are cores; 1 with CUDA)')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay; whatever makes that impossible ends with `UNUSABLE_STATUS` and one sentence."""
    try:
        _replay(options)
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        if options.debug:
            raise
        print(f'implicit-relocalizer {options.command}: {error}', file=sys.stderr)
        return UNUSABLE_STATUS
    return 0


def _replay(options: argparse.Namespace) -> None:
    settings = _read_settings(options)
    from implicit_relocalizer.localization.model_runner import (
        ModelRunner,
        choose_device,
        limit_threads,
    )
    from implicit_relocalizer.replay.bag_output import refuse_output
    from implicit_relocalizer.replay.replay_text import describe_replay
    from implicit_relocalizer.replay.replayed_node import Pace
    from implicit_relocalizer.replay.replaying import ReplayOptions, replay_bag
    refuse_output(options.out, options.bag, options.force)  # before the model takes its seconds
    limit_threads(settings.num_threads)
    device = choose_device(settings.device)
    workers = options.workers or (1 if device.type == 'cuda' or settings.num_threads != 1
                                  else len(os.sched_getaffinity(0)))
    runner = ModelRunner(settings.model, device, settings.cuda_graphs)
    runner.warm_up()
    result = replay_bag(options.bag, options.out, runner, settings, ReplayOptions(
        options.image_topic, options.camera_info_topic, options.inference_ms or Pace(),
        options.storage, not options.no_images, options.force, workers))
    print(describe_replay(result))
    print(f'\n{options.out}')


def _read_settings(options: argparse.Namespace) -> Parameters:
    from implicit_relocalizer.localization.parameter_file import (
        parameters_of,
        parse_assignments,
        read_parameter_file,
    )
    given, source = {}, []
    for path in options.params_file:
        given.update(read_parameter_file(path))
        source.append(str(path))
    given.update(parse_assignments(options.param))
    source += ['--param'] * bool(options.param)
    return parameters_of({**given, 'model': str(options.model)}, ', '.join(source) or 'MODEL')


def _pace(text: str) -> Pace:
    """How long the model takes, for argparse."""
    from implicit_relocalizer.replay.replayed_node import Pace
    if text == 'measured':
        return Pace(None, drops_images=True)
    milliseconds = float(text)
    if not 0.0 <= milliseconds < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is neither milliseconds nor `measured`')
    return Pace(milliseconds / 1e3, drops_images=True)
