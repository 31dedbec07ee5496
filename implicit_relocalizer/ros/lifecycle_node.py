# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The node `relocalizer`: a managed node that says where the camera is once it is sure."""

from __future__ import annotations

import time
import traceback

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import Empty, Trigger

from implicit_relocalizer.localization.belief import Belief, Cause, RequestAnswer
from implicit_relocalizer.localization.diagnostics import DIAGNOSTICS_PERIOD_S, describe_status
from implicit_relocalizer.localization.model_runner import (
    ModelRunner,
    choose_device,
    describe_accuracy,
    limit_threads,
    release_memory,
)
from implicit_relocalizer.localization.parameters import ParameterError, Parameters
from implicit_relocalizer.localization.relocalization import TICK_S
from implicit_relocalizer.localization.statistics import RunStatistics
from implicit_relocalizer.network.model_file import ModelFileError
from implicit_relocalizer.ros.active_relocalizer import ActiveRelocalizer
from implicit_relocalizer.ros.diagnostics import diagnostic_msg
from implicit_relocalizer.ros.parameters import (
    declare_parameters,
    judge_changes,
    read_parameters,
)

_SUMMARY_PERIOD_S = 60.0


class RelocalizerNode(LifecycleNode):
    """Lifecycle, parameters, services and diagnostics; the work is ActiveRelocalizer's.

    Attributes:
        statistics: What became of the images, since the node was configured.
        fault: What ended the inference thread, which ends the program.
    """

    def __init__(self) -> None:
        """Declare the parameters.

        Raises:
            ParameterException: a value is refused.
        """
        super().__init__('relocalizer')
        self.statistics = RunStatistics()
        self.fault: Exception | None = None
        self._runner: ModelRunner | None = None
        self._active: ActiveRelocalizer | None = None
        self._belief = Belief()  # while not active
        self._waiting: list[Future] = []
        self._next_diagnostics_s = 0.0
        self._next_summary_s = 0.0
        self.add_on_set_parameters_callback(self._on_set_parameters)
        declare_parameters(self)
        self._settings = read_parameters(self)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Its callback waits for the attempt, and must not hold up the others meanwhile.
        self.create_service(Trigger, '~/relocalize', self._on_relocalize,
                            callback_group=ReentrantCallbackGroup())
        self.create_service(Empty, 'reinitialize_global_localization', self._on_reinitialize)
        # A steady clock: while simulated time stands still, requests still have to be answered.
        self.create_timer(TICK_S, self._on_tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def settings(self) -> Parameters:
        """The parameters."""
        return self._settings

    @property
    def was_configured(self) -> bool:
        """Whether a model was ever loaded."""
        return self._runner is not None

    def load(self) -> None:
        """Load the model and warm it up.

        Raises:
            ModelFileError, ParameterError: the model cannot be used here.
        """
        settings = self._settings
        if not self.get_parameter('model').value:
            raise ParameterError("parameter 'model' is not set; give the path of a model file: "
                                 '--ros-args -p model:=/path/to/model.pt')
        limit_threads(settings.num_threads)
        runner = ModelRunner(settings.model, choose_device(settings.device),
                             settings.cuda_graphs)
        self.get_logger().info(
            f"model {runner.path} of scene '{runner.metadata.scene}' on {runner.device}; "
            f'{describe_accuracy(runner.metadata)}')
        durations_s = runner.warm_up()
        self.get_logger().info(
            f'warmed up by {len(durations_s)} calls, the last of {1e3 * durations_s[-1]:.0f} ms')
        self._runner = runner
        self.statistics = RunStatistics()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; a failure has a reason, and can be repaired and tried again."""
        try:
            self.load()
        except (ModelFileError, ParameterError) as error:
            # Alone, this is the end; a manager may repair what is wrong and try again.
            if self._settings.autostart:
                self.get_logger().fatal(f'not configured: {error}')
            else:
                self.get_logger().error(f'not configured: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.get_logger().error(f'not configured, a fault of this program: {error!r}\n'
                                    f'{traceback.format_exc()}')
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to listen."""
        assert self._runner is not None
        try:
            self._active = ActiveRelocalizer(
                self, self._runner, self._settings, self.statistics, self._on_change,
                self._answer_requests, self._on_fault)
        except Exception as error:
            if self.context.ok():  # else the program was told to end meanwhile
                self.get_logger().error(f'not activated, a fault of this program: {error!r}\n'
                                        f'{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR
        self._next_summary_s = time.monotonic() + _SUMMARY_PERIOD_S
        self._publish_diagnostics()
        self.get_logger().info(f'ready: {self._active.topics}')
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End all that activation began."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go, and its memory."""
        self._runner = None
        release_memory()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from any state."""
        self.close()
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to the beginning."""
        return self.on_shutdown(state)

    def close(self) -> None:
        """End the work, if there is any; an inference under way is waited for."""
        active, self._active = self._active, None
        if active is not None:
            active.close()
            self._belief = active.belief
            self._publish_diagnostics()

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        current = {change.name: self.get_parameter(change.name).value for change in changes
                   if self.has_parameter(change.name)}
        return judge_changes(changes, current, is_configured=self._runner is not None)

    def _on_parameters_set(self, _: list[Parameter]) -> None:
        self._settings = read_parameters(self)
        if self._active is not None:
            self._active.use(self._settings)

    async def _on_relocalize(self, _: Trigger.Request,
                             response: Trigger.Response) -> Trigger.Response:
        answered: Future = Future(executor=self.executor)
        self._waiting.append(answered)
        self._request()
        answer = await answered
        assert answer is not None
        response.success, response.message = answer.success, answer.text
        return response

    def _on_reinitialize(self, _: Empty.Request, response: Empty.Response) -> Empty.Response:
        self._request()
        return response

    def _request(self) -> None:
        if self._active is None:
            self._answer_requests(RequestAnswer(
                False, f'{Cause.STARTED.value}: activate the node first'))
        else:
            self._active.request()

    def _answer_requests(self, answer: RequestAnswer) -> None:
        waiting, self._waiting = self._waiting, []
        if not self.context.ok():
            return
        for future in waiting:
            future.set_result(answer)

    def _on_tick(self) -> None:
        now_s = time.monotonic()
        if self._active is not None:
            self._active.pass_time()
        if now_s >= self._next_diagnostics_s:
            self._publish_diagnostics()
        if self._active is not None and now_s >= self._next_summary_s:
            self._next_summary_s = now_s + _SUMMARY_PERIOD_S
            self.get_logger().info(self.statistics.summary())

    def _on_change(self) -> None:
        if self._active is not None:  # neither while it is made nor while it ends
            self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        if not self.context.ok():
            return  # The program was told to end, and publishers refuse.
        now_s = time.monotonic()
        self._next_diagnostics_s = now_s + DIAGNOSTICS_PERIOD_S
        belief = self._active.belief if self._active is not None else self._belief
        self._diagnostics.publish(diagnostic_msg(self.get_clock().now().to_msg(), describe_status(
            self.get_fully_qualified_name(),
            self._runner.metadata.scene if self._runner is not None else '',
            self._settings.mode, belief, self.statistics, now_s)))

    def _on_fault(self, error: Exception) -> None:
        # Without its thread the node would live on, deaf: better end loudly.
        self.fault = error
        self.context.try_shutdown()
