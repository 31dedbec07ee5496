# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node in its process, led through its life by a robot's services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_nursery import Nursery
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from robot_simulation import SimulatedRobot
from std_srvs.srv import Empty, Trigger

CONFIGURE_LIMIT_S = 120.0  # on a busy machine


class ManagedNode:
    """A relocalizer without autostart; while it is called, the robot goes on."""

    def __init__(self, nursery: Nursery, robot: SimulatedRobot, model: Path) -> None:
        self._robot = robot
        self.process = nursery.start([
            '--ros-args', '-r', f'__ns:={robot.namespace}', '-r', '/tf:=tf', '-r',
            '/tf_static:=tf_static', '-p', 'autostart:=false', '-p', f'model:={model}'])
        self._clients: dict[str, Any] = {
            name: robot.node.create_client(kind, name) for name, kind in (
                ('relocalizer/change_state', ChangeState), ('relocalizer/get_state', GetState),
                ('relocalizer/set_parameters', SetParameters),
                ('relocalizer/relocalize', Trigger), ('reinitialize_global_localization', Empty))}
        for client in self._clients.values():
            robot.go_on(CONFIGURE_LIMIT_S, client.service_is_ready)
        robot.go_on(0.5)  # the way back may still be matching, and answers be lost

    def begin(self, **parameters: Any) -> None:
        """Make it active with these parameters, whatever it was before."""
        if self.state() == State.PRIMARY_STATE_ACTIVE:
            self.deactivate()
        if self.state() == State.PRIMARY_STATE_INACTIVE:
            self._change(Transition.TRANSITION_CLEANUP)
        self.set(**parameters)
        self._change(Transition.TRANSITION_CONFIGURE)
        self.activate()

    def activate(self) -> None:
        """Let it listen; returns when both sides have found each other."""
        self._change(Transition.TRANSITION_ACTIVATE)
        self._robot.go_on(30.0, self._robot.is_connected)

    def deactivate(self) -> None:
        """Let it forget; nothing of its time before is heard any more afterwards."""
        self._change(Transition.TRANSITION_DEACTIVATE)
        self._robot.go_on(30.0, self._robot.is_alone)

    def set(self, **parameters: Any) -> None:
        """Set parameters; all have to be allowed now."""
        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg()
            for name, value in parameters.items()])
        for result in self._call('relocalizer/set_parameters', request).results:
            assert result.successful, result.reason

    def reinitialize(self) -> None:
        """Ask it to search anew, as Nav2's behaviour trees do."""
        self._call('reinitialize_global_localization', Empty.Request())

    def state(self) -> int:
        """A primary state of lifecycle_msgs."""
        return self._call('relocalizer/get_state', GetState.Request()).current_state.id

    def _change(self, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self._call('relocalizer/change_state', request).success, self.process.output()

    def _call(self, service: str, request: Any) -> Any:
        future = self._clients[service].call_async(request)
        self._robot.go_on(CONFIGURE_LIMIT_S, future.done)
        return future.result()
