# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""doc/results.md from the result files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_relocalizer.evaluation import pareto_text
from implicit_relocalizer.evaluation.encoder_table import format_encoder_table
from implicit_relocalizer.evaluation.experiment_plan import ExperimentPlan
from implicit_relocalizer.evaluation.records import (
    ENCODERS_KIND,
    PARETO_KIND,
    TRAINING_KIND,
    read_json,
    read_record,
    require,
)
from implicit_relocalizer.evaluation.result_tables import (
    Machines,
    ResultFile,
    geometry_table,
    pose_table,
)
from implicit_relocalizer.evaluation.speed.training_text import describe_training

SIFT_FOLDER = 'sift_map'
_SIFT_TITLE = 'The rival: a SIFT map'
_SIFT_ABOUT = (
    'Training images matched to their neighbours and triangulated with their known poses; a query '
    'is matched to the descriptors of all sightings and solved by PnP-RANSAC and '
    'Levenberg-Marquardt. Its training columns flatter: the descriptors of the very image are in '
    'the map.')
# Results of other commands than `experiment`: title, what it is about, order of the rows.
_OTHER_SECTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {'finetuning': (
    'Fine-tuning with positions alone',
    'The first part of the training images is learned with whole poses, the rest afterwards with '
    'positions alone (`implicit-relocalizer finetune-experiment`). Training columns are of both '
    'parts together.', ('before', 'after')), 'training': (
    'How long training takes',
    'Where the time of a training goes (`implicit-relocalizer training-benchmark`): steps that '
    'learn by gradients, then whole trainings by what they do.', ())}
_HEADER = """\
# Results

Made by `implicit-relocalizer tables` from the files in `benchmarks/`; a test holds the two
together, so edit neither by hand. `implicit-relocalizer experiment NAME` makes what is missing.

Every figure has two columns: **training** images, which were learned from, and **held-out**
images, which were not. Position and rotation are medians; the shares are of all images asked, and
one without an answer counts as not found. Several seeds: the mean, and in brackets the smallest
and the largest. Times are those of the machine that the letter names, at the foot of this page;
\\* marks times on a machine that had other work to do.
"""


def make_tables(benchmarks: Path, plans: Mapping[str, ExperimentPlan]) -> str:
    """The whole page.

    Args:
        benchmarks: Folder of folders of results; files directly in it are no results of this
            kind.
        plans: By name of the folder: titles, order of rows and scenes, and what is missing.

    Raises:
        RecordError: a result cannot be used.
    """
    machines = Machines()
    rivals = _read_results(Path(benchmarks) / SIFT_FOLDER)
    parts = [_HEADER]
    if rivals:
        parts.append(f'## {_SIFT_TITLE}\n\n{_SIFT_ABOUT}\n')
        parts.append(pose_table(rivals, [], machines, with_scene=True))
    for folder in sorted(path for path in Path(benchmarks).iterdir() if path.is_dir()):
        if folder.name != SIFT_FOLDER and any(folder.glob('*.json')):
            parts += _section(folder, plans.get(folder.name), rivals, machines)
    return '\n'.join([*parts, machines.describe()])


def _read_results(folder: Path) -> list[ResultFile]:
    return [ResultFile(path, read_record(path)) for path in sorted(folder.glob('*.json'))
            if read_json(path).get('kind') not in _COSTS]


def _section(folder: Path, plan: ExperimentPlan | None, rivals: Sequence[ResultFile],
             machines: Machines) -> list[str]:
    files = _read_results(folder)
    title, about, order = _OTHER_SECTIONS.get(folder.name, (folder.name, '', ()))
    if plan:
        title, about, order = plan.title, plan.about, tuple(row.name for row in plan.rows)
    parts = [f'## {title}\n', *([about + '\n'] if about else []), *_cost_tables(folder)]
    for scene in dict.fromkeys(file.scene for file in _in_plan_order(files, plan)):
        here = [file for file in files if file.scene == scene]
        beside = [file for file in rivals if file.scene == scene]
        parts.append(f'### {scene[0]}, {scene[1]} split\n')
        parts.append(pose_table([*here, *beside], order, machines))
        if any(file.values.get('geometry') for file in here):
            parts.append('Predicted world points against measured depth, median distance unless '
                         'said otherwise:\n')
            parts.append(geometry_table(here, order))
    done = {file.path.stem for file in files}
    missing = [planned.name for planned in plan.runs() if planned.name not in done] if plan else []
    if missing:
        parts.append(f'Planned and not run: {", ".join(f"`{run}`" for run in missing)}.\n')
    return parts


def _cost_tables(folder: Path) -> list[str]:
    """What encoders, models and trainings cost, of those files that say so."""
    parts = []
    for path in sorted(folder.glob('*.json')):
        result = read_json(path)
        if result.get('kind') in _COSTS:
            needed, describe = _COSTS[result['kind']]
            require(path, result, needed)
            parts.append(describe(result) + '\n')
    return parts


def _describe_encoders(table: dict[str, Any]) -> str:
    width, height = table['input_size']
    machines = '; '.join(hardware['gpu'] or hardware['processor']
                         for hardware in table['hardware'].values())
    return (f'What encoders cost at {width}x{height} pixels, {table["cpu_threads"]} CPU '
            f'threads, on {machines}:\n\n{format_encoder_table(table)}')


# By kind: what a file needs, and what becomes of it.
_COSTS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], str]]] = {
    ENCODERS_KIND: (('input_size', 'cpu_threads', 'hardware', 'rows'), _describe_encoders),
    PARETO_KIND: (pareto_text.NEEDED, pareto_text.describe_pareto),
    TRAINING_KIND: (('scene', 'hardware', 'configurations'), describe_training)}


def _in_plan_order(files: Sequence[ResultFile],
                   plan: ExperimentPlan | None) -> list[ResultFile]:
    scenes = [scene.name for scene in plan.scenes] if plan else []

    def place(file: ResultFile) -> int:
        names = file.path.stem.split('__')
        return scenes.index(names[1]) if len(names) == 3 and names[1] in scenes else len(scenes)

    return sorted(files, key=place)
