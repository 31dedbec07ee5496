# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of the page that need no program: verdict, tables, pictures with their captions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from implicit_relocalizer.evaluation.coverage import SIGMAS
from implicit_relocalizer.evaluation.metrics import RECALL_LIMITS
from implicit_relocalizer.evaluation.report.contents import GROUP_NAMES, ReportContents
from implicit_relocalizer.evaluation.report.incidents import Incident
from implicit_relocalizer.evaluation.report.markup import Child, h, table
from implicit_relocalizer.evaluation.report.measures import FrameMeasures
from implicit_relocalizer.evaluation.report.verdict import (
    Point,
    judge_coverage,
    judged_covariance,
    length_text,
    pose_text,
)

MAX_INCIDENTS = 100
_SIGNS = {'good': ('\u2713', 'good'), 'caution': ('!', 'caution'), 'bad': ('\u2715', 'bad'),
          'note': ('\u2022', 'note')}
# Not circumstances: shown elsewhere on the page, or a list of every frame.
_SHOWN_ELSEWHERE = (
    'kind', 'errors', 'train', 'test', 'covariance', 'confidence', 'confidence_with_elsewhere',
    'acceptance', 'comparison', 'states', 'warnings', 'frames_detail', 'unanswered_stamps_ns')
_MAX_CIRCUMSTANCES = 200


def section(name: str, title: str, *children: Child) -> Element:
    """A part of the page with its heading."""
    return h('section', h('h2', title, id=f'{name}-title'), *children, id=name,
             aria_labelledby=f'{name}-title')


def verdict_part(head: Point, points: Sequence[Point]) -> Element:
    """The headline and the findings."""
    return h('div', h('p', _sign(head), head.text, class_=f'headline {head.level}'),
             h('ul', *(h('li', _sign(point), h('span', point.text), class_=point.level)
                       for point in points), class_='findings'), class_='verdict')


def tiles(contents: ReportContents) -> Element:
    """The figures that everybody asks for first."""
    result = contents.result
    summary = result['errors'] if contents.kind == 'run' else result['test']
    recall = summary['recall']
    cells = [('median position error', _or_dash(summary['median_translation_m'], length_text)),
             ('median rotation error',
              _or_dash(summary['median_rotation_deg'], lambda value: f'{value:.2f}\u00b0')),
             ('within 25 cm / 5\u00b0', f'{recall.get("25cm_5deg", 0.0):.1%}')]
    if contents.kind == 'run':
        cells += [('images answered', f'{result["availability"]:.1%}'),
                  ('first pose after', f'{result["time_to_first_fix_s"]["by_bag_time"]:.2f} s'),
                  ('false accepts', str(result['false_accepts']['count'])),
                  ('latency, median', f'{result["latency_ms"]["median"]:.0f} ms')]
    else:
        cells += [('images answered',
                   f'{summary["frames_answered"] / max(summary["frames"], 1):.1%}'),
                  ('time for an image', _or_dash(
                      result.get('milliseconds_per_image'), lambda value: f'{value:.0f} ms'))]
    return h('dl', *(h('div', h('dt', name), h('dd', value)) for name, value in cells),
             class_='tiles')


def incident_part(contents: ReportContents, incidents: Sequence[Incident]) -> Element:
    """When the pose was missing or wrong, and why."""
    if not incidents:
        return h('p', 'Nothing: the node never said that it was lost or searching, no three '
                      'images in a row stayed without an answer, and no answer was wrong by more '
                      f'than {contents.wrong_beyond.label}.'
                 if contents.states else
                 'No three images in a row stayed without an answer, and no answer was wrong by '
                 f'more than {contents.wrong_beyond.label}. The recording holds no diagnostics of '
                 'the node, so its own states are unknown.')
    rows: list[list[Child]] = [[
        f'{i.start_s:.2f} s', f'{i.end_s:.2f} s', f'{i.duration_s:.2f} s',
        h('span', i.what, class_='state', data_state=i.what), i.why,
        f'{i.images} ({i.unanswered} unanswered)'] for i in incidents[:MAX_INCIDENTS]]
    more = (f' The first {MAX_INCIDENTS} of {len(incidents)} are shown.'
            if len(incidents) > MAX_INCIDENTS else '')
    return h('div', table(
        ('from', 'to', 'duration', 'what', 'why', 'images'), rows,
        class_='incidents'), h('p', (
            'Times are seconds since the first image. States are those of the node\u2019s '
            'diagnostics, as exact as these are frequent.' if contents.states else
            'Times are seconds since the first image. The recording holds no diagnostics of the '
            'node, so its own states are unknown.') + more, class_='hint'))


def summary_table(contents: ReportContents) -> Element:
    """Errors and recall; training beside held-out frames for a scene."""
    result = contents.result
    groups = ([('recorded', result['errors'])] if contents.kind == 'run' else
              [('training', result['train']), ('held-out', result['test'])])
    rows: list[list[Child]] = [
        ['images with a reference', *(str(s['frames']) for _, s in groups)],
        ['answered', *(str(s['frames_answered']) for _, s in groups)]]
    rows += [[label, *(pose_text(s, key) for _, s in groups)] for key, label in (
        ('median', 'median error'), ('p90', '90% of the errors below'),
        ('p99', '99% of the errors below'))]
    rows += [[f'within {limit.label}', *(_share(s['recall'].get(limit.key)) for _, s in groups)]
             for limit in RECALL_LIMITS]
    return h('div', table(('', *(f'{name} images' for name, _ in groups)), rows,
                          class_='numbers'),
             h('p', 'Medians and percentiles are over the answers; the shares within a bound are '
               'over all images asked: one without an answer counts as a failure.',
               class_='hint'))


def coverage_table(contents: ReportContents) -> Element:
    """Shares within 1, 2 and 3 sigma and what they mean."""
    covariance = judged_covariance(contents)
    if covariance is None:
        return h('p', 'There is no covariance to judge.', class_='absent')
    whole = (contents.result['covariance'] or {}).get('test')
    parts = [covariance['position'], covariance['orientation']]
    names = ['position', 'orientation']
    if whole is not None and covariance is not whole:
        parts += [whole['position'], whole['orientation']]
        names = [f'{name}, {kind}' for kind in ('accepted', 'all answers') for name in names]
    rows: list[list[Child]] = [
        [f'within {sigma} sigma', *(_share(part['within'][f'{sigma}_sigma']) for part in parts),
         _share(parts[0]['expected'][f'{sigma}_sigma'])] for sigma in SIGMAS]
    rows.append(['median normalised error', *(
        _or_dash(value, lambda v: f'{v:.2f}') for value in (
            *(part['median_normalised_error'] for part in parts),
            parts[0]['expected_median_normalised_error']))])
    rows.append(['answers compared', *(str(part['compared']) for part in parts), ''])
    judged = [judge_coverage(part) for part in parts]
    rows.append(['verdict', *(h('span', _sign(point), point.text, class_=point.level)
                              for point in judged), ''])
    return table(('errors', *names, 'if it were true'), rows, class_='numbers')


def confidence_notes(contents: ReportContents) -> list[Element]:
    """Why the confidence or the acceptance is not shown."""
    result = contents.result
    reasons = result.get('left_out') or {}
    return [h('p', f'The {name} cannot be shown: {reasons.get(name, "it was not measured")}.',
              class_='absent')
            for name in ('confidence', 'acceptance') if not result.get(name)]


def comparison_table(comparison: Mapping[str, Any]) -> Element:
    """Both results and their difference, figure by figure."""
    rows: list[list[Child]] = []
    for row in comparison['rows']:
        low, high = (_figure(row.get(key), sign) for key, sign in (('low', '-'), ('high', '+')))
        clear = row.get('verdict') or ('clear' if row.get('is_clear') else 'may be chance')
        rows.append([f'{row["label"]} [{row["unit"]}]', _figure(row['this']),
                     _figure(row['other']), _figure(row['difference'], '+'),
                     f'{low} to {high}', clear])
    return table(('', 'this result', f'{comparison["against"]}', 'difference', '95% interval',
                  'verdict'), rows, class_='numbers')


def worst_part(contents: ReportContents, measures: FrameMeasures,
               place_of: Mapping[int, int]) -> Element:
    """Pictures with captions; the program draws the points over and beside them."""
    figures = []
    for index, picture in contents.pictures.items():
        frame = contents.frames[index]
        image = h('img', src='data:image/jpeg;base64,'
                  + base64.b64encode(picture.jpeg).decode('ascii'),
                  alt=f'camera image {frame.name}', width=str(picture.size[0]),
                  height=str(picture.size[1]))
        figures.append(h(
            'figure', h('div', h('div', image, class_='photo'), class_='views'),
            h('figcaption', h('h3', frame.name),
              h('dl', *(h('div', h('dt', name), h('dd', value))
                        for name, value in _facts(contents, measures, index)))),
            data_frame=str(place_of[index])))
    return h('div', *figures, class_='worst')


def circumstances_part(contents: ReportContents) -> Element:
    """Everything else that the result says: versions, hardware, topics, left out counts."""
    rows = []
    for key, value in contents.result.items():
        if key not in _SHOWN_ELSEWHERE:
            rows += _flatten(key, value)
    rows.append(['images on this page', str(len(contents.frames))])
    return table(('what', 'value'), [[key.replace('_', ' '), value] for key, value in
                                     rows[:_MAX_CIRCUMSTANCES]], class_='circumstances')


def _facts(contents: ReportContents, measures: FrameMeasures,
           index: int) -> list[tuple[str, Child]]:
    frame = contents.frames[index]
    facts: list[tuple[str, Child]] = []
    if frame.time_s is not None:
        facts.append(('time', f'{frame.time_s:.2f} s'))
    position_m, rotation_deg = measures.position_m[index], measures.rotation_deg[index]
    if np.isfinite(position_m):
        facts.append(('error', f'{length_text(position_m)} / {rotation_deg:.2f}\u00b0'))
    elif frame.T_estimate is None:
        facts.append(('error', 'no answer'))
    for name, error, sigma, normalised, form in (
            ('position', position_m, measures.position_sigma_m[index],
             measures.normalised_position[index], length_text),
            ('rotation', rotation_deg, measures.rotation_sigma_deg[index],
             measures.normalised_rotation[index], lambda value: f'{value:.2f}\u00b0')):
        if np.isfinite(sigma):
            facts.append((f'1 sigma, {name}', f'{form(float(sigma))}; the error is '
                                              f'{error / sigma:.1f} times that (normalised: '
                                              f'{normalised:.1f})'))
    if frame.confidence is not None:
        facts.append(('confidence', f'{frame.confidence:.3f}'))
    if frame.is_accepted is not None:
        facts.append(('accepted', 'yes' if frame.is_accepted else 'no'))
    if frame.refusal:
        facts.append(('why', frame.refusal))
    return facts


def _flatten(key: str, value: Any) -> list[list[str]]:
    if isinstance(value, Mapping):
        return [row for name, part in value.items() for row in _flatten(f'{key}: {name}', part)]
    if isinstance(value, (list, tuple)):
        text = json.dumps(list(value)[:10], ensure_ascii=False)
        return [[key, text + (f' ... ({len(value)})' if len(value) > 10 else '')]]
    if isinstance(value, float):
        return [[key, f'{value:.6g}']]
    return [[key, '\u2013' if value is None else str(value)]]


def groups_text(contents: ReportContents) -> str:
    """How many images of which kind."""
    counts = {name: sum(frame.group == group for frame in contents.frames)
              for group, name in GROUP_NAMES.items()}
    return ', '.join(f'{count} {name} images' for name, count in counts.items() if count)


def _sign(point: Point) -> Element:
    sign, name = _SIGNS[point.level]
    return h('span', sign, class_='sign', role='img', aria_label=name)


def _figure(value: float | None, sign: str = '') -> str:
    """Three digits; None is beyond all bounds on the side of `sign`."""
    if value is None:
        return f'{sign}\u221e'
    return format(value, '+.3g' if sign else '.3g')


def _share(value: float | None) -> str:
    return '\u2013' if value is None else f'{value:.1%}'


def _or_dash(value: float | None, form: Any) -> str:
    return '\u2013' if value is None else str(form(value))
