# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer soak`: whether the node stays as it is for as long as one likes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.evaluate import positive
from implicit_relocalizer.cli.subparsers import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'soak', help='run the node for a long time and see whether it grows',
        description='Start the node and a camera in a DDS domain of their own, let it answer '
        'images, and look at the memory, threads and file descriptors of its process meanwhile. '
        'Needs ROS 2. Exit status 1 if it grows.')
    add = parser.add_argument
    add('model', type=Path, metavar='MODEL', help='made by `train`')
    add('--minutes', type=_positive_number, default=30.0, help='how long (%(default)g)')
    add('--rate', type=_positive_number, default=10.0, metavar='HZ',
        help='images per second (%(default)g)')
    add('--device', choices=('auto', 'cpu', 'cuda'), default='auto',
        help='where the model runs (%(default)s)')
    add('--threads', type=positive, default=1, metavar='N',
        help='CPU threads of the model (%(default)s)')
    add('--sample-seconds', type=_positive_number, default=5.0, metavar='S',
        help='between two looks at the process (%(default)g)')
    add('--json', type=Path, metavar='FILE', help='write the result, with all samples')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run it; 1 if the node grew."""
    from implicit_relocalizer.ros.benchmark.soak import measure_soak
    result = measure_soak(options.model, options.minutes, options.rate, options.device,
                          options.threads, sample_s=options.sample_seconds)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + '\n')
    print(describe(result))
    return 0 if result['is_flat'] else 1


def describe(result: dict[str, Any]) -> str:
    """The result for people."""
    answers = result['answers']
    latency_ms = answers['latency_ms']
    lines = [f'{answers["answered"]} of {answers["sent"]} images answered in '
             f'{result["minutes"]:g} min, latency {latency_ms["median"]:.1f} ms in the median, '
             f'{latency_ms["p95"]:.1f} ms at the 95th percentile']
    for name, what in (('rss', 'resident memory'), ('anonymous', 'anonymous memory')):
        fit = result[name]
        lines.append(f'{what}: {fit["first_mib"]:.1f} to {fit["last_mib"]:.1f} MiB, '
                     f'{fit["mib_per_hour"]:+.2f} +- {fit["standard_error"]:.2f} MiB/h: '
                     f'{_verdict(fit)}')
    for name, what in (('threads', 'threads'), ('descriptors', 'file descriptors')):
        fit = result[name]
        lines.append(f'{what}: {fit["first"]} to {fit["last"]}, {fit["most"]} at most: '
                     f'{_verdict(fit)}')
    return '\n'.join(lines)


def _verdict(fit: dict[str, Any]) -> str:
    return 'flat' if fit['is_flat'] else 'GROWS'


def _positive_number(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value
