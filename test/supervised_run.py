# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Fixes and refusals in a row, and what supervision makes of them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from implicit_relocalizer.localization import supervision
from implicit_relocalizer.localization.agreement import (
    Fix,
)
from implicit_relocalizer.localization.belief import Belief, Cause, Rules, State
from implicit_relocalizer.localization.estimate import (
    PoseEstimate,
)
from implicit_relocalizer.localization.rejection import NoPoseError, Reason

RULES = Rules()
REFUSED = NoPoseError(Reason.CONFIDENCE, 'too dark')
PERIOD_S = 0.1


def transform(x_m: float = 0.0, yaw_deg: float = 0.0, y_m: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('z', yaw_deg, degrees=True).as_matrix()
    T[:2, 3] = x_m, y_m
    return T


def fix(time_s: float, T_map_camera: np.ndarray, T_odom_camera: np.ndarray | None = None) -> Fix:
    estimate = PoseEstimate(T_map_camera[:3, :3], T_map_camera[:3, 3], np.eye(6) * 1e-4, 0.8, 0.6)
    return Fix(round(time_s * 1e9), estimate, T_odom_camera)


class Run:
    """A belief through time, with everything that was decided."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.now_s = 100.0
        self.decisions = [supervision.activate(rules, self.now_s)]

    @property
    def belief(self) -> Belief:
        return self.decisions[-1].belief

    def see(self, T_map_camera: np.ndarray | None, T_odom_camera: np.ndarray | None = None,
            after_s: float = PERIOD_S) -> bool:
        """One image, answered with a pose or refused; whether a pose left."""
        self.wait(after_s)
        self.decisions.append(supervision.hear_image(self.belief, self.now_s))
        if T_map_camera is None:
            decision = supervision.observe_refusal(self.rules, self.belief, REFUSED)
        else:
            decision = supervision.observe_fix(
                self.rules, self.belief, fix(self.now_s, T_map_camera, T_odom_camera), self.now_s)
        self.decisions.append(decision)
        return decision.accepted is not None

    def wait(self, duration_s: float, tick_s: float = 0.05) -> None:
        """Let time pass as the node's timer does."""
        end_s = self.now_s + duration_s
        while self.now_s < end_s - 1e-9:
            self.now_s = min(end_s, self.now_s + tick_s)
            self.decisions.append(
                supervision.pass_time(self.rules, self.belief, self.now_s))

    def request(self) -> None:
        self.decisions.append(supervision.request(self.rules, self.belief, self.now_s))

    @property
    def story(self) -> list[tuple[State, Cause]]:
        return [(transition.after, transition.cause) for decision in self.decisions
                for transition in decision.transitions]

    @property
    def answers(self) -> list[tuple[bool, str]]:
        return [(d.answer.success, d.answer.text) for d in self.decisions if d.answer]
