"""Counts the moments at which Python waits for the device to hand over a value, as they would be on a GPU.

On a CPU copies between host and device cannot be told from others (``.to``, ``copy_``, ``torch.tensor`` with a device);
the count on a card sees those too.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim",
             "unique_consecutive", "bincount", "allclose")  # fmt: skip
"""Operators whose result is a Python value, or has a size that depends on values."""
METHODS = ("tolist", "numpy", "cpu", "__array__")
"""Methods that copy a tensor to the host without such an operator."""


class _Operators(TorchDispatchMode):
    def __init__(self, waits: "Waits"):
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        by_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        if name in OPERATORS or by_mask or (name == "repeat_interleave" and isinstance(args[0], torch.Tensor)):
            self._waits.add(name)
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, waits: "Waits"):
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in METHODS:
            self._waits.add(func.__name__)
        # With a number of classes, one_hot reads the labels, to check them, on a CPU alone.
        known = func is torch.nn.functional.one_hot and (len(args) > 1 or (kwargs or {}).get("num_classes", -1) >= 0)
        return (self._waits.uncounted(func) if known else func)(*args, **(kwargs or {}))


class Waits:
    """What was counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._counting = True

    def add(self, name: str) -> None:
        if self._counting:
            self.counts[name] += 1

    def uncounted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function in which nothing is counted."""

        def called(*args: Any, **kwargs: Any) -> Any:
            self._counting = False
            try:
                return function(*args, **kwargs)
            finally:
                self._counting = True

        return called


@contextmanager
def counted() -> Iterator[Waits]:
    """Count what waits inside."""
    waits = Waits()
    with ExitStack() as stack:
        for kind in (torch.optim.Adam, torch.optim.SGD):
            # On a GPU optimisers keep what they read here, the number of steps, on the host.
            stack.enter_context(patch.object(kind, "step", waits.uncounted(kind.step)))
        stack.enter_context(_Methods(waits))
        stack.enter_context(_Operators(waits))
        yield waits


@contextmanager
def counted_on_cuda() -> Iterator[list[warnings.WarningMessage]]:
    """Collect a warning for each time that Python waits for a CUDA device inside."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield caught
        finally:
            torch.cuda.set_sync_debug_mode("default")
