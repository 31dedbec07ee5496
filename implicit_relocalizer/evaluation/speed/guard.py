# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Bounds on ratios: a regression is systematic and stays, what the machine does passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

AT_MOST, AT_LEAST = 'at_most', 'at_least'


class BoundsError(ValueError):
    """A file of bounds cannot be used; the message names the file, the value and the remedy."""


@dataclass(frozen=True)
class Bound:
    """What a ratio has to keep to on a kind of device.

    Attributes:
        device: 'cpu' or 'cuda'.
        ratio: Its name.
        kind: `AT_MOST` or `AT_LEAST`.
        limit: The value.
    """

    device: str
    ratio: str
    kind: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return value <= self.limit if self.kind == AT_MOST else value >= self.limit


class Excess(NamedTuple):
    """A bound and the value that broke it."""

    bound: Bound
    value: float

    def __str__(self) -> str:
        bound = self.bound
        return (f'{bound.ratio} on {bound.device} is {self.value:.3f}, which has to be '
                f'{bound.kind.replace("_", " ")} {bound.limit:g}')


def read_bounds(path: Path) -> tuple[Bound, ...]:
    """Read bounds: device, 'at_most' or 'at_least', ratio and value.

    Raises:
        BoundsError: unreadable, or not of this form.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BoundsError(f'{path}: cannot be read as YAML ({error})') from None
    bounds = []
    for device, kinds in _items(path, values, 'devices'):
        if device not in ('cpu', 'cuda'):
            raise BoundsError(f'{path}: {device!r} is no device; write cpu or cuda')
        for kind, ratios in _items(path, kinds, device):
            if kind not in (AT_MOST, AT_LEAST):
                raise BoundsError(f'{path}: {device}.{kind} is unknown; write {AT_MOST} or '
                                  f'{AT_LEAST}')
            for ratio, limit in _items(path, ratios, f'{device}.{kind}'):
                if isinstance(limit, bool) or not isinstance(limit, (int, float)):
                    raise BoundsError(f'{path}: {device}.{kind}.{ratio} is {limit!r}, expected '
                                      f'a number')
                bounds.append(Bound(device, ratio, kind, float(limit)))
    return tuple(bounds)


def _items(path: Path, values: Any, what: str) -> list[tuple[str, Any]]:
    if not isinstance(values, dict) or not values:
        raise BoundsError(f'{path}: {what}: expected names with values, found {values!r}')
    return [(str(name), value) for name, value in values.items()]


def find_excesses(result: Mapping[str, Any], bounds: tuple[Bound, ...]) -> list[Excess]:
    """The bounds that a result breaks. A ratio that was not measured breaks none.

    With one thread the ratio of processor time may keep to a bound instead of that of the clock:
    what it leaves out are the other programs of a busy machine. (With more threads it would also
    leave out threads that wait for each other.)

    Raises:
        BoundsError: nothing that was measured has a bound, or a bound is on no ratio there is.
    """
    excesses, checked = [], 0
    for bound in bounds:
        if bound.device not in result['devices']:
            continue
        measured = result['devices'][bound.device]
        ratios = measured['ratios']
        if bound.ratio not in ratios:
            raise BoundsError(f'{bound.ratio!r} is no ratio; bounds can be on '
                              f'{", ".join(ratios)}')
        value = ratios[bound.ratio]
        if value is None:
            continue
        checked += 1
        of_cpu = measured.get('cpu_time_ratios', {}).get(bound.ratio)
        if of_cpu is not None and result['threads']['torch'] == 1 and bound.holds(of_cpu):
            continue
        if not bound.holds(value):
            excesses.append(Excess(bound, value))
    if not checked:
        raise BoundsError('no ratio that was measured has a bound; there is nothing to guard')
    return excesses


def find_unchecked(result: Mapping[str, Any], bounds: tuple[Bound, ...]) -> list[Bound]:
    """The bounds on ratios of measured devices that were not measured themselves."""
    return [bound for bound in bounds if bound.device in result['devices']
            and result['devices'][bound.device]['ratios'].get(bound.ratio) is None]


def guard(measure: Callable[[], Mapping[str, Any]], bounds: tuple[Bound, ...], attempts: int = 3,
          ) -> tuple[Mapping[str, Any], list[Excess]]:
    """Measure until no bound is broken, or so often.

    Args:
        measure: Makes a result.
        bounds: To keep.
        attempts: A bound counts as broken only if it was broken each time.

    Returns:
        The last result, and the bounds broken every time with the value nearest to its bound.
    """
    nearest: dict[Bound, Excess] = {}
    for attempt in range(attempts):
        result = measure()
        found = {excess.bound: excess for excess in find_excesses(result, bounds)}
        if attempt == 0:
            nearest = found
        nearest = {bound: min(before, found[bound],
                              key=lambda excess: abs(excess.value - excess.bound.limit))
                   for bound, before in nearest.items() if bound in found}
        if not nearest:
            break
    return result, list(nearest.values())
