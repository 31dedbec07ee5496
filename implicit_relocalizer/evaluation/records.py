# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Results as files: what every one of them holds, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a summary of frames and a result must hold to be put into a table.
SUMMARY_KEYS = ('frames', 'median_translation_m', 'median_rotation_deg', 'p90_translation_m',
                'recall')
# Tables of what encoders, models and trainings cost are no errors of frames.
ENCODERS_KIND = 'encoders'
PARETO_KIND = 'pareto'
TRAINING_KIND = 'training_benchmark'
RECORD_KEYS = ('kind', 'scene', 'split', 'train', 'test', 'hardware', 'versions', 'wall_seconds')


class RecordError(ValueError):
    """A result file cannot be used; the message names the file, the key and the remedy."""


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON; a crash leaves the old file whole. NaN is refused."""
    write_texts({Path(path): json_text(values)})


def json_text(values: Mapping[str, Any]) -> str:
    """A result as the text of its file. NaN is refused."""
    return json.dumps(values, indent=1, allow_nan=False) + '\n'


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write files of one result: all of them whole, or none where one cannot be written.

    Raises:
        OSError: names the file.
    """
    partials: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            if path.is_dir():
                raise IsADirectoryError(f'{path}: is a folder; name a file')
            path.parent.mkdir(parents=True, exist_ok=True)
            partials[path] = path.with_name(path.name + '.partial')
            partials[path].write_text(text)
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RecordError: it is none.
    """
    try:
        values = json.loads(Path(path).read_text())
    except ValueError as error:
        raise RecordError(f'{path}: not JSON ({error}); make the result again') from None
    if not isinstance(values, dict):
        raise RecordError(f'{path}: holds no JSON object; make the result again')
    return values


def read_record(path: Path) -> dict[str, Any]:
    """Read a result and check that it holds what tables need.

    Raises:
        RecordError: not JSON, or a key is missing.
    """
    record = read_json(path)
    require(path, record, RECORD_KEYS)
    for part in ('train', 'test'):
        summary = record[part]
        if not isinstance(summary, dict):
            raise RecordError(f'{path}: {part} is {summary!r}, expected a summary of errors; '
                              f'make the result again')
        require(path, summary, SUMMARY_KEYS, f'{part}.')
    return record


def require(path: Path, values: Mapping[str, Any], keys: tuple[str, ...],
            prefix: str = '') -> None:
    """Check that keys are there.

    Raises:
        RecordError: one is not; names the file and the key.
    """
    for key in keys:
        if key not in values:
            raise RecordError(f'{path}: has no {prefix}{key}; make the result again, or remove '
                              f'the file')
