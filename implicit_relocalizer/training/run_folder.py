# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: configuration, checkpoint, model and result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CONFIGURATION, CHECKPOINT = 'config.yaml', 'checkpoint.pt'
MODEL, RESULT = 'model.pt', 'result.json'


def write_configuration(run_dir: Path, settings: dict[str, Any]) -> None:
    """Write config.yaml."""
    (run_dir / CONFIGURATION).write_text(yaml.safe_dump(settings, sort_keys=False))


def write_result(run_dir: Path, result: dict[str, Any]) -> None:
    """Write result.json, whole or not at all."""
    partial = run_dir / f'{RESULT}.partial'
    partial.write_text(json.dumps(result, indent=2))
    partial.replace(run_dir / RESULT)


def remove_run(run_dir: Path) -> None:
    """Delete what a training left in a folder, and nothing else that may be there."""
    for name in (CONFIGURATION, CHECKPOINT, MODEL, RESULT):
        for path in (run_dir / name, run_dir / (name + '.partial')):
            path.unlink(missing_ok=True)
