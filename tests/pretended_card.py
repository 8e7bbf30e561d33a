"""A card that is not there: tensors that say they are on `cuda:0`, and are in the memory of the CPU.

What computes on a GPU can go wrong where there is none to try it: a tensor of the CPU meets one of the card, an array
is made of one, a thread waits for the card in each step, memory is written anew before it was copied. Here such tensors
have values, so whole runs go on, by the code that a GPU would take; what torch would refuse there is refused, and what
it would wait for is noted. Kernels run under Triton's interpreter. Not tried are torch's own CUDA kernels: their sums
have another order, and they know shapes and dtypes that these refuse, and the other way round.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from declora import cuda, gossip
from declora.cuda import codec, dropout, launch, matrix, rows

CARD = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
COUNTED = {aten.nonzero.default, aten.masked_select.default, aten.repeat_interleave.Tensor, aten.equal.default}
"""What the card has to be asked for: how many there are, or whether."""


class Misplaced(RuntimeError):
    """What torch would refuse on a GPU, or what would be wrong there."""


class OnCard(torch.Tensor):
    """A tensor that says it is on the card; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, requires_grad: bool = False) -> "OnCard":
        found: OnCard = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            requires_grad=requires_grad,
        )  # fmt: skip
        found.held = held
        return found

    # Whatever asks, also what torch has called and sees nothing of its own modes.
    device = property(lambda self: CARD)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], meta: None, size: Any, stride: Any) -> "OnCard":
        return OnCard(inner["held"])

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnCard({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return called(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, None)


class _Moved(torch.autograd.Function):
    """A copy between the CPU and the card."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, there: bool) -> torch.Tensor:
        ctx.there = there
        return OnCard(values.detach().clone()) if there else values.held.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return (grad.held.clone() if ctx.there else OnCard(grad.clone())), None


class Card:
    """What is known of the card.

    Attributes:
        waits: How often a thread waited for it, by why and where.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self._pinned: dict[int, torch.Tensor] = {}
        self._queued: list[tuple[torch.Tensor, torch.Tensor]] = []

    def wait(self, why: str) -> None:
        """Notes that a thread waits here until all that is queued is done."""
        self.waits[f"{why} at {_caller()}"] += 1
        queued, self._queued = self._queued, []
        with _disable_current_modes():
            for source, then in queued:
                if source.numpy().tobytes() != then.numpy().tobytes():
                    raise Misplaced(f"pinned {list(source.shape)} was written before its copy to the card was made")

    def pin(self, values: torch.Tensor) -> torch.Tensor:
        self._pinned[values.untyped_storage().data_ptr()] = values
        return values

    def is_pinned(self, values: torch.Tensor) -> bool:
        return values.untyped_storage().data_ptr() in self._pinned

    def copied(self, source: torch.Tensor, *, late: bool) -> None:
        """Notes a copy to the card: one of pinned memory that nobody waits for is made some time later."""
        if late and self.is_pinned(source):
            with _disable_current_modes():
                self._queued.append((source, source.clone()))
        else:
            self.wait("copy from the CPU")


_here = SimpleNamespace(card=Card())


def _caller() -> str:
    """Returns the line outside of torch and this file that is computed."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and ("/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _is_card(device: Any) -> bool:
    return device is not None and not isinstance(device, int) and torch.device(device).type == "cuda"


def called(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Calls a function of torch's: one that says something of devices in its own way, all others as they are."""
    name = getattr(func, "__name__", "")
    x = args[0] if args and isinstance(args[0], torch.Tensor) else None
    with torch._C.DisableTorchFunctionSubclass():
        if name == "__get__" and isinstance(x, OnCard):
            of = getattr(func.__self__, "__name__", "")
            if of in ("device", "is_cuda", "is_cpu"):
                return getattr(x, of)
        elif x is not None and name in ("to", "cpu", "cuda"):
            return _to(func, x, args[1:], kwargs)
        elif name in ("numpy", "__array__") and isinstance(x, OnCard):
            raise Misplaced("can't convert cuda:0 device type tensor to numpy")
        elif name == "tolist" and isinstance(x, OnCard):
            return _to(func, x, ("cpu",), {}).tolist()
        elif name == "pin_memory" and x is not None:
            if isinstance(x, OnCard):
                raise Misplaced("cannot pin a tensor of the card")
            return x if _here.card.is_pinned(x) else _here.card.pin(x.clone())
        elif name == "new_tensor" and isinstance(x, OnCard):
            _here.card.wait("copy from the CPU")
            return OnCard(x.held.new_tensor(*args[1:], **kwargs))
        elif name == "get_device" and isinstance(x, OnCard):
            return 0
        elif "device" in kwargs or "pin_memory" in kwargs:
            return _made(func, args, kwargs)
        return func(*args, **kwargs)


def _to(func: Any, x: torch.Tensor, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
    """Returns what `to`, `cpu` and `cuda` do."""
    kwargs = dict(kwargs)
    device = kwargs.pop("device", None)
    dtype, late, copy = kwargs.pop("dtype", None), kwargs.pop("non_blocking", False), kwargs.pop("copy", False)
    if func.__name__ in ("cpu", "cuda"):
        device = func.__name__
    for argument in args:
        if isinstance(argument, torch.Tensor):
            device, dtype = argument.device, argument.dtype
        elif isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, bool):
            late = argument
        elif argument is not None:
            device = argument
    there = isinstance(x, OnCard)
    wanted, found = there if device is None else _is_card(device), x
    if wanted and not there:
        _here.card.copied(x.detach(), late=late)
        found = _Moved.apply(x, True)
    elif there and not wanted:
        _here.card.wait("copy to the CPU")
        found = _Moved.apply(x, False)
    options = {} if dtype is None else {"dtype": dtype}
    return found.to(**options, copy=copy and found is x, **kwargs) if options or kwargs or copy else found


def _made(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Calls a function that makes a tensor somewhere."""
    device, pinned = kwargs.get("device"), kwargs.get("pin_memory", False)
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if not _is_card(device):
        found = func(*args, **kwargs)
        return _here.card.pin(found) if pinned else found
    if isinstance(draw := kwargs.get("generator"), torch.Generator) and draw.device.type != "cuda":
        raise Misplaced(f"{func.__name__} draws on the card by a generator of the CPU")
    if func.__name__ in ("tensor", "as_tensor", "asarray"):
        _here.card.wait("copy from the CPU")
    found = func(*args, **kwargs | {"device": torch.device("cpu")})
    made = isinstance(found, torch.Tensor) and not isinstance(found, OnCard)
    return OnCard(found.detach(), requires_grad=found.requires_grad) if made else found


def computed(func: Any, args: Any, kwargs: dict[str, Any], card: Card | None) -> Any:
    """Computes one operation: on the card where a tensor of it is there."""
    leaves = tree_leaves((args, kwargs))
    held = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, OnCard)}
    if not held:
        return func(*args, **kwargs)
    if func is not aten.copy_.default:
        may = {id(index) for index in args[1] if index is not None} if func in INDEXED else set()
        for leaf in leaves:
            away = isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnCard) and leaf.dim()
            if away and id(leaf) not in may:
                raise Misplaced(f"{func}: tensors on the card and one on the CPU, {leaf.dtype} {list(leaf.shape)}")
    if card is not None:
        _note(func, args, kwargs, card)
    plain_args, plain = tree_map_only(OnCard, lambda x: x.held, (args, kwargs))
    found = func(*plain_args, **plain)
    if func is aten.copy_.default:
        return args[0]
    return tree_map_only(torch.Tensor, lambda x: held[id(x)] if id(x) in held else OnCard(x), found)


def _note(func: Any, args: Any, kwargs: dict[str, Any], card: Card) -> None:
    """Notes what waits for the card."""
    if func is aten._local_scalar_dense.default:
        card.wait("a number")
    elif func in COUNTED:
        card.wait(str(func))
    elif func in INDEXED:
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                card.wait("index by a mask")
            elif index is not None and not isinstance(index, OnCard):
                card.wait("index on the CPU")
    elif func is aten.copy_.default:
        target, source, *late = args
        if not isinstance(target, OnCard):
            card.wait("copy to the CPU")
        elif not isinstance(source, OnCard):
            card.copied(source, late=kwargs.get("non_blocking", bool(late and late[0])))


class _Calls(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return called(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, _here.card)


@contextmanager
def in_this_thread() -> Iterator[Card]:
    """Has a card in this thread, and on its ways back."""
    with _Operations(), _Calls():
        yield _here.card


def _stay() -> None:
    """Has a card in this thread until it ends.

    Nothing leaves it: a context would do so when it is collected, which may be in another thread, whose card it takes.
    """
    _Operations().__enter__()
    _Calls().__enter__()


def _launch(kernel: Any, programs: int, x: torch.Tensor, *arguments: Any, **options: Any) -> None:
    """Starts a kernel under the interpreter, whose tensors must all be on the card."""
    for argument in (x, *arguments):
        if isinstance(argument, torch.Tensor) and not isinstance(argument, OnCard):
            raise Misplaced(f"a kernel gets a tensor of the CPU, {argument.dtype} {list(argument.shape)}")
    if programs:
        held = [argument.held if isinstance(argument, OnCard) else argument for argument in (x, *arguments)]
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            kernel[(programs,)](*held, enable_fp_fusion=False, **options)


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch, *, kernels: bool) -> Iterator[Card]:
    """Has a card in this thread and in those that gossip.

    Args:
        monkeypatch: Puts it in the place of the one that is not there.
        kernels: Whether Triton works there.
    """
    monkeypatch.setattr(_here, "card", Card())
    stream = SimpleNamespace(synchronize=lambda: _here.card.wait("synchronize"))
    known = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "set_device": lambda device: None, "current_stream": lambda device=None: stream,
        "synchronize": lambda device=None: _here.card.wait("synchronize"), "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (2**34, 2**34), "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 2**20, "reset_peak_memory_stats": lambda device=None: None,
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=2**34),
        "get_device_capability": lambda device=None: (9, 0), "get_device_name": lambda device=None: "pretended",
        "device": lambda device: nullcontext(), "manual_seed": lambda seed: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
    }  # fmt: skip
    for name, function in known.items():
        monkeypatch.setattr(torch.cuda, name, function)
    for room in (codec, dropout, matrix, rows, launch):
        monkeypatch.setattr(room, "launch", _launch)
    # A tensor subclass cannot be a view of a plain one there; that code is right in it shows on a CPU.
    monkeypatch.setattr(torch, "inference_mode", lambda on=True: torch.no_grad() if on else nullcontext())
    run_backward = torch.autograd._engine_run_backward

    def backward(*arguments: Any, **options: Any) -> Any:
        with _Calls():  # which is off within what it has called
            return run_backward(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", backward)
    launch._works.cache_clear()
    if not kernels:
        monkeypatch.setattr(cuda, "there", lambda device: False)
    monkeypatch.setattr(gossip, "_compute_on", lambda device: _stay())
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # weights stay the objects that they are
    try:
        with in_this_thread() as card:
            yield card
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swapped)
        launch._works.cache_clear()
