# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer`: one program with a subcommand a file, thin over the package."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from implicit_relocalizer.cli import (
    benchmark,
    calibrate,
    calibration_experiment,
    compare,
    doctor,
    encoders,
    evaluate,
    experiment,
    filter_experiment,
    finetune,
    finetune_experiment,
    info,
    inspect_scene,
    pareto,
    replay,
    sift_map,
    soak,
    synthesize,
    tables,
    train,
    training_benchmark,
)

COMMANDS = (inspect_scene, train, finetune, calibrate, evaluate, compare, replay, benchmark,
            pareto, training_benchmark, sift_map, info, synthesize, encoders, experiment,
            finetune_experiment, calibration_experiment, filter_experiment, tables, doctor, soak)


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
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads has heard enough, as `head` has; Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as of a program that SIGPIPE ended
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
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
