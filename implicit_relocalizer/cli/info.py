# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer info`: what a model file says about itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from implicit_relocalizer.cli.subparsers import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser('info', help='print what a model file says about itself')
    parser.add_argument('model', type=Path)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the metadata as JSON."""
    from implicit_relocalizer.network.model_file import read_metadata
    metadata = read_metadata(options.model)
    print(json.dumps({'file': str(options.model), 'bytes': options.model.stat().st_size,
                      **json.loads(metadata.to_json())}, indent=2))
    return 0
