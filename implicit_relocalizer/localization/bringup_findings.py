# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the bring-up doctor says: findings, and how a person reads them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

_SUBJECT_WIDTH = 12


class Severity(str, Enum):
    """How bad; the values are what people read at the beginning of a line."""

    OK = 'ok'
    WARNING = 'warning'
    PROBLEM = 'PROBLEM'


@dataclass(frozen=True)
class Finding:
    """One thing that is well or wrong.

    Attributes:
        code: Machine-readable.
        severity: A problem keeps the robot from localizing itself; a warning need not.
        subject: What it is about, one word.
        sentence: For a person, with the values.
        remedy: What to do; empty where all is well.
    """

    code: str
    severity: Severity
    subject: str
    sentence: str
    remedy: str = ''


@dataclass(frozen=True)
class Subject:
    """Makes the findings about one subject."""

    name: str

    def ok(self, code: str, sentence: str) -> Finding:
        """All is well."""
        return Finding(code, Severity.OK, self.name, sentence)

    def warning(self, code: str, sentence: str, remedy: str) -> Finding:
        """It may work all the same."""
        return Finding(code, Severity.WARNING, self.name, sentence, remedy)

    def problem(self, code: str, sentence: str, remedy: str) -> Finding:
        """It cannot work."""
        return Finding(code, Severity.PROBLEM, self.name, sentence, remedy)


def has_problem(findings: Sequence[Finding]) -> bool:
    """Whether something must be repaired."""
    return any(finding.severity is Severity.PROBLEM for finding in findings)


def describe_findings(findings: Sequence[Finding], width: int = 0) -> str:
    """Aligned lines for a terminal of `width` columns; 0: no line is broken, for grep."""
    indent = ' ' * (len(Severity.PROBLEM.value) + 2 + _SUBJECT_WIDTH)
    lines: list[str] = []
    for finding in findings:
        head = f'{finding.severity.value:<{len(Severity.PROBLEM.value)}}  ' \
               f'{finding.subject:<{_SUBJECT_WIDTH}}'
        lines += _broken(head + finding.sentence, indent, width)
        if finding.remedy:
            lines += _broken(f'{indent}-> {finding.remedy}', indent + '   ', width)
    return '\n'.join(lines)


def describe_verdict(findings: Sequence[Finding]) -> str:
    """One line."""
    problems = [f for f in findings if f.severity is Severity.PROBLEM]
    warnings = [f for f in findings if f.severity is Severity.WARNING]
    counts = ' and '.join(
        f'{len(kind)} {name}{"s" * (len(kind) > 1)}'
        for kind, name in ((problems, 'problem'), (warnings, 'warning')) if kind)
    if problems:
        return f'verdict: {counts}; begin with the first, {problems[0].subject}'
    return f'verdict: well, with {counts}' if warnings else 'verdict: all is well'


def named(names: Sequence[str], limit: int = 8) -> str:
    """A list of names for a sentence: quoted, and cut where it would be too long."""
    shown = ', '.join(f"'{name}'" for name in names[:limit])
    more = len(names) - limit
    return f'{shown} and {more} more' if more > 0 else shown or 'none'


def _broken(line: str, indent: str, width: int) -> list[str]:
    if width <= len(indent) + 20:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False,
                         break_on_hyphens=False, drop_whitespace=True)
