# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS 2 recording on disk: its topics and its messages, without a ROS installation."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_relocalizer.data.frames import SceneError

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

logger = logging.getLogger(__name__)

STORAGE_SUFFIXES = ('.mcap', '.db3')
METADATA_NAME = 'metadata.yaml'


@dataclass(frozen=True)
class Topic:
    """A topic of a recording: `type_name` as in `sensor_msgs/msg/Image`, messages recorded."""

    name: str
    type_name: str
    count: int

    def __str__(self) -> str:
        return f'{self.name} ({self.type_name}, {self.count} messages)'


class Bag:
    """An open recording; `open_bag` makes one."""

    def __init__(self, path: Path, reader: Reader, typestore: Typestore) -> None:
        self.path = path
        self._reader = reader
        self._typestore = typestore
        counts: dict[tuple[str, str], int] = {}
        for connection in reader.connections:
            key = connection.topic, connection.msgtype
            counts[key] = counts.get(key, 0) + connection.msgcount
        self.topics = tuple(Topic(*key, count) for key, count in sorted(counts.items()))

    @property
    def name(self) -> str:
        """Of the recording."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    def of_types(self, type_names: Collection[str]) -> list[Topic]:
        """Topics of certain types that hold messages."""
        return [t for t in self.topics if t.type_name in type_names and t.count > 0]

    def messages(self, topics: Collection[Topic]) -> Iterator[tuple[Topic, Any | None]]:
        """The messages of some topics in the order of recording; None for a damaged one.

        Raises:
            SceneError: the file is damaged beyond single messages.
        """
        for topic, _, message in self.timed_messages(topics):
            yield topic, message

    def timed_messages(self, topics: Collection[Topic]) -> Iterator[tuple[Topic, int, Any | None]]:
        """As `messages`, with the time of recording in nanoseconds.

        Raises:
            SceneError: the file is damaged beyond single messages.
        """
        for topic, time_ns, cdr in self.serialized_messages(topics):
            yield topic, time_ns, self.deserialize(topic, cdr)

    def serialized_messages(self, topics: Collection[Topic],
                            ) -> Iterator[tuple[Topic, int, bytes]]:
        """As `timed_messages`, but each message as the CDR bytes that were recorded.

        Raises:
            SceneError: the file is damaged beyond single messages.
        """
        wanted = {(topic.name, topic.type_name): topic for topic in topics}
        connections = [c for c in self._reader.connections if (c.topic, c.msgtype) in wanted]
        read = 0
        with _explain_damage(self.path):
            for connection, time_ns, cdr in (
                    self._reader.messages(connections) if connections else ()):
                read += 1
                yield wanted[connection.topic, connection.msgtype], time_ns, cdr
            self._check_count(topics, read)

    def deserialize(self, topic: Topic, cdr: bytes) -> Any | None:
        """The message of some bytes; None where it is damaged."""
        return self._deserialize(cdr, topic.type_name)

    def connection_of(self, topic: Topic) -> Connection:
        """How a topic was recorded: definition of its type, quality of service."""
        return next(c for c in self._reader.connections
                    if (c.topic, c.msgtype) == (topic.name, topic.type_name))

    def first(self, topic: Topic) -> Any:
        """The first undamaged message of a topic.

        Raises:
            SceneError: there is none.
        """
        for _, message in self.messages([topic]):
            if message is not None:
                return message
        raise SceneError(f'{self.path}: not one message of {topic} can be read')

    def _check_count(self, topics: Collection[Topic], read: int) -> None:
        """Notice messages that the library passed over in silence."""
        announced, names = sum(t.count for t in topics), ', '.join(t.name for t in topics)
        if announced and not read:
            raise ValueError(f'none of {announced} messages on {names} can be read')
        if read < announced:
            logger.warning('%s: announces %d messages on %s, only %d could be read', self.path,
                           announced, names, read)

    def _deserialize(self, cdr: bytes, type_name: str) -> Any | None:
        try:
            return self._typestore.deserialize_cdr(cdr, type_name)
        except Exception as error:  # whatever random bytes provoke in a generated parser
            logger.debug('%s: a message of type %s is damaged (%s)', self.path, type_name, error)
            return None


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a recording: a folder with metadata.yaml, or one .mcap or .db3 file.

    Raises:
        SceneError: it is missing, of ROS 1, damaged, or cut off.
        ImportError: the library `rosbags` is missing.
    """
    storage = _storage_path(Path(path))
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise ImportError(f'{path}: reading a ROS 2 bag needs the library rosbags ({error}); '
                          f'pip install rosbags') from error
    with _explain_damage(path):
        reader = Reader(storage)
        reader.open()
    try:
        yield Bag(Path(path), reader, message_types())
    finally:
        reader.close()


def is_bag(path: Path) -> bool:
    """Whether a path looks like a ROS 2 recording."""
    if path.is_file():
        return path.suffix in STORAGE_SUFFIXES
    return bool(_storage_files(path)) or (
        (path / METADATA_NAME).is_file()
        and 'rosbag2_bagfile_information' in (path / METADATA_NAME).read_text(errors='replace'))


@lru_cache(maxsize=1)
def message_types() -> Typestore:
    """The types of one release for all bags.

    Those that matter here are the same in all releases since Foxy, so the bag's own definitions,
    which older bags lack and which may hold anything, are left aside.
    """
    from rosbags.typesys import Stores, get_typestore
    return get_typestore(Stores.LATEST)


def _storage_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob('*') if p.suffix in STORAGE_SUFFIXES)


def _storage_path(path: Path) -> Path:
    """What to hand to the library: the folder, or a single storage file."""
    if not path.exists():
        raise SceneError(f'{path}: no such recording')
    if path.suffix == '.bag' and path.is_file():
        raise SceneError(f'{path}: a ROS 1 bag; convert it with '
                         f'`rosbags-convert --src {path} --dst {path.with_suffix("")}`')
    if path.is_file() or (path / METADATA_NAME).is_file():
        return path
    files = _storage_files(path)
    if len(files) != 1:
        raise SceneError(
            f'{path}: has no {METADATA_NAME} and {len(files)} .mcap or .db3 files, so it is no '
            f'complete ROS 2 bag; write the missing file with `ros2 bag reindex {path}`')
    logger.warning('%s: has no %s (was the recording cut off?); reading %s alone', path,
                   METADATA_NAME, files[0].name)
    return files[0]


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn what damaged files provoke in the library into one sentence with a remedy."""
    try:
        yield
    except (SceneError, OSError, MemoryError):
        raise
    except Exception as error:  # ReaderError, apsw's, zstd's, struct.error, IndexError, ...
        raise SceneError(
            f'{path}: damaged, or cut off while recording or copying '
            f'({type(error).__name__}: {error}); copy it again, or repair it with '
            f'`mcap recover` (.mcap) or sqlite3\'s `.recover` (.db3) and `ros2 bag reindex`'
        ) from error
