# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's states over a recording, from its diagnostics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from implicit_relocalizer.data.readers.bag_storage import Bag
from implicit_relocalizer.data.readers.bag_tf import stamp_to_ns
from implicit_relocalizer.data.recorded_run import StateChange

DIAGNOSTICS_TYPE = 'diagnostic_msgs/msg/DiagnosticArray'
# What the node calls its status, behind its own name.
_STATUS_ENDING = ': localization'


def read_states(bag: Bag, node_name: str) -> tuple[str | None, tuple[StateChange, ...]]:
    """The changes of state that a node's diagnostics tell, in the order of recording.

    Args:
        bag: The recording.
        node_name: Whose; another is taken where it is the only one.

    Returns:
        The topic, None where no node told its states, and the changes.
    """
    changes: dict[str, list[StateChange]] = defaultdict(list)
    topics: dict[str, str] = {}
    for topic_name, name, report in _reports(bag):
        topics[name] = topic_name
        _add(changes[name], report.stamp_ns, report.values)
    name = _choose(changes, node_name)
    return topics.get(name), tuple(changes.get(name, ()))


def read_reports(bag: Bag, node_name: str) -> tuple[NodeReport, ...]:
    """Everything that a node's diagnostics said of its localization, by stamp."""
    found: dict[str, list[NodeReport]] = defaultdict(list)
    for _, name, report in _reports(bag):
        found[name].append(report)
    reports = found.get(_choose(found, node_name), [])
    return tuple(sorted(reports, key=lambda report: report.stamp_ns))


class NodeReport(NamedTuple):
    """What one diagnostic message said: `values` as `ros.diagnostics` names them."""

    stamp_ns: int
    values: Mapping[str, str]

    def count(self, key: str) -> int:
        """A number among the values; 0 where there is none."""
        text = self.values.get(key, '')
        return int(text) if text.isdecimal() else 0


def _reports(bag: Bag) -> Iterator[tuple[str, str, NodeReport]]:
    """Topic, node and report, of all nodes."""
    for topic, time_ns, message in bag.timed_messages(bag.of_types([DIAGNOSTICS_TYPE])):
        if message is None:
            continue
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if status.name.endswith(_STATUS_ENDING) and 'state' in values:
                yield (topic.name, status.name.removesuffix(_STATUS_ENDING).strip('/'),
                       NodeReport(stamp_to_ns(message.header.stamp) or time_ns, values))


def _choose(found: Mapping[str, object], node_name: str) -> str:
    """The node of this name; another one where it is the only one."""
    name = node_name.strip('/')
    return next(iter(found)) if name not in found and len(found) == 1 else name


def _add(changes: list[StateChange], since_ns: int, values: Mapping[str, Any]) -> None:
    change = StateChange(since_ns, values['state'], values.get('state_reason', ''),
                         values.get('last_refusal_text', ''))
    if not changes or (changes[-1].state, changes[-1].reason) != (change.state, change.reason):
        changes.append(change)
