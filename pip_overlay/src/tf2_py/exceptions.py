# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""tf2's exceptions, with tf2's inheritance: all derive directly from TransformException."""


class TransformException(Exception):  # noqa: N818 tf2's name
    """Any failure of tf2."""


class ConnectivityException(TransformException):
    """Both frames are known, but in trees that are not connected."""


class LookupException(TransformException):
    """A frame is not known, or the tree contains a loop."""


class ExtrapolationException(TransformException):
    """The requested time lies outside of what the buffer holds for a link on the way."""


class InvalidArgumentException(TransformException):
    """A frame name is empty or begins with a slash."""


class TimeoutException(TransformException):
    """A transform did not arrive in time."""
