# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration from YAML and overrides; unknown keys are errors."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from implicit_relocalizer.training.configuration import ConfigurationError, TrainingConfig
from implicit_relocalizer.training.configuration_checks import check_ranges

T = TypeVar('T')


def load_configuration(path: Path, overrides: list[str] | None = None) -> TrainingConfig:
    """Read a YAML file and apply overrides of the form `section.key=value`.

    Raises:
        ConfigurationError: no such file, no YAML, unknown key, or a value of the wrong type.
    """
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise ConfigurationError(f'{path}: no such configuration file') from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f'{path}: not YAML ({error})') from None
    if not isinstance(values, dict):
        raise ConfigurationError(f'{path}: expected keys and values at the top')
    for override in overrides or []:
        _apply_override(values, override)
    config = _build(TrainingConfig, values, str(path), '')
    check_ranges(config, str(path))
    return config


def configuration_from_dict(values: dict[str, Any], source: str) -> TrainingConfig:
    """The inverse of `configuration_to_dict`.

    Raises:
        ConfigurationError: unknown key, or a value of the wrong type; names `source`.
    """
    config = _build(TrainingConfig, values, source, '')
    check_ranges(config, source)
    return config


def section_from_overrides(section: type[T], overrides: list[str], source: str) -> T:
    """A section with its defaults, but for overrides of the form `key=value`.

    Raises:
        ConfigurationError: unknown key, or a value of the wrong type; names `source`.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _apply_override(values, override)
    return _build(section, values, source, '')


def configuration_to_dict(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain nested dictionaries."""
    return dataclasses.asdict(config)


def format_configuration(config: TrainingConfig) -> str:
    """The whole configuration as YAML, every key with a comment that says what it does."""
    return '\n'.join(_format_section(config, '')) + '\n'


def _format_section(section: Any, indent: str) -> list[str]:
    meanings = _meanings(type(section))
    lines = []
    for key in dataclasses.fields(section):
        value = getattr(section, key.name)
        meaning = meanings.get(key.name, '')
        if dataclasses.is_dataclass(value):
            about = (inspect.getdoc(type(value)) or '').split('\n\n')[0]
            lines += ['', *_comment(about, indent), f'{indent}{key.name}:',
                      *_format_section(value, indent + '  ')]
        else:
            text = yaml.safe_dump({key.name: value}).strip()
            lines += [*_comment(meaning, indent), indent + text]
    return lines


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(' '.join(text.split()), 95, initial_indent=f'{indent}# ',
                         subsequent_indent=f'{indent}# ')


def _meanings(section: type) -> dict[str, str]:
    """What the 'Attributes:' of a docstring say of each key."""
    _, _, attributes = (inspect.getdoc(section) or '').partition('Attributes:\n')
    entries = re.findall(r'^    (\w[\w, ]*): (.*(?:\n     +.*)*)', attributes, re.MULTILINE)
    return {key.strip(): meaning for keys, meaning in entries for key in keys.split(',')}


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition('=')
    if not separator:
        raise ConfigurationError(f'override {override!r}: expected section.key=value')
    *sections, last = key.strip().split('.')
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigurationError(f'override {override!r}: {section} is no section')
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigurationError(f'override {override!r}: {text!r} is no YAML value') from None


def _build(cls: type[T], values: dict[str, Any], source: str, prefix: str) -> T:
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigurationError(f'{source}: unknown key {prefix}{unknown[0]}; '
                                 f'known here: {", ".join(sorted(hints))}')
    chosen = {}
    for key, value in values.items():
        hint = hints[key]
        name = prefix + key
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ConfigurationError(f'{source}: {name} is a section, got {value!r}')
            chosen[key] = _build(hint, value, source, name + '.')
        else:
            chosen[key] = _convert(value, hint, source, name)
    return cls(**chosen)


def _convert(value: Any, hint: type, source: str, name: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text; a number is what everybody means by it
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigurationError(f'{source}: {name} is {value!r}, expected {hint.__name__}')
