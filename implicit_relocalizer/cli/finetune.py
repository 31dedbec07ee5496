# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer finetune`: go on training a model, with positions alone if need be."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.cli.scene_arguments import add_scene_arguments, read_scene_argument
from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.data.frames import Frame, Scene


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'finetune', help='go on training a model on images with positions alone, or with poses')
    parser.add_argument('model', type=Path, help='model file to start from; stays as it is')
    add_scene_arguments(parser)
    parser.add_argument('--labels', choices=('position', 'pose'), default='position',
                        help='what to learn from: positions alone (as of GNSS or a total station; '
                             'the orientations of the files may be anything), or whole poses '
                             '(%(default)s)')
    parser.add_argument('--known-frames', metavar='RULE',
                        help='training frames that the model was trained on, lest it forgets '
                             'them: only their images are used; the same rules as those of '
                             '--train-frames, which selects the frames to learn from')
    parser.add_argument('--out', type=Path, required=True, help='model file to write')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        dest='overrides', help='override a setting, such as max_seconds=60')
    parser.add_argument('--seed', type=int, default=0, help='(%(default)s)')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto',
                        help='(%(default)s)')
    parser.add_argument('--json', type=Path, help='write errors before and after there')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fine-tune as the options say."""
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.training.finetune import finetune_model
    from implicit_relocalizer.training.finetune_configuration import load_finetune_configuration
    config = load_finetune_configuration(options.overrides)
    scene, known_frames = _read_scene(options)
    result = finetune_model(options.model, scene, options.labels, config, options.out,
                            measure_accuracy, options.seed, options.device,
                            known_frames=known_frames)
    for part in ('train', 'test'):
        for when in ('before', 'after'):
            if part in result[when]:
                summary = result[when][part]
                print(f'{part:6s} {when:6s} median '
                      f'{100 * summary["median_translation_m"]:.1f} cm '
                      f'{summary["median_rotation_deg"]:.2f}°')
    if options.json:
        write_json(options.json, result)
    print(f'{options.out}: after {result["wall_seconds"]:.0f} s')
    return 0


def _read_scene(options: argparse.Namespace) -> tuple[Scene, tuple[Frame, ...]]:
    """The scene with the frames to learn from, and the frames that the model knows."""
    if options.known_frames is None:
        return read_scene_argument(options), ()
    new, options.train_frames = options.train_frames, options.known_frames
    known_frames = read_scene_argument(options).split('train')
    options.train_frames = new
    return read_scene_argument(options), known_frames
