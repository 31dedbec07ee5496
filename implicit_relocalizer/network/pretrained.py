# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""torchvision's ImageNet weights, and what to do where they cannot be downloaded."""

import pickle
from pathlib import Path
from typing import Any, Optional

import torch
from torch import nn
from torchvision.models import WeightsEnum


class PretrainedWeightsError(RuntimeError):
    """ImageNet weights are not to be had; the message names the file and the remedy."""


def load_pretrained(net: nn.Module, weights: Optional[WeightsEnum]) -> None:
    """Load weights into torchvision's network for them; None leaves it as it is.

    They are taken from torch hub's cache folder, and downloaded to it once where absent.

    Raises:
        PretrainedWeightsError: no download and no usable file in the cache.
    """
    if weights is None:
        return
    # torch hub looks for the file under the last part of the address
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    cached = folder / weights.url.rsplit('/', 1)[-1]
    try:
        state: Any = weights.get_state_dict(progress=False, check_hash=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise PretrainedWeightsError(
            f'{cached}: cannot be read ({_first_line(error)}); it may be cut off: delete it, '
            f'and it is downloaded again') from error
    except OSError as error:
        raise PretrainedWeightsError(
            f'the ImageNet weights could not be downloaded from {weights.url} '
            f'({_first_line(error)}); fetch that file on another machine and put it into {folder} '
            f'under its own name, or train from scratch with encoder.pretrained=false') from error
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise PretrainedWeightsError(
            f'{cached}: holds the weights of another network ({_first_line(error)}); delete it, '
            f'and it is downloaded again') from error


def _first_line(error: Exception) -> str:
    return [*str(error).strip().splitlines(), type(error).__name__][0].rstrip(':')
