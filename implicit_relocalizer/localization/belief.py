# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the node believes, what it goes by, and what one event makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from implicit_relocalizer.localization.agreement import AgreementLimits, Fix
from implicit_relocalizer.localization.rejection import NoPoseError


class Mode(str, Enum):
    """When images are looked at."""

    STARTUP = 'startup'  # until a first pose is agreed on
    CONTINUOUS = 'continuous'
    ON_REQUEST = 'on_request'  # from a request until a pose is agreed on, or its time is up


class State(str, Enum):
    """Whether the node knows where the robot is."""

    UNCONFIGURED = 'UNCONFIGURED'  # not active
    SEARCHING = 'SEARCHING'
    LOCALIZED = 'LOCALIZED'
    LOST = 'LOST'


class Cause(str, Enum):
    """Why the state changed; stable, for programs as much as for people."""

    STARTED = 'not_active'
    ACTIVATED = 'activated'
    WAITING = 'waiting_for_request'
    REQUESTED = 'requested'
    AGREED = 'fixes_agree'
    NO_FIX = 'no_fix'
    NO_IMAGES = 'no_images'
    CONTRADICTED = 'contradicted'
    TIME_JUMP = 'time_jump'
    TIMEOUT = 'request_timeout'
    DEACTIVATED = 'deactivated'


@dataclass(frozen=True)
class Rules:
    """What decisions go by; see the node's parameters of the same names.

    Attributes:
        mode: When images are looked at.
        limits: How near fixes of one robot have to be.
        consensus_fixes: So many fixes have to agree; 1 lets every fix stand by itself.
        consensus_window_s: Between the stamps of the first and the last of them.
        lost_after_s: Without a fix for so long, and over three images, the robot is lost.
        request_timeout_s: A request is answered with a failure after so long.
    """

    mode: Mode = Mode.CONTINUOUS
    limits: AgreementLimits = field(default_factory=AgreementLimits)
    consensus_fixes: int = 3
    consensus_window_s: float = 2.0
    lost_after_s: float = 0.7
    request_timeout_s: float = 5.0


@dataclass(frozen=True, eq=False)
class Belief:
    """Everything that decisions remember.

    Attributes:
        state: Where we are.
        cause: Why.
        candidates: Confident fixes of the last consensus window that were not accepted, oldest
            first.
        accepted: The fix that was accepted last, since the search began.
        accepted_s: When, on the caller's clock.
        refused: Images without an accepted fix since then, or since the search began.
        last_refusal: The latest of them.
        image_s: When an image was last heard of, on the caller's clock.
        image_interval_s: Time between the last two.
        deadline_s: When a request has to be answered; None without one.
    """

    state: State = State.UNCONFIGURED
    cause: Cause = Cause.STARTED
    candidates: tuple[Fix, ...] = ()
    accepted: Fix | None = None
    accepted_s: float = 0.0
    refused: int = 0
    last_refusal: NoPoseError | None = None
    image_s: float = 0.0
    image_interval_s: float = 0.0
    deadline_s: float | None = None

    def wants_images(self, rules: Rules) -> bool:
        """Whether the next image should be looked at."""
        if self.state is State.UNCONFIGURED:
            return False
        return rules.mode is Mode.CONTINUOUS or self.state is State.SEARCHING


@dataclass(frozen=True, eq=False)
class Transition:
    """A change of state, for the log."""

    before: State
    after: State
    cause: Cause
    text: str

    def __str__(self) -> str:
        return f'{self.before.value} -> {self.after.value}: {self.cause.value} ({self.text})'


@dataclass(frozen=True)
class RequestAnswer:
    """What those who asked for a relocalization are told."""

    success: bool
    text: str


@dataclass(frozen=True, eq=False)
class Decision:
    """What follows from one event.

    Attributes:
        belief: From now on.
        transitions: In order; usually none or one.
        accepted: A fix that may leave the node.
        refusal: Why this image's fix may not.
        answer: To a request under way.
    """

    belief: Belief
    transitions: tuple[Transition, ...] = ()
    accepted: Fix | None = None
    refusal: NoPoseError | None = None
    answer: RequestAnswer | None = None

    @property
    def announces(self) -> bool:
        """Whether the robot's place has just become known."""
        return any(transition.after is State.LOCALIZED for transition in self.transitions)
