"""A device that computes on the CPU and counts as another: what would fail on an accelerator fails on it, with real numbers.

A tensor of the device holds one of the CPU that no operation reaches but through it. What torch refuses on a GPU raises: tensors of two
devices in one operation, numbers of another device's generator, a tensor that is read as an array before it is copied, a tensor of the
host that is sent to other processes. What a GPU's host waits for is noted with its place: a number that it reads, a size that values
decide, a tensor that is copied from one side to the other.

Numbers come of the CPU's kernels and generators, so a computation has here the values that it has there.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

DEVICE = "standin"
TORCH = str(Path(torch.__file__).parent)
HERE = torch.device("cpu")
ATEN = torch.ops.aten
COPIES = {ATEN._to_copy.default, ATEN.copy_.default}
INDEXING = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}
"""Torch lets indices of the CPU into a GPU's tensors, and copies them."""
READ_BY_HOST = {
    ATEN._local_scalar_dense.default,
    ATEN.equal.default,
    ATEN.nonzero.default,
    ATEN.masked_select.default,
    ATEN._unique2.default,
    ATEN.unique_consecutive.default,
    ATEN.unique_dim.default,
    ATEN.bincount.default,
    ATEN.repeat_interleave.Tensor,
}
"""A number, or what has as many entries as values say."""


class StandInTensor(Tensor):
    """A tensor of the device; `held` has its numbers, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> StandInTensor:
        """The tensor of the device that holds one of the CPU."""
        options: dict[str, Any] = {"dtype": held.dtype, "device": torch.device(DEVICE, 0)}
        if held.layout == torch.strided:
            options |= {"strides": held.stride(), "storage_offset": held.storage_offset()}
        else:
            options |= {"layout": held.layout, "dispatch_layout": True}
        made: StandInTensor = Tensor._make_wrapper_subclass(cls, held.size(), **options)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return computed(function, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{DEVICE}:{self.held!r}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file keeps the numbers, as one that is loaded onto the CPU would."""
        return self.held.__reduce_ex__(protocol)


class StandInGenerator(torch.Generator):
    """A generator of the device or of the CPU; both give the same numbers."""

    def __new__(cls, device: Any = HERE) -> StandInGenerator:  # noqa: ARG004, which __init__ reads
        """The generator, which torch makes for the CPU."""
        return super().__new__(cls)

    def __init__(self, device: Any = HERE) -> None:
        self.on_device = torch.device(device).type == DEVICE

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where its numbers are made."""
        return torch.device(DEVICE, 0) if self.on_device else HERE


class Watch:
    """Where the host waited for the device, or sent it something, while that was noted: places as "file:line", each once."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self._noting = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what happens within the block."""
        self._noting = True
        try:
            yield
        finally:
            self._noting = False

    def note(self) -> None:
        """Note the caller's place."""
        if self._noting and (place := caller()) not in self.waits:
            self.waits.append(place)


@contextmanager
def standin_device() -> Iterator[Watch]:
    """Let `torch.device(DEVICE)` be used within the block.

    Torch knows the device ever after, and must before the process's first backward, so use it in a process of its own.
    """
    if torch._C._get_privateuse1_backend_name() != DEVICE:
        _setup_privateuseone_for_python_backend(DEVICE, backend_module=_Backend())
    watch = Watch()
    with (
        _Operations(watch),
        _Functions(watch),
        patch.object(torch, "Generator", StandInGenerator),
        patch.object(nn.Module, "to", functools.partialmethod(_moved, nn.Module.to)),
    ):
        yield watch


def computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives: on the device where its tensors are there or it is asked for there; RuntimeError for two devices."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = {id(value.held): value for value in tensors if isinstance(value, StandInTensor)}
    if there and function not in COPIES | INDEXING and any(value.ndim and _of_host(value) for value in tensors):
        raise RuntimeError(f"expected all tensors on one device, and {function} was given some of {DEVICE} and some of cpu")
    device = kwargs.get("device")
    if function is ATEN.copy_.default:
        on_device = isinstance(args[0], StandInTensor)
    else:
        on_device = bool(there) if device is None else torch.device(device).type == DEVICE
    args, kwargs = tree_map_only(StandInTensor, lambda value: value.held, (args, kwargs))
    if on_device and device is not None:
        kwargs = {**kwargs, "device": HERE}
    found = function(*args, **kwargs)
    if not on_device:
        return found
    return tree_map_only(Tensor, lambda value: there[id(value)] if id(value) in there else StandInTensor(value), found)


def _of_host(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, StandInTensor)


def caller() -> str:
    """The innermost line outside torch and this file that is being run, "file:line"; "backward" where torch's own calls it."""
    frame = sys._getframe()
    while frame is not None:
        if not frame.f_code.co_filename.startswith((TORCH, __file__)):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "backward"


class _Operations(TorchDispatchMode):
    """Takes every operation of the process, those that make tensors out of nothing too."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function.namespace == "c10d" and any(_of_host(value) for value in tree_flatten((args, kwargs))[0]):
            raise RuntimeError(f"{function} was given a tensor of cpu, and a GPU's processes exchange its own tensors alone")
        found = computed(function, args, kwargs)
        if self._waits(function, args, found):
            self.watch.note()
        return found

    @staticmethod
    def _waits(function: Any, args: Any, found: Any) -> bool:
        if function in COPIES:
            source = args[1] if function is ATEN.copy_.default else args[0]
            return source.ndim > 0 and isinstance(source, StandInTensor) != isinstance(found, StandInTensor)
        if not args or not isinstance(args[0], StandInTensor):
            return False
        if function in INDEXING:
            return any(index is not None and (index.dtype == torch.bool or not isinstance(index, StandInTensor)) for index in args[1])
        return function in READ_BY_HOST


class _Functions(TorchFunctionMode):
    """Sees to what torch does before it comes to operations: generators, tensors out of lists, and arrays."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (generator := kwargs.get("generator")) is not None:
            device = torch.device(kwargs.get("device") or next((value.device for value in args if isinstance(value, Tensor)), HERE))
            if device.type != generator.device.type:
                raise RuntimeError(f"{function.__name__} makes numbers on {device.type} with a generator of {generator.device.type}")
        if function is Tensor.new_tensor:
            return self._from_list(torch.tensor, args[1:], {"dtype": args[0].dtype, "device": args[0].device, **kwargs})
        if function is torch.tensor or (function is torch.as_tensor and not isinstance(args[0], Tensor)):
            return self._from_list(function, args, kwargs)
        if function in (Tensor.numpy, Tensor.__array__, Tensor.tolist) and isinstance(args[0], StandInTensor):
            return self._to_host(function, args, kwargs)
        return function(*args, **kwargs)

    def _from_list(self, make: Callable[..., Tensor], args: Any, kwargs: dict[str, Any]) -> Tensor:
        device = torch.device(kwargs.pop("device", None) or HERE)
        wanted = kwargs.pop("requires_grad", False)
        return make(*args, **kwargs).to(device).requires_grad_(wanted)

    def _to_host(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if function is not Tensor.tolist and not kwargs.get("force"):
            raise TypeError(f"a tensor of {DEVICE} cannot become an array; copy it to the CPU first")
        self.watch.note()
        return function(args[0].held, *args[1:], **kwargs)


class _Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """Its generator is the CPU's, whose state is set beside it."""


def _moved(module: nn.Module, real: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """`module.to`, for parameters whose type changes with their device; those that are shared stay shared."""
    device, dtype, _, _ = torch._C._nn._parse_to(*args, **kwargs)
    made: dict[int, nn.Parameter] = {}
    for part in module.modules() if device is not None else ():
        for name, old in part._parameters.items():
            if old is not None and old.device.type != device.type:
                part._parameters[name] = made.setdefault(id(old), nn.Parameter(old.detach().to(device), old.requires_grad))
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
    return module if dtype is None else real(module, dtype)
