# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The program `relocalizer`: start the node, spin it, end it in good order."""

from __future__ import annotations

import gc
import signal
import sys
import traceback

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.logging import get_logger

from implicit_relocalizer.localization.parameters import ParameterError
from implicit_relocalizer.ros.lifecycle_node import RelocalizerNode

_SPIN_LIMIT_S = 0.5


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; the exit code is 1 if it cannot go on."""
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # rcl's, for arguments that it cannot parse
        get_logger('relocalizer').fatal(str(error))
        return 1
    node = None
    started = True
    try:
        node = RelocalizerNode()
        # Told to end while it starts, it did not fail.
        started = not node.settings.autostart or _autostart(node) or not rclpy.ok()
        if started:
            _spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterError, ParameterException) as error:
        get_logger('relocalizer').fatal(str(error))
    except Exception:
        # SIGTERM during the start ends the context, which then fails to make publishers.
        if rclpy.ok():
            raise
    finally:
        _end(node)
    return 0 if started and node is not None and node.fault is None else 1


def _autostart(node: RelocalizerNode) -> bool:
    return (node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            and node.trigger_activate() == TransitionCallbackReturn.SUCCESS)


def _spin(node: RelocalizerNode) -> None:
    # Not rclpy.spin: its wait has no limit, and about one SIGTERM in twenty does not wake it
    # (rclpy 9.1 with Fast DDS 3.2), so that the program would not end.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while rclpy.ok():
        executor.spin_once(_SPIN_LIMIT_S)


def _end(node: RelocalizerNode | None) -> None:
    # A second Ctrl-C shall not interrupt the orderly end that the first one began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if node is not None:
        node.close()
        node.destroy_node()
        # Not to /rosout any more: its publisher went with the node.
        logger = get_logger('implicit_relocalizer')
        if node.was_configured:
            logger.info(node.statistics.summary())
        if node.fault is not None:
            logger.fatal('the inference thread ended: '
                         + ''.join(traceback.format_exception(node.fault)))
    rclpy.try_shutdown()
    # The interpreter's last collection would walk through all of torch: a second or more.
    gc.freeze()


if __name__ == '__main__':
    sys.exit(main())
