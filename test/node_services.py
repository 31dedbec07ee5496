# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The services of a node, and those who call them: a lifecycle manager, an operator."""

from __future__ import annotations

import time
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from node_peer import Peer
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import Empty, Trigger

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
SHUTDOWN = {'unconfigured': Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
            'inactive': Transition.TRANSITION_INACTIVE_SHUTDOWN,
            'active': Transition.TRANSITION_ACTIVE_SHUTDOWN}
_SERVICES = {
    'relocalizer/change_state': ChangeState, 'relocalizer/get_state': GetState,
    'relocalizer/get_available_transitions': GetAvailableTransitions,
    'relocalizer/set_parameters': SetParameters,
    'relocalizer/set_parameters_atomically': SetParametersAtomically,
    'relocalizer/get_parameters': GetParameters,
    'relocalizer/relocalize': Trigger, 'reinitialize_global_localization': Empty}
_GOALS = {CONFIGURE: 'inactive', ACTIVATE: 'active', DEACTIVATE: 'inactive',
          CLEANUP: 'unconfigured', **dict.fromkeys(SHUTDOWN.values(), 'finalized')}
ASK_AGAIN_S = 5.0


class NodeServices(Peer):
    """A robot whose manager speaks to the node in its namespace."""

    def __init__(self, namespace: str, context: rclpy.Context) -> None:
        super().__init__(namespace, context, connect=False)
        self._clients: dict[str, Client] = {
            name: self.node.create_client(kind, name)
            for name, kind in _SERVICES.items()}

    def await_services(self) -> None:
        """Wait until every service of the node is there."""
        self.wait_until(lambda: all(client.service_is_ready()
                                    for client in self._clients.values()))
        self.spin(0.2)  # the way back may still be matching

    def change(self, transition: int) -> bool:
        """Ask for a transition; whether it was made."""
        request = ChangeState.Request(transition=Transition(id=transition))
        asked = self.ask('relocalizer/change_state', request)
        if self.is_answered_soon(asked):
            return asked.result().success
        # Not to be asked twice if only the answer was lost, or is late on a busy machine.
        while (state := self.state()) not in _GOALS.values():
            self.spin(0.1)
        return (state == _GOALS[transition]
                or self.call('relocalizer/change_state', request).success)

    def state(self) -> str:
        """Label of the lifecycle state."""
        return self.call('relocalizer/get_state', GetState.Request()).current_state.label

    def set(self, **parameters: Any) -> list[SetParametersResult]:
        """Set parameters one by one."""
        return self.call('relocalizer/set_parameters', SetParameters.Request(
            parameters=_messages(parameters))).results

    def set_together(self, **parameters: Any) -> SetParametersResult:
        """Set parameters, all or none."""
        return self.call('relocalizer/set_parameters_atomically',
                         SetParametersAtomically.Request(parameters=_messages(parameters))).result

    def get(self, name: str) -> Any:
        """The value of a parameter."""
        value = self.call('relocalizer/get_parameters',
                          GetParameters.Request(names=[name])).values[0]
        return rclpy.parameter.parameter_value_to_python(value)

    def ask(self, service: str, request: Any) -> Future:
        """Call a service, not waiting for its answer."""
        return self._clients[service].call_async(request)

    def call(self, service: str, request: Any) -> Any:
        """Call a service and wait.

        Either way is lost now and then where the other side of a new connection is not there yet
        ("client will not receive response" in the node's log). A caller would ask again.
        """
        future = self.ask(service, request)
        if not self.is_answered_soon(future):
            future = self.ask(service, request)
            self.wait_until(future.done)
        return future.result()

    def is_answered_soon(self, future: Future) -> bool:
        """Wait for an answer, but not as long as if it were lost."""
        end_s = time.monotonic() + ASK_AGAIN_S
        while not future.done() and time.monotonic() < end_s:
            self.spin(0.01)
        return future.done()

    def relocalize(self) -> Future:
        """Ask where the robot is."""
        return self.ask('relocalizer/relocalize', Trigger.Request())


def _messages(parameters: dict[str, Any]) -> list[Any]:
    return [Parameter(name, value=value).to_parameter_msg()
            for name, value in parameters.items()]
