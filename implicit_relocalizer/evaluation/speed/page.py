# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of a page about speed, made of the files that it names.

A page has, wherever a table belongs, two lines with `<!-- benchmark FILE -->` and
`<!-- end of benchmark -->` alone; what lies between them is made of FILE, not written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

from implicit_relocalizer.evaluation.records import RecordError, read_json, require
from implicit_relocalizer.evaluation.speed.measuring import KIND
from implicit_relocalizer.evaluation.speed.text import benchmark_markdown

_BEGIN = re.compile(r'^<!-- benchmark \S+ -->$', re.MULTILINE)
_BLOCK = re.compile(r'^(<!-- benchmark (\S+) -->\n)(.*?)^(<!-- end of benchmark -->)$',
                    re.DOTALL | re.MULTILINE)
_KEYS = ('model', 'images', 'rounds', 'threads', 'hardware', 'versions', 'devices')


def fill_page(text: str, folder: Path) -> str:
    """The page with its tables made anew.

    Args:
        text: Of the page.
        folder: Where the files are that it names.

    Raises:
        RecordError: a file is missing or no benchmark, or a table on the page has no end.
    """
    def make_table(block: re.Match[str]) -> str:
        begin, name, _, end = block.groups()
        return f'{begin}\n{_table_of(folder / name)}\n{end}'

    filled, count = _BLOCK.subn(make_table, text)
    begun = len(_BEGIN.findall(text))
    if count != begun:
        raise RecordError(f'{begun} tables begin on the page and {count} of them end; write '
                          f'<!-- end of benchmark --> below each')
    return filled


def _table_of(path: Path) -> str:
    if not path.is_file():
        raise RecordError(f'{path}: no such file; make it with `implicit-relocalizer benchmark '
                          f'MODEL SCENE --json {path.name}`')
    result = read_json(path)
    if result.get('kind') != KIND:
        raise RecordError(f'{path}: its kind is {result.get("kind")!r}, expected {KIND!r}; name '
                          f'a file that `implicit-relocalizer benchmark` wrote')
    require(path, result, _KEYS)
    return benchmark_markdown(result)
