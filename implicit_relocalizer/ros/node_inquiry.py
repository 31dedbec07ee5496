# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Ask a running relocalizer, from outside, how it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from implicit_relocalizer.localization.bringup_observation import (
    ASKED_PARAMETERS,
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    Relocalizer,
)

_TOPIC_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE, CAMERA_INFO_TYPE)
_STATE_PERIOD_S = 1.0


class NodeInquiry:
    """Sends each question once its service is there, the state's again and again.

    Attributes:
        diagnostics: The node's last values on /diagnostics, put here by whoever hears them.
    """

    def __init__(self, node: Node, target: str) -> None:
        """
        Args:
            node: Whose executor brings the answers.
            target: Fully qualified name of the node that is asked.
        """
        self.diagnostics: dict[str, str] = {}
        self._node = node
        self._target = target
        self._lifecycle = ''
        self._parameters: dict[str, Any] = {}
        self._state_client: Client = node.create_client(GetState, f'{target}/get_state')
        self._parameter_client: Client = node.create_client(
            GetParameters, f'{target}/get_parameters')
        self._state_asked_s = -_STATE_PERIOD_S
        # One by one: a node answers none of them where it lacks one.
        self._unasked = list(ASKED_PARAMETERS)

    def ask(self) -> None:
        """Send what can be sent now; returns at once."""
        now_s = time.monotonic()
        if (now_s - self._state_asked_s >= _STATE_PERIOD_S
                and self._state_client.service_is_ready()):
            self._state_asked_s = now_s
            _send(self._state_client, GetState.Request(), self._on_state)
        while self._unasked and self._parameter_client.service_is_ready():
            name = self._unasked.pop()
            _send(self._parameter_client, GetParameters.Request(names=[name]),
                  self._make_keeper(name))

    def observe(self) -> Relocalizer:
        """What is known by now."""
        count = sum(f'{namespace.rstrip("/")}/{name}' == self._target
                    for name, namespace in self._node.get_node_names_and_namespaces())
        return Relocalizer(self._target, count, self._lifecycle, self._parameters,
                           self.diagnostics, tuple(self._subscriptions()) if count else ())

    def _subscriptions(self) -> list[tuple[str, str]]:
        namespace, _, name = self._target.rpartition('/')
        try:
            found = self._node.get_subscriber_names_and_types_by_node(name, namespace or '/')
        except RuntimeError:  # it left between the two questions
            return []
        return [(topic, kind) for topic, kinds in found for kind in kinds if kind in _TOPIC_TYPES]

    def _on_state(self, response: GetState.Response) -> None:
        self._lifecycle = response.current_state.label

    def _make_keeper(self, name: str) -> Callable[[Any], None]:
        def keep(response: GetParameters.Response) -> None:
            if response.values:
                value = parameter_value_to_python(response.values[0])
                if value is not None:
                    self._parameters[name] = value

        return keep


def _send(client: Client, request: Any, keep: Callable[[Any], None]) -> None:
    client.call_async(request).add_done_callback(lambda done: keep(done.result()))
