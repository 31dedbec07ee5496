# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer`: one program with subcommands, thin over the package's functions."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from implicit_relocalizer.network.model_file import read_metadata
from implicit_relocalizer.resources import share_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    options = _parser().parse_args(arguments)
    return _guarded(options)


def train_main() -> int:
    """`ros2 run implicit_relocalizer train SCENE ...`: the offline training entry point."""
    return main(['train', *sys.argv[1:]])


def _guarded(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
    try:
        return int(options.run(options))
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        if options.debug:
            raise
        print(f'implicit-relocalizer {options.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ninterrupted; run the same command again to go on', file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='implicit-relocalizer', description=main.__doc__)
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    train = commands.add_parser('train', help='learn a place from posed images')
    train.add_argument('scene', type=Path, help='folder with rgb/, poses/, K.txt, splits/')
    train.add_argument('--split', default='standard', help='splits/NAME.txt (%(default)s)')
    train.add_argument('--config', default='mapping',
                       help='a YAML file, or the name of one in config/train (%(default)s)')
    train.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                       dest='overrides', help='override, such as mapping.iterations=2000')
    train.add_argument('--output', type=Path, default=Path('runs/latest'),
                       help='run folder (%(default)s); an interrupted run there is resumed')
    train.add_argument('--restart', action='store_true', help='throw an earlier run away')
    train.set_defaults(run=_train)

    info = commands.add_parser('info', help='print what a model file says about itself')
    info.add_argument('model', type=Path)
    info.set_defaults(run=_info)

    synthesize = commands.add_parser('synthesize', help='render a furnished room with drives')
    synthesize.add_argument('output', type=Path)
    synthesize.add_argument('--seed', type=int, default=0, help='another seed, another place')
    synthesize.add_argument('--width', type=int, default=480)
    synthesize.add_argument('--height', type=int, default=360)
    synthesize.add_argument('--mapping-frames', type=int, default=400)
    synthesize.add_argument('--held-out-frames', type=int, default=100)
    synthesize.set_defaults(run=_synthesize)
    return parser


def _train(options: argparse.Namespace) -> int:
    from implicit_relocalizer.data.folder import read_folder_scene
    from implicit_relocalizer.evaluation.accuracy import measure_accuracy
    from implicit_relocalizer.training.configuration import load_configuration
    from implicit_relocalizer.training.trainer import remove_run, train_scene
    config = load_configuration(_find_config(options.config), options.overrides)
    scene = read_folder_scene(options.scene, options.split)
    if options.restart:
        remove_run(options.output)
    result = train_scene(scene, config, options.output, measure_accuracy)
    for name in ('train', 'validation', 'test'):
        if name in result:
            summary = result[name]
            print(f'{name:10s} median {100 * summary["median_translation_m"]:.1f} cm '
                  f'{summary["median_rotation_deg"]:.2f}°, recall {summary["recall"]}')
    print(f'{options.output / "model.pt"}: {result["model_bytes"] / 1e6:.1f} MB after '
          f'{result["training_seconds"]:.0f} s')
    return 0


def _find_config(name: str) -> Path:
    if name.endswith(('.yaml', '.yml')):
        return Path(name)
    return share_path(f'config/train/{name}.yaml')


def _info(options: argparse.Namespace) -> int:
    metadata = read_metadata(options.model)
    print(json.dumps({'file': str(options.model), 'bytes': options.model.stat().st_size,
                      **json.loads(metadata.to_json())}, indent=2))
    return 0


def _synthesize(options: argparse.Namespace) -> int:
    from implicit_relocalizer.data.synthetic import synthesize
    scene = synthesize(options.output, seed=options.seed,
                       image_size=(options.width, options.height),
                       mapping_frames=options.mapping_frames,
                       held_out_frames=options.held_out_frames)
    print(f'{options.output}: {len(scene.split("train"))} mapping frames, '
          f'{len(scene.split("test"))} held-out frames')
    return 0


if __name__ == '__main__':
    sys.exit(main())
