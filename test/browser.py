# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that looks at pages from disk, led through its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
_QUIET = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
          '--disable-background-networking', '--disable-component-update', '--disable-sync',
          '--disable-dev-shm-usage', '--hide-scrollbars', '--remote-debugging-pipe')


def find_browser() -> str | None:
    """The program, where there is one."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab; `requests` lists every address that it asked for."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        self._process = subprocess.Popen(
            ['bash', '-c', f'exec "$@" 3<&{read_commands} 4>&{write_answers}', 'bash', program,
             *_QUIET, f'--user-data-dir={self._profile.name}', 'about:blank'],
            pass_fds=(read_commands, write_answers), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL)
        os.close(read_commands)
        os.close(write_answers)
        self._buffer, self._number = b'', 0
        self.requests: list[str] = []
        self._session: str | None = None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call('Target.attachToTarget', targetId=target,
                                  flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Network'):
            self.call(f'{domain}.enable')

    def close(self) -> None:
        """End it and forget what it stored."""
        try:
            self._session = None
            self.call('Browser.close')
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def open(self, page: Path, width: int, height: int = 900, scheme: str = 'light') -> None:
        """Show a page and wait until its program has drawn it."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.call('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': scheme}])
        url = page.resolve().as_uri()
        self.call('Page.navigate', url=url)
        self.wait_for(f'location.href === {json.dumps(url)} && '
                      'document.documentElement?.dataset.ready === "true"')

    def wait_for(self, expression: str, seconds: float = 30.0) -> None:
        """Wait until an expression is true."""
        until_s = time.monotonic() + seconds
        while not self.evaluate(f'Boolean({expression})'):
            if time.monotonic() > until_s:
                raise TimeoutError(f'{expression} did not become true')
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """`mouseMoved`, `mousePressed`, `mouseReleased`, `mouseWheel`."""
        self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, **more)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        data = self.call('Page.captureScreenshot', captureBeyondViewport=True,
                         clip={'x': 0, 'y': 0, 'scale': 1, **self.evaluate(
                             '({width: document.documentElement.clientWidth,'
                             ' height: document.documentElement.scrollHeight})')})['data']
        path.write_bytes(base64.b64decode(data))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._commands, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                assert 'error' not in answer, (method, answer['error'])
                return dict(answer['result'])
            if answer.get('method') == 'Network.requestWillBeSent':
                self.requests.append(answer['params']['request']['url'])

    def _receive(self, seconds: float = 60.0) -> dict[str, Any]:
        while b'\0' not in self._buffer:
            if not select.select([self._answers], [], [], seconds)[0]:
                raise TimeoutError('the browser does not answer')
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise OSError('the browser ended')
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b'\0')
        return dict(json.loads(message))
