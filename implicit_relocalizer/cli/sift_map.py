# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer sift-map`: the classical rival, measured like a model."""

from __future__ import annotations

import argparse

from implicit_relocalizer.cli.evaluate import add_result_arguments, positive
from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'sift-map', help='measure a SIFT map with PnP-RANSAC on a scene, as `evaluate` a model',
        description='Training images are matched to their neighbours and triangulated with their '
                    'given poses; each image is then found in that map of points.')
    add_scene_arguments(parser)
    parser.add_argument('--features', type=positive, default=2000, metavar='N',
                        help='the strongest N of each image (%(default)s)')
    parser.add_argument('--neighbours', type=positive, default=12, metavar='N',
                        help='images that each is matched to (%(default)s)')
    add_result_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build the map of the training frames, and find the frames of both splits in it."""
    from implicit_relocalizer.cli.evaluate import format_of
    from implicit_relocalizer.evaluation.model_evaluation import describe_circumstances
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.evaluation.result_text import describe_result
    from implicit_relocalizer.evaluation.sift_evaluation import evaluate_sift_map
    scene = read_scene_argument(options)
    result = {'kind': 'sift_map',
              **describe_circumstances(scene, options.split, format_of(options), 'cpu'),
              **evaluate_sift_map(scene, options.features, options.neighbours,
                                  options.max_train_frames, options.per_frame)}
    print(describe_result(result))
    print(f'  map: {result["points"]} points, {result["descriptors"]} descriptors, '
          f'{result["model"]["bytes"] / 1e6:.1f} MB, built in {result["building_seconds"]:.0f} s '
          f'({result["building_cpu_seconds"]:.0f} s of processor time)')
    if options.json:
        write_json(options.json, result)
        print(f'\n{options.json}')
    return 0
