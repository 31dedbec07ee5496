# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""`implicit-relocalizer tables`: the tables of doc/ from the result files."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_relocalizer.cli.subparsers import Subparsers
from implicit_relocalizer.resources import share_path


def add_parser(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser('tables', help='write doc/results.md from benchmarks/')
    parser.add_argument('--benchmarks', type=Path, default=Path('benchmarks'), metavar='FOLDER',
                        help='folder of folders of result files (%(default)s)')
    parser.add_argument('--output', type=Path, default=Path('doc/results.md'), metavar='FILE',
                        help='(%(default)s)')
    parser.add_argument('--page', type=Path, metavar='FILE',
                        help='instead of results.md, fill in the tables of a page that names '
                             'files of `benchmark`, such as doc/performance.md')
    parser.add_argument('--check', action='store_true',
                        help='write nothing; fail where FILE is not what would be written')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the page, or check it."""
    if options.page is None:
        path, text = options.output, tables_of(options.benchmarks)
    else:
        from implicit_relocalizer.evaluation.speed.page import fill_page
        path, text = options.page, fill_page(options.page.read_text(), options.benchmarks)
    if options.check:
        current = path.read_text() if path.exists() else ''
        if current != text:
            page = '' if options.page is None else f' --page {path}'
            raise ValueError(f'{path}: is not what {options.benchmarks} gives; run '
                             f'`implicit-relocalizer tables{page}`')
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path)
    return 0


def tables_of(benchmarks: Path) -> str:
    """The page, with the titles and the order of the plans that the package brings.

    Raises:
        ValueError: no such folder, or a result or plan that cannot be used.
    """
    from implicit_relocalizer.evaluation.experiment_plan import read_plan
    from implicit_relocalizer.evaluation.tables import make_tables
    if not benchmarks.is_dir():
        raise ValueError(f'{benchmarks}: no such folder; run this where benchmarks/ is, or give '
                         f'--benchmarks')
    plans = (read_plan(path) for path in sorted(share_path('config/experiments').glob('*.yaml')))
    return make_tables(benchmarks, {plan.name: plan for plan in plans})
