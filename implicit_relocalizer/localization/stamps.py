# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps of messages: as numbers, and those that rule an image out."""

from __future__ import annotations

from typing import Any

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

NS_PER_S = 1_000_000_000


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
