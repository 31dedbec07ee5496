# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A recording that is written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from implicit_relocalizer.data.readers.bag_storage import (
    METADATA_NAME,
    STORAGE_SUFFIXES,
    Bag,
    Topic,
    message_types,
)

STORAGES = ('mcap', 'sqlite3')


class BagOutput:
    """An open recording; `write_bag` makes one."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._connections: dict[tuple[str, str], Any] = {}

    def copy(self, bag: Bag, topic: Topic, time_ns: int, cdr: bytes) -> None:
        """Write a message of another recording as it is there."""
        key = topic.name, topic.type_name
        if key not in self._connections:
            connection: Any = bag.connection_of(topic)  # `ext` is that of ROS 2
            definition = ({'msgdef': connection.msgdef.data, 'rihs01': connection.digest}
                          if connection.msgdef.data and connection.digest
                          else {'typestore': message_types()})
            self._connections[key] = self._writer.add_connection(
                *key, serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles, **definition)
        self._writer.write(self._connections[key], time_ns, cdr)

    def write(self, topic_name: str, time_ns: int, message: Any) -> None:
        """Write a message of rosbags."""
        store, key = message_types(), (topic_name, message.__msgtype__)
        if key not in self._connections:
            self._connections[key] = self._writer.add_connection(*key, typestore=store)
        self._writer.write(self._connections[key], time_ns,
                           bytes(store.serialize_cdr(message, message.__msgtype__)))


def storage_of(path: Path) -> str:
    """One of `STORAGES`: that of a recording's files."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return 'sqlite3' if any(file.suffix == '.db3' for file in files) else 'mcap'


def refuse_output(path: Path, source: Path, force: bool) -> None:
    """Check before the work that a recording may be written.

    Raises:
        FileExistsError: something is there that may not be replaced.
    """
    if path.resolve() in (source.resolve(), *source.resolve().parents):
        raise FileExistsError(f'{path}: is the recording that is read; choose another --out')
    if not path.exists():
        return
    if not force:
        raise FileExistsError(f'{path}: exists already; choose another --out, or replace it with '
                              f'--force')
    if not path.is_dir() or any(not _belongs_to_bag(file) for file in path.iterdir()):
        raise FileExistsError(f'{path}: exists and holds more than a bag, --force replaces bags '
                              f'alone; move it away')


@contextmanager
def write_bag(path: Path, storage: str) -> Iterator[BagOutput]:
    """Write a recording; it is at `path` once all went well, replacing a bag there.

    Until then it lies beside it, in `.NAME.partial`, and is removed if anything goes wrong.

    Args:
        path: A folder.
        storage: One of `STORAGES`.
    """
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    partial = path.parent / f'.{path.name}.partial'
    shutil.rmtree(partial, ignore_errors=True)  # of a program that was killed
    partial.mkdir(parents=True)
    try:
        # The storage file is named by its folder.
        writer = Writer(partial / path.name, version=9,
                        storage_plugin=StoragePlugin[storage.upper()])
        if storage == 'mcap':
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            yield BagOutput(writer)
        if path.exists():
            shutil.rmtree(path)
        (partial / path.name).rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _belongs_to_bag(file: Path) -> bool:
    return file.suffix in STORAGE_SUFFIXES or file.name.startswith(METADATA_NAME)
