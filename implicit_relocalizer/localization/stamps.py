# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps of messages: as numbers, and those that rule an image out."""

from __future__ import annotations

from typing import Any

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

NS_PER_S = 1_000_000_000
# Stamps jitter and come in no strict order, but not by this much: the recording or the simulation
# began again.
JUMP_BACK_NS = 500_000_000


def stamp_to_ns(header: Any) -> int:
    """The stamp of a std_msgs/Header as nanoseconds."""
    return int(header.stamp.sec) * NS_PER_S + int(header.stamp.nanosec)


def find_stamp_refusal(stamp_ns: int, last_ns: int | None, newest_ns: int) -> NoPoseError | None:
    """Why an image's stamp rules it out, if it does.

    Args:
        stamp_ns: Of the image.
        last_ns: The newest stamp before it, None for the first image.
        newest_ns: The newest stamp with it; below `last_ns` if time jumped back.
    """
    if last_ns is None or stamp_ns > last_ns or newest_ns < last_ns:
        return None
    seconds = f'{stamp_ns // NS_PER_S}.{stamp_ns % NS_PER_S:09d}'
    if stamp_ns == last_ns:
        return NoPoseError(
            Reason.DUPLICATE, f'the stamp {seconds} came already; if all images have it, the '
                              f'camera is frozen or its driver sets no stamps')
    return NoPoseError(Reason.OUT_OF_ORDER, f'the stamp {seconds} is older than that of an image '
                                            f'before')


class TransformStamps:
    """Notices that the stamps of moving transforms went back.

    Images tell of jumps in time too, but on another topic, in no order with this one.
    """

    def __init__(self) -> None:
        self._newest_ns: dict[str, int] = {}

    def go_back(self, transforms: Any) -> bool:
        """Take in a message's geometry_msgs/TransformStamped; whether any is of a time before.

        Then nothing is known any more but these.
        """
        stamps_ns = {moved.child_frame_id: stamp_to_ns(moved.header) for moved in transforms}
        went_back = any(stamp_ns < self._newest_ns.get(child, stamp_ns) - JUMP_BACK_NS
                        for child, stamp_ns in stamps_ns.items())
        if went_back:
            self._newest_ns.clear()
        for child, stamp_ns in stamps_ns.items():
            self._newest_ns[child] = max(stamp_ns, self._newest_ns.get(child, stamp_ns))
        return went_back
