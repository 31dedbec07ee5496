# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node's states over a recording, from its diagnostics."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

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
    for topic, time_ns, message in bag.timed_messages(bag.of_types([DIAGNOSTICS_TYPE])):
        if message is None:
            continue
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if not status.name.endswith(_STATUS_ENDING) or 'state' not in values:
                continue
            name = status.name.removesuffix(_STATUS_ENDING).strip('/')
            topics[name] = topic.name
            _add(changes[name], stamp_to_ns(message.header.stamp) or time_ns, values)
    name = node_name.strip('/')
    if name not in changes and len(changes) == 1:
        (name,) = changes
    return topics.get(name), tuple(changes.get(name, ()))


def _add(changes: list[StateChange], since_ns: int, values: dict[str, Any]) -> None:
    change = StateChange(since_ns, values['state'], values.get('state_reason', ''),
                         values.get('last_refusal_text', ''))
    if not changes or (changes[-1].state, changes[-1].reason) != (change.state, change.reason):
        changes.append(change)
