# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a running node has, by the graph that ROS keeps of it."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode

WAIT_S = 60.0
SETTLE_S = 1.5


class NodeReader:
    """Looks at one node from outside; names are relative to it, types as people write them."""

    def __init__(self, context: Context, name: str, namespace: str) -> None:
        self._node = rclpy.create_node('reader', context=context, namespace=namespace)
        self._bare = LifecycleNode('bare', context=context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._name = name
        self._namespace = namespace

    def close(self) -> None:
        self._bare.destroy_node()
        self._node.destroy_node()

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Ask a service of the node."""
        client = self._node.create_client(kind, f'{self._name}/{name}')
        assert client.wait_for_service(WAIT_S), name
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, WAIT_S)
        assert future.done(), name
        return future.result()

    def settled(self) -> dict[str, dict[str, str]]:
        """`endpoints` of the node, once all are known: they are announced one by one."""
        end_s = time.monotonic() + WAIT_S
        found, since_s = {}, time.monotonic()
        while time.monotonic() < since_s + SETTLE_S or not found:
            assert time.monotonic() < end_s, f'{self._name} is not found, or never at rest'
            time.sleep(0.05)
            before = found
            with contextlib.suppress(RuntimeError):  # not discovered yet
                found = self.endpoints()
            if found != before:
                since_s = time.monotonic()
        return found

    def endpoints(self, name: str = '') -> dict[str, dict[str, str]]:
        """Types by name of what a node hears, says and serves; by the page's headings."""
        name = name or self._name
        return {heading: self._flat(ask(name, self._namespace), name) for heading, ask in (
            ('### What it hears', self._node.get_subscriber_names_and_types_by_node),
            ('### What it says', self._node.get_publisher_names_and_types_by_node),
            ('## Services', self._node.get_service_names_and_types_by_node))}

    def names_of_every_node(self) -> set[str]:
        """What this ROS gives every managed node, whatever we do."""
        return {name for found in self.endpoints('bare').values() for name in found}

    def qualities(self) -> set[tuple[str, str, str]]:
        """Topic, reliability and durability of the node's endpoints, in the page's words."""
        found = set()
        for heading, topics in self.endpoints().items():
            ask = {'### What it hears': self._node.get_subscriptions_info_by_topic,
                   '### What it says': self._node.get_publishers_info_by_topic}.get(heading)
            for topic in topics if ask else ():
                for info in ask(topic.replace('~', self._name)):
                    if info.node_name == self._name and info.node_namespace == self._namespace:
                        found.add((f'{heading} {topic}', *(
                            policy.name.lower().replace('_', ' ') for policy in (
                                info.qos_profile.reliability, info.qos_profile.durability))))
        return found

    def _flat(self, found: list[tuple[str, list[str]]], node: str) -> dict[str, str]:
        flat = {}
        for name, types in found:
            assert len(types) == 1, name
            relative = name.removeprefix(f'{self._namespace}/')
            if relative.startswith(f'{node}/'):
                relative = '~' + relative.removeprefix(node)
            flat[relative] = re.sub('/(msg|srv)/', '/', types[0])
        return flat
