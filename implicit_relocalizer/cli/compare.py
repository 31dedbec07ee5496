# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer compare`: two results on the same frames, and what may be chance."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_relocalizer.cli.subparsers import Subparsers

# Listed for the comparison, not because anybody asked for them.
_FRAME_KEYS = ('frames_detail', 'unanswered_stamps_ns', 'stamps_without_reference_ns')


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        'compare', help='is one result better than another, or is it chance?',
        description='Both were written by `evaluate ... --json FILE --per-frame`, of two models '
                    'on the same frames. Frames that both have are paired.')
    parser.add_argument('this', type=Path, metavar='THIS.json')
    parser.add_argument('other', type=Path, metavar='OTHER.json')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the comparison there')
    parser.add_argument('--picture', type=Path, metavar='FILE.png', help='draw it')
    parser.add_argument('--seed', type=int, default=0, help='of the resampling (%(default)s)')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare as the options say."""
    from implicit_relocalizer.evaluation.comparison import compare_results
    from implicit_relocalizer.evaluation.comparison_picture import draw_comparison
    from implicit_relocalizer.evaluation.comparison_text import describe_comparison
    from implicit_relocalizer.evaluation.records import read_json, write_json
    comparison = compare_results(read_json(options.this), read_json(options.other),
                                 str(options.this), str(options.other), options.seed)
    print(describe_comparison(comparison, str(options.this)))
    if options.json:
        write_json(options.json, {'kind': 'comparison', 'this': str(options.this), **comparison})
        print(f'\n{options.json}')
    if options.picture:
        draw_comparison(options.picture, comparison, str(options.this))
        print(f'\n{options.picture}')
    return 0


@dataclass(frozen=True, eq=False)
class OtherResult:
    """The result that `evaluate` compares with, and what it is called."""

    name: str
    values: Mapping[str, Any]


def read_other(path: Path | None, known: Mapping[str, Any]) -> OtherResult | None:
    """Read the result to compare with, if there is one, before anything is measured.

    Args:
        path: Of `--against`.
        known: Of the result to come: its kind, and of a scene its name and split.

    Raises:
        ComparisonError: it is not of the same kind or place, or does not list its frames.
    """
    if path is None:
        return None
    from implicit_relocalizer.evaluation.comparison import check_comparable, check_lists_frames
    from implicit_relocalizer.evaluation.records import read_json
    values = read_json(path)
    check_comparable(known, values, 'this result', str(path))
    check_lists_frames(values, str(path))
    return OtherResult(str(path), values)


def compare_with(other: OtherResult | None, result: dict[str, Any],
                 options: argparse.Namespace) -> dict[str, Any]:
    """`comparison`, for a result that lists its frames; these go where they were not asked for."""
    if other is None:
        return {}
    from implicit_relocalizer.evaluation.comparison import compare_results
    comparison = compare_results(result, other.values, 'this result', other.name)
    if not options.per_frame:
        for key in _FRAME_KEYS:
            result.pop(key, None)
    return {'comparison': comparison}


def print_comparison(result: Mapping[str, Any]) -> None:
    """Print the table, if something was compared."""
    from implicit_relocalizer.evaluation.comparison_text import describe_comparison
    if 'comparison' in result:
        print('\n' + describe_comparison(result['comparison'], 'this result'))
