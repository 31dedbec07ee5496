# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The page as one file: markup, styles, program and data together, nothing loaded from outside."""

from __future__ import annotations

from importlib import resources
from string import Template
from xml.etree.ElementTree import Element

from implicit_relocalizer.evaluation.report import sections
from implicit_relocalizer.evaluation.report.contents import ReportContents
from implicit_relocalizer.evaluation.report.incidents import find_incidents
from implicit_relocalizer.evaluation.report.markup import Child, h, to_html
from implicit_relocalizer.evaluation.report.measures import measure_frames
from implicit_relocalizer.evaluation.report.page_data import MAX_FRAMES, page_data, script_text
from implicit_relocalizer.evaluation.report.verdict import findings, headline

MAX_BYTES = 5_000_000
_PROGRAM = ('drawing.js', 'selection.js', 'above.js', 'time.js', 'curves.js', 'pictures.js',
            'space.js', 'start.js')


def render_page(contents: ReportContents) -> str:
    """The page as HTML text in ASCII, smaller than `MAX_BYTES`.

    Raises:
        ValueError: it cannot be made as small; which pictures or points are too many.
    """
    measures = measure_frames(contents.frames)
    incidents = find_incidents(contents, measures)
    data = page_data(contents, measures, MAX_FRAMES)
    place_of = {index: place for place, index in enumerate(data['frames']['index'])}
    parts = [
        section_of('overview', 'In short', sections.verdict_part(
            headline(contents, incidents), findings(contents)), sections.tiles(contents))]
    if contents.kind == 'run':
        parts.append(section_of('incidents', 'What went wrong, and why',
                                sections.incident_part(contents, incidents)))
    parts += [
        section_of('above', 'The place from above', _plot('above')),
        section_of('time', 'Errors in the order of the images', _plot('time')),
        section_of('curves', 'How many images have how small an error', _plot('curves'),
                   sections.summary_table(contents)),
        section_of('covariance', 'Is the covariance honest?', sections.coverage_table(contents),
                   _plot('covariance'))]
    if contents.kind == 'scene':
        parts.append(section_of('confidence', 'Is the confidence honest?', _plot('confidence'),
                                *sections.confidence_notes(contents)))
    if contents.pictures:
        silent = any(contents.frames[i].T_estimate is None for i in contents.pictures)
        parts.append(section_of('worst', 'The worst answers'
                                + (', and images without one' if silent else ''),
                                _note(contents, 'pictures'), _plot('worst-legend'),
                                sections.worst_part(contents, measures, place_of)))
    parts.append(section_of('space', 'The learned place', _note(contents, 'cloud'),
                            _plot('space')))
    comparison = contents.result.get('comparison')
    if comparison:
        parts.append(section_of('comparison', 'Compared with another result',
                                _plot('comparison'), sections.comparison_table(comparison)))
    parts.append(section_of('circumstances', 'Circumstances', h(
        'details', h('summary', 'versions, hardware, configuration, what was left out'),
        sections.circumstances_part(contents))))
    kind = 'A recorded run' if contents.kind == 'run' else 'A model on a scene'
    text = Template(_file('page.html')).substitute(
        title=to_html(h('title', f'{contents.title} \u2013 implicit_relocalizer')),
        style=_file('report.css'), program='\n'.join(_file(name) for name in _PROGRAM),
        data=script_text(data),
        header=to_html(h('header', h('p', kind, class_='eyebrow'), h('h1', contents.title),
                         h('p', sections.groups_text(contents), class_='hint'), _links(parts))),
        main=''.join(map(to_html, parts)))
    if len(text) > MAX_BYTES:
        raise ValueError(f'the report of {contents.title} has {len(text)} bytes, more than '
                         f'{MAX_BYTES}; give it fewer pictures or a thinner cloud')
    return text


def section_of(name: str, title: str, *children: Child) -> Element:
    """A part of the page."""
    return sections.section(name, title, *children)


def _plot(name: str) -> Element:
    return h('div', class_='plot', id=f'{name}-plot')


def _note(contents: ReportContents, name: str) -> Element | None:
    text = contents.notes.get(name)
    return h('p', text, class_='absent') if text else None


def _links(parts: list[Element]) -> Element:
    return h('nav', *(h('a', part[0].text or '', href=f'#{part.get("id")}') for part in parts),
             aria_label='parts of this page')


def _file(name: str) -> str:
    return (resources.files(__package__) / 'web' / name).read_text(encoding='ascii')
