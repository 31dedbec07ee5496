# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer encoders`: size and speed of every encoder on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.cli.subparsers import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'encoders', help='measure weights, file size and time per image of every encoder')
    parser.add_argument('names', nargs='*', metavar='ENCODER', help='only these (all)')
    parser.add_argument('--size', type=int, nargs=2, default=[360, 240],
                        metavar=('WIDTH', 'HEIGHT'), help='network input in pixels (360 240)')
    parser.add_argument('--threads', type=int, default=1, help='of the CPU (%(default)s)')
    parser.add_argument('--seconds', type=float, default=2.0,
                        help='how long each time is measured (%(default)s)')
    parser.add_argument('--json', type=Path, help='write the table there')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure on the CPU and, where there is one, on the GPU."""
    import torch

    from implicit_relocalizer.evaluation.encoder_table import (
        format_encoder_table,
        measure_encoders,
    )
    from implicit_relocalizer.evaluation.records import write_json
    from implicit_relocalizer.network.encoders import encoder_names
    unknown = sorted(set(options.names) - set(encoder_names()))
    if unknown:
        raise ValueError(f'encoder {unknown[0]!r} is unknown; choose of {encoder_names()}')
    names = options.names or encoder_names()
    devices = [torch.device('cpu')]
    if torch.cuda.is_available():
        devices.append(torch.device('cuda'))
    table = measure_encoders(names, tuple(options.size), devices, options.threads,
                             options.seconds)
    print(format_encoder_table(table))
    if options.json:
        write_json(options.json, table)
    return 0
