# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The user's pages say what the program does: parameters, topics, states, reasons, links."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from implicit_relocalizer.localization import supervision
from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.belief import Belief, Cause, Mode, Rules, State
from implicit_relocalizer.localization.estimate import PoseEstimate
from implicit_relocalizer.localization.rejection import NoPoseError, Reason

ROOT = Path(__file__).resolve().parents[1]
NODE_PAGE = (ROOT / 'doc' / 'node.md').read_text()
TROUBLE_PAGE = (ROOT / 'doc' / 'troubleshooting.md').read_text()
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'doc').glob('*.md'))]

BRINGUP = sorted((ROOT / 'implicit_relocalizer' / 'localization').glob('bringup_*.py'))
SEVERITIES = {'ok', 'warning', 'problem'}


def section(page: str, heading: str) -> str:
    """The text below a heading, to the next one of its rank or a higher one."""
    rank = heading.index(' ')
    begin = re.search(rf'^{re.escape(heading)}$', page, re.MULTILINE)
    assert begin, f'no heading {heading!r}'
    end = re.search(rf'^#{{1,{rank}}} ', page[begin.end():], re.MULTILINE)
    return page[begin.end():][:end.start() if end else None]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of all rows of all tables whose first cell is in code quotes."""
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ''], strict=True):
        cells = [cell.strip() for cell in line.split('|')[1:-1]]
        if cells and re.fullmatch('`[^`]+`', cells[0]) and not below.startswith('|--'):
            yield [cells[0].strip('`'), *cells[1:]]


def by_name(text: str) -> dict[str, list[str]]:
    """Rows by their first cell, which none shares with another."""
    found = list(rows(text))
    names = [row[0] for row in found]
    assert len(set(names)) == len(names), f'twice: {sorted(names)}'
    return {name: cells for name, *cells in found}


def quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall('`([^`]+)`', cell))


# --- doc/node.md: parameters ---

def test_every_parameter_is_documented_as_it_is():
    from implicit_relocalizer.localization.parameter_table import PARAMETERS
    page = by_name(section(NODE_PAGE, '## Parameters'))
    assert set(page) == {entry.name for entry in PARAMETERS}
    kinds = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}
    for entry in PARAMETERS:
        kind, default, allowed, change, meaning = page[entry.name]
        assert kind == kinds[type(entry.default)], entry.name
        told = yaml.safe_load(default.strip('`'))
        assert (told, type(told)) == (entry.default, type(entry.default)), entry.name
        assert change == ('live' if entry.at_run_time else 'fixed'), entry.name
        assert len(meaning) > 10, entry.name
        if entry.limits is not None:
            assert tuple(map(float, allowed.split(' to '))) == entry.limits, entry.name
        elif entry.choices or isinstance(entry.default, bool):
            assert quoted(allowed) == (entry.choices or ('true', 'false')), entry.name
        else:
            assert allowed == ('not empty' if entry.is_frame else 'any'), entry.name


# --- doc/node.md: topics, services, diagnostics ---

def page_types(heading: str) -> dict[str, str]:
    return {name: cells[0].strip('`') for name, cells in by_name(
        section(NODE_PAGE, heading)).items()}


@pytest.fixture(scope='module')
def node_and_bare(context, nursery, tmp_path_factory):
    """What an active node has with raw and then with compressed images and simulated time: types
    by heading and name, its qualities of service; and the names that every managed node has."""
    pytest.importorskip('tf2_ros', reason='needs tf2_ros (or pip_overlay)')
    from colour_model import write_model
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    from node_reader import NodeReader
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    model = write_model(tmp_path_factory.mktemp('model') / 'colours.pt')
    process = nursery.start(['--ros-args', '-r', '__ns:=/page', '-p', f'model:={model}'])
    reader = NodeReader(context, 'relocalizer', '/page')
    process.wait_for('ready')
    first, qualities = reader.settled(), reader.qualities()
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                       Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        if transition == Transition.TRANSITION_CONFIGURE:
            results = reader.call(SetParameters, 'set_parameters', SetParameters.Request(
                parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in (
                    ('image_transport', 'compressed'), ('use_sim_time', True))])).results
            assert all(result.successful for result in results), results
        assert reader.call(ChangeState, 'change_state', ChangeState.Request(
            transition=Transition(id=transition))).success, process.output()
    both = {heading: {**found, **first[heading]} for heading, found in reader.settled().items()}
    qualities |= reader.qualities()
    yield both, qualities, reader.names_of_every_node()
    reader.close()


def test_every_topic_and_service_of_a_running_node_is_on_the_page(node_and_bare):
    node, _, bare = node_and_bare
    common = page_types('### What every managed node has')
    for heading, found in node.items():
        assert {name: kind for name, kind in found.items()
                if name not in common and name not in bare} == page_types(heading), heading
    everything = {name: kind for found in node.values() for name, kind in found.items()}
    assert {name: everything.get(name) for name in common} == common


def test_the_quality_of_service_is_that_of_the_page(node_and_bare):
    found = {}
    for topic, *qualities in node_and_bare[1]:
        found.setdefault(topic, set()).update(qualities)
    for heading in ('### What it hears', '### What it says'):
        above = ''
        for topic, (_, words, *_) in by_name(section(NODE_PAGE, heading)).items():
            above = above if words == 'the same' else words
            assert all(quality in above for quality in found[f'{heading} {topic}']), topic


def test_the_keys_of_the_diagnostics_are_those_of_the_page():
    pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
    from builtin_interfaces.msg import Time

    from implicit_relocalizer.localization.diagnostics import describe_status
    from implicit_relocalizer.localization.statistics import RunStatistics
    from implicit_relocalizer.ros.diagnostics import diagnostic_msg
    message = diagnostic_msg(Time(), describe_status(
        '/relocalizer', '', 'continuous', Belief(), RunStatistics(), 0.0))
    assert [pair.key for pair in message.status[0].values] == list(
        by_name(section(NODE_PAGE, '## Diagnostics')))


# --- doc/node.md: modes, states, reasons ---

def test_modes_and_states_are_described():
    text = section(NODE_PAGE, '## Modes and states')
    assert set(by_name(text)) == {mode.value for mode in Mode}
    assert re.findall(r'^\| ([A-Z]+) \|', text, re.MULTILINE) == [state.value for state in State]


def test_the_diagram_has_every_change_of_state_there_is_and_no_other():
    drawn = {(before, after, cause) for before, after, causes in re.findall(
        r'^ +(\w+) --> (\w+): (.+)$', NODE_PAGE, re.MULTILINE) for cause in causes.split(', ')}
    made = {change for mode in Mode for change in changes_of_state(Rules(mode))}
    assert drawn == made


def changes_of_state(rules: Rules) -> Iterator[tuple[str, str, str]]:
    """Whatever can be seen in a long life full of accidents."""
    chance = random.Random(3)
    refusal = NoPoseError(Reason.CONFIDENCE, '')
    now_s, place_m, belief = 0.0, 0.0, Belief()
    for _ in range(800):
        now_s += 0.1
        T = np.eye(4)
        T[0, 3] = place_m
        fix = Fix(round(now_s * 1e9), PoseEstimate(T[:3, :3], T[:3, 3], np.eye(6), 1.0, 1.0))
        event = chance.choices(('fix', 'refusal', 'kidnap', 'pause', 'request', 'jump', 'end'),
                               (60, 20, 3, 3, 3, 3, 2))[0]
        if belief.state is State.UNCONFIGURED:
            decision = supervision.activate(rules, now_s)
        elif event == 'fix':
            decision = supervision.observe_fix(rules, belief, fix, now_s)
        elif event == 'refusal':
            decision = supervision.observe_refusal(rules, belief, refusal)
        elif event == 'request':
            decision = supervision.request(rules, belief, now_s)
        elif event == 'jump':
            decision = supervision.jump_in_time(rules, belief, '', now_s)
        elif event == 'end':
            decision = supervision.deactivate(belief, now_s)
        else:
            place_m += 50.0 * (event == 'kidnap')
            now_s += 6.0 * (event == 'pause')
            decision = supervision.pass_time(rules, belief, now_s)
        yield from ((t.before.value, t.after.value, t.cause.value) for t in decision.transitions)
        decision = supervision.pass_time(rules, decision.belief, now_s)
        yield from ((t.before.value, t.after.value, t.cause.value) for t in decision.transitions)
        belief = decision.belief


def test_every_refusal_has_its_place_in_the_chain():
    text = section(NODE_PAGE, '## What is accepted')
    chain = re.findall(r'^\|.*\|$', text, re.MULTILINE)
    named = {code for row in chain for code in quoted(row.split('|')[-2])}
    of_transforms = {Reason.NO_CAMERA_TF.value, Reason.SECOND_PARENT.value}
    assert named | of_transforms == {reason.value for reason in Reason}
    assert f'`{Reason.NO_CAMERA_TF.value}` refuses no image' in text
    assert f'Nor does `{Reason.SECOND_PARENT.value}`' in text


# --- doc/troubleshooting.md ---

def doctor_codes() -> set[str]:
    """Patterns of all codes of findings: the first argument of whatever makes one."""
    found = set()
    for path in BRINGUP:
        tree = ast.parse(path.read_text(), str(path))
        makers = {target.id for node in ast.walk(tree) if isinstance(node, ast.Assign)
                  for target in node.targets if isinstance(target, ast.Name)
                  and any(isinstance(part, ast.Attribute) and part.attr in SEVERITIES
                          for part in ast.walk(node.value))
                  and not isinstance(node.value, (ast.Call, ast.List))}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) >= 2 and (
                    (isinstance(node.func, ast.Attribute) and node.func.attr in SEVERITIES)
                    or (isinstance(node.func, ast.Name) and node.func.id in makers)):
                found.add(pattern_of(node.args[0]))
    return found


def pattern_of(code: ast.expr) -> str:
    if isinstance(code, ast.JoinedStr):
        return ''.join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else '[a-z]+'
                       for part in code.values)
    assert isinstance(code, ast.Constant), ast.dump(code)
    return re.escape(str(code.value))


def headed(heading: str) -> set[str]:
    return set(re.findall(r'^### `(\w+)`$', section(TROUBLE_PAGE, heading), re.MULTILINE))


def test_every_reason_for_a_refusal_has_a_heading():
    assert headed('## An image gets no pose') == {reason.value for reason in Reason}


def test_every_cause_of_a_change_of_state_has_a_heading():
    assert headed('## The state changed') == {cause.value for cause in Cause}


def test_every_finding_of_the_doctor_has_a_row():
    told = set(by_name(section(TROUBLE_PAGE, '## What the doctor finds')))
    patterns = doctor_codes()
    assert len(patterns) > 40
    missing = {pattern for pattern in patterns
               if not any(re.fullmatch(pattern, code) for code in told)}
    unknown = {code for code in told
               if not any(re.fullmatch(pattern, code) for pattern in patterns)}
    assert (missing, unknown) == (set(), set())


# --- all pages ---

def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r'^ {4}.*$|`[^`\n]*`', '', page.read_text(), flags=re.MULTILINE)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'[a-z]+:', target):
            continue
        name, _, anchor = target.partition('#')
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(file), target
