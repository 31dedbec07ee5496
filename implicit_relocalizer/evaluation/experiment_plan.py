# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Experiments as they are planned: rows to compare, scenes and seeds, read from YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9.-]*(_[A-Za-z0-9.-]+)*')  # no __, which joins names


class PlanError(ValueError):
    """A plan cannot be used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class PlannedScene:
    """A scene to learn: on disk, or rendered where it is not there yet.

    Attributes:
        name: Key in the plan.
        path: Relative to the folder of data; None where it is rendered.
        synthesize: Arguments of `data.synthetic.synthesize`; None where it is on disk.
        format: Of the reader; None detects it.
        split: Of the reader.
    """

    name: str
    path: str | None = None
    synthesize: dict[str, Any] | None = None
    format: str | None = None
    split: str = 'standard'


@dataclass(frozen=True)
class PlannedRow:
    """One way of learning.

    Attributes:
        name: Key in the plan.
        label: For a person.
        config: A YAML file or the name of one in config/train.
        overrides: `section.key=value`, on top of the configuration.
        variants: Take the pose from the learned points in other ways too.
        scenes: Names of the scenes it is run on; None is all.
        seeds: None is those of the plan.
    """

    name: str
    label: str
    config: str
    overrides: tuple[str, ...] = ()
    variants: bool = False
    scenes: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One training: a row on a scene with a seed."""

    row: PlannedRow
    scene: PlannedScene
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f'{self.row.name}__{self.scene.name}__{self.seed}'


@dataclass(frozen=True)
class ExperimentPlan:
    """What is compared.

    Attributes:
        name: Of the file.
        title: Heading in doc/results.md.
        about: A paragraph below it.
        rows: In the order of the table.
        scenes: In the order of the tables.
        seeds: Each row is run with each.
        max_train_frames: Training frames measured after training; None is all.
    """

    name: str
    title: str
    about: str
    rows: tuple[PlannedRow, ...]
    scenes: tuple[PlannedScene, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    max_train_frames: int | None = field(default=64)

    def runs(self, rows: Sequence[str] = (), scenes: Sequence[str] = (),
             seeds: Sequence[int] = ()) -> Iterator[PlannedRun]:
        """The runs of some rows, scenes and seeds (none named: all), seed by seed.

        Raises:
            PlanError: a row, scene or seed is not in the plan.
        """
        planned_seeds = list(dict.fromkeys(
            seed for row in self.rows for seed in row.seeds or self.seeds))
        for kind, wanted, known in (('row', rows, [row.name for row in self.rows]),
                                    ('scene', scenes, [scene.name for scene in self.scenes]),
                                    ('seed', seeds, planned_seeds)):
            for name in wanted:
                if name not in known:
                    raise PlanError(f'experiment {self.name} has no {kind} {name!r}; '
                                    f'it has {", ".join(map(str, known))}')
        for seed in planned_seeds:
            for scene in self.scenes:
                for row in self.rows:
                    if (seed in (row.seeds or self.seeds) and (not seeds or seed in seeds)
                            and scene.name in (row.scenes or (scene.name,))
                            and (not scenes or scene.name in scenes)
                            and (not rows or row.name in rows)):
                        yield PlannedRun(row, scene, seed)


def read_plan(path: Path) -> ExperimentPlan:
    """Read config/experiments/NAME.yaml.

    Raises:
        PlanError: no such file, no YAML, an unknown key, a missing one, or a wrong value.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PlanError(f'{path}: no such experiment') from None
    except yaml.YAMLError as error:
        raise PlanError(f'{path}: not YAML ({error})') from None
    source = _Section(path, '', values, {
        'title': str, 'about': str, 'config': str, 'set': list, 'seeds': list, 'scenes': dict,
        'rows': dict, 'variants': bool, 'max_train_frames': int})
    shared = source.texts('set')
    scenes = tuple(_read_scene(path, name, item) for name, item in source.items('scenes'))
    rows = tuple(_read_row(path, name, item, source, shared, {scene.name for scene in scenes})
                 for name, item in source.items('rows'))
    return ExperimentPlan(
        path.stem, source.need('title'), source.get('about', '').strip(), rows, scenes,
        source.seeds() or (0, 1, 2), source.get('max_train_frames', 64))


def _read_scene(path: Path, name: str, values: Any) -> PlannedScene:
    section = _Section(path, f'scenes.{name}', values, {
        'path': str, 'synthesize': dict, 'format': str, 'split': str})
    if (section.get('path') is None) == (section.get('synthesize') is None):
        raise PlanError(f'{path}: scenes.{name} needs either path or synthesize')
    return PlannedScene(name, section.get('path'), section.get('synthesize'),
                        section.get('format'), section.get('split', 'standard'))


def _read_row(path: Path, name: str, values: Any, source: _Section, shared: tuple[str, ...],
              scenes: set[str]) -> PlannedRow:
    section = _Section(path, f'rows.{name}', values, {
        'label': str, 'config': str, 'set': list, 'scenes': list, 'seeds': list,
        'variants': bool})
    chosen = section.texts('scenes') or None
    for scene in chosen or ():
        if scene not in scenes:
            raise PlanError(f'{path}: rows.{name}.scenes names {scene!r}, which is none of '
                            f'{", ".join(sorted(scenes))}')
    return PlannedRow(
        name, section.need('label'), section.get('config') or source.need('config'),
        (*shared, *section.texts('set')), section.get('variants', source.get('variants', False)),
        chosen, section.seeds() or None)


class _Section:
    """A mapping of the file whose keys and kinds of values are known."""

    def __init__(self, path: Path, prefix: str, values: Any, kinds: dict[str, type]) -> None:
        self._where = f'{path}: {prefix}' if prefix else str(path)
        if not isinstance(values, dict):
            raise PlanError(f'{self._where}: expected keys and values')
        for key, value in values.items():
            if key not in kinds:
                raise PlanError(f'{self._where}: unknown key {key!r}; known here: '
                                f'{", ".join(sorted(kinds))}')
            if not isinstance(value, kinds[key]):
                raise PlanError(f'{self._where}: {key} is {value!r}, expected '
                                f'{kinds[key].__name__}')
        self._values = values

    def get(self, key: str, otherwise: Any = None) -> Any:
        return self._values.get(key, otherwise)

    def need(self, key: str) -> Any:
        if key not in self._values:
            raise PlanError(f'{self._where}: has no {key}; add it')
        return self._values[key]

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(str(item) for item in self._values.get(key, ()))

    def seeds(self) -> tuple[int, ...]:
        seeds = self._values.get('seeds', [])
        if any(not isinstance(seed, int) or isinstance(seed, bool) for seed in seeds):
            raise PlanError(f'{self._where}: seeds is {seeds!r}, expected whole numbers')
        return tuple(seeds)

    def items(self, key: str) -> list[tuple[str, Any]]:
        entries = self.need(key)
        for name in entries:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise PlanError(f'{self._where}: {key} has {name!r}, which is no name for a '
                                f'file: use letters, digits, - and single _')
        if not entries:
            raise PlanError(f'{self._where}: {key} is empty')
        return list(entries.items())
