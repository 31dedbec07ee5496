# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of results; training and held-out columns always side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from implicit_relocalizer.evaluation.hardware import is_busy
from implicit_relocalizer.evaluation.pose_variants import VARIANT_LABELS
from implicit_relocalizer.evaluation.records import RecordError

Record = Mapping[str, Any]
SceneKey = tuple[str, str]

_PARTS = ('train', 'test')
_POSE_COLUMNS: tuple[tuple[str, Callable[[Record], float | None], str], ...] = (
    ('cm', lambda s: _scaled(s['median_translation_m'], 100), '.1f'),
    ('°', lambda s: s['median_rotation_deg'], '.2f'),
    ('≤ 5 cm, 5° [%]', lambda s: 100 * s['recall']['5cm_5deg'], '.0f'),
    ('≤ 10 cm, 5° [%]', lambda s: 100 * s['recall']['10cm_5deg'], '.0f'),
    ('≤ 25 cm, 5° [%]', lambda s: 100 * s['recall']['25cm_5deg'], '.0f'))
_GEOMETRY_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ('median [cm]', 'world_m', 'median'),
    ('weighted [cm]', 'world_m', 'median_weighted'),
    ('trusted half [cm]', 'world_m', 'median_trusted_half'),
    ('trusted half, mean [cm]', 'world_m', 'mean_trusted_half'),
    ('depth, trusted half [%]', 'depth_relative', 'median_trusted_half'))


@dataclass(frozen=True)
class ResultFile:
    """A record and where it was read from."""

    path: Path
    values: Record

    @property
    def scene(self) -> SceneKey:
        """Scene and split."""
        return self.values['scene'], self.values['split']

    @property
    def row(self) -> str:
        """What the seeds of one row have in common."""
        return str(self.values.get('row', self.path.stem if self.values['kind'] == 'evaluation'
                                   else self.values['kind']))

    @property
    def label(self) -> str:
        """Of its row, for a person."""
        otherwise = {'sift_map': 'SIFT map (rival)'}.get(self.values['kind'], self.path.stem)
        return str(self.values.get('label', otherwise))

    def value(self, find: Callable[[Record], Any]) -> Any:
        """A value of the record.

        Raises:
            RecordError: the record lacks it; names the file and the key.
        """
        try:
            return find(self.values)
        except KeyError as error:
            raise RecordError(f'{self.path}: has no {error.args[0]}; make the result again, or '
                              f'remove the file') from None


def pose_table(files: Sequence[ResultFile], order: Sequence[str], machines: Machines,
                with_scene: bool = False) -> str:
    """Errors, times and sizes, a row for the seeds of each row; below it its variants.

    Args:
        files: Of one scene, or of several.
        order: Names of rows.
        machines: Learns the machines of these files.
        with_scene: Name rows by their scene.
    """
    titles = ['', 'seeds']
    for title, _, _ in _POSE_COLUMNS:
        titles += [f'training {title}', f'held-out {title}']
    rows = []
    for group in _rows_of(files, order, with_scene):
        first = group[0]
        label = f'{first.scene[0]}, {first.scene[1]}' if with_scene else first.label
        rows.append([label, str(len(group)), *_pose_cells(group, lambda values: values),
                     *_times(group), _cell(group, _megabytes, '.1f'), machines.letters(group)])
        for name in first.values.get('variants', {}):
            chosen = [file for file in group if name in file.values.get('variants', {})]
            cells = _pose_cells(chosen, _variant(name))
            rows.append([f'&nbsp; pose by {VARIANT_LABELS.get(name, name)}', str(len(chosen)),
                         *cells, '', '', '', ''])
    return _markdown([*titles, 'minutes to learn', 'ms an image', 'MB', 'machine'], rows)


def _pose_cells(group: Sequence[ResultFile], find: Callable[[Record], Record]) -> list[str]:
    cells = []
    for _, value, form in _POSE_COLUMNS:
        for part in _PARTS:
            def measured(values: Record, part: str = part,
                         value: Callable[[Record], float | None] = value) -> float | None:
                return value(find(values)[part])
            cells.append(_cell(group, measured, form))
    return cells


def _variant(name: str) -> Callable[[Record], Record]:
    return lambda values: values['variants'][name]


def geometry_table(files: Sequence[ResultFile], order: Sequence[str]) -> str:
    """Errors of predicted points, a row for the seeds of each row that has them."""
    titles = ['', *(f'{part} {title}' for title, _, _ in _GEOMETRY_COLUMNS
                    for part in ('training', 'held-out'))]
    rows = []
    for group in _rows_of(files, order):
        measured = [file for file in group if file.values.get('geometry')]
        cells = []
        for _, kind, average in _GEOMETRY_COLUMNS:
            for part in _PARTS:
                def find(values: Record, part: str = part, kind: str = kind,
                         average: str = average) -> float | None:
                    errors = values['geometry'][part]
                    return None if errors is None else _scaled(errors[kind][average], 100)
                cells.append(_cell(measured, find, '.1f'))
        if measured:
            rows.append([group[0].label, *cells])
    return _markdown(titles, rows)


def _rows_of(files: Sequence[ResultFile], order: Sequence[str],
             by_scene: bool = False) -> list[list[ResultFile]]:
    groups: dict[Any, list[ResultFile]] = {}
    for file in files:
        groups.setdefault((file.row, file.scene) if by_scene else file.row, []).append(file)

    def place(group: list[ResultFile]) -> tuple[int, bool]:
        row = group[0].row
        return (order.index(row) if row in order else len(order), row == 'sift_map')

    return sorted(groups.values(), key=place)


def _cell(group: Sequence[ResultFile], find: Callable[[Record], float | None], form: str) -> str:
    """Mean over seeds, and range where there are several; a seed without a value is counted."""
    values = [file.value(find) for file in group]
    known = [value for value in values if value is not None]
    if not known:
        return '-'
    text = format(float(np.mean(known)), form)
    low, high = format(min(known), form), format(max(known), form)
    if len(known) > 1 and low != high:
        text += f' ({low}-{high})'
    if len(known) < len(values):
        text += f', {len(values) - len(known)} without'
    return text


def _times(group: Sequence[ResultFile]) -> list[str]:
    """Minutes to learn and milliseconds an image, with a star where others used the cores."""
    cells = [_cell(group, lambda values: _scaled(
        values.get('training_seconds', values.get('building_seconds')), 1 / 60), '.1f'),
        _cell(group, lambda values: values.get('milliseconds_per_image'), '.0f')]
    busy = any(is_busy(file.values['hardware']) for file in group)
    return [cell + ' \\*' if busy and cell != '-' else cell for cell in cells]


def _megabytes(values: Record) -> float | None:
    return _scaled(values.get('model', {}).get('bytes'), 1e-6)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ['---', *['---:'] * (len(titles) - 1)], *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


class Machines:
    """Letters for machines, in the order of their appearance."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letters(self, group: Sequence[ResultFile]) -> str:
        """Those of a group of results."""
        found = set()
        for file in group:
            text = file.value(_describe_machine)
            number = len(self._letters)
            letter = chr(ord('A') + number) if number < 26 else f'M{number}'
            found.add(self._letters.setdefault(text, letter))
        return ' '.join(sorted(found))

    def describe(self) -> str:
        """The foot of the page."""
        if not self._letters:
            return 'There are no results yet.\n'
        lines = [f'- **{letter}**: {text}' for text, letter in self._letters.items()]
        return '\n'.join(['## Machines\n', *lines]) + '\n'


def _describe_machine(values: Record) -> str:
    hardware, versions = values['hardware'], values['versions']
    place = f'GPU {hardware["gpu"]}, ' if hardware['gpu'] else ''
    return (f'{place}CPU {hardware["processor"]}, {hardware["cores"]} cores, '
            f'{hardware["threads"]} threads, torch {versions["torch"]}')
