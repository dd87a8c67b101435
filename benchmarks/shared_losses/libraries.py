"""Imports lightly and stable-pretraining for their losses, with wheels of torch and torchvision that do not fit each other too."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import torch

OPERATORS = (
    "nms qnms roi_align _roi_align_backward qroi_align roi_pool _roi_pool_backward ps_roi_align _ps_roi_align_backward ps_roi_pool "
    "_ps_roi_pool_backward deform_conv2d _deform_conv2d_backward"
)
_kept: list[Any] = []


def import_torchvision() -> None:
    """Import torchvision; where its wheel asks for CUDA and torch has none, its operators (which no loss uses) are declared first."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        declared = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS.split():
            declared.define(f"{name}(Tensor x) -> Tensor")
        _kept.append(declared)  # operators live as long as their library
        importlib.import_module("torchvision")


def library(name: str) -> Any:
    """A module of one of the libraries, quietly: `library("lightly.loss.swav_loss")`."""
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        return importlib.import_module(name)
