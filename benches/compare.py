"""The core beside what a user would write instead, measured in one process: prints one table and keeps it.

Run `python benches/compare.py` on an idle machine. Each candidate has two medians. "In turn": every candidate of a
group runs once per repetition, after the others, so its threads were asleep and the caches hold other data, as in a
round of training. "Back to back": its calls follow each other, so its threads are awake. GB/s are bytes read plus
bytes written by the task itself; "x copy" is that rate over the rate of a copy by torch, on all cores, timed likewise.

What comes after a call of torch shares its cores with the threads of torch's OpenMP (libgomp): they wait for more work
for some milliseconds without leaving their core. `GOMP_SPINCOUNT=0 python benches/compare.py` measures without that.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from declora import _bridge
from publish import machine, publish

REPETITIONS = 9
ELEMENTS = 1 << 24
BLOCK = 256
LEVELS = 7

Work = Callable[[], object]
Row = tuple[str, ...]


def seconds(work: Work) -> float:
    """Returns the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(candidates: dict[str, Work]) -> dict[str, float]:
    """Returns the median seconds of each candidate, called after the others; the first turn is not counted."""
    turns = [{name: seconds(work) for name, work in candidates.items()} for _ in range(REPETITIONS + 1)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in candidates}


def back_to_back(candidates: dict[str, Work]) -> dict[str, float]:
    """Returns the median seconds of each candidate, called after itself; the first call is not counted."""
    runs = {name: [seconds(work) for _ in range(REPETITIONS + 1)] for name, work in candidates.items()}
    return {name: statistics.median(run[1:]) for name, run in runs.items()}


def group(task: str, moved: int, copied: int, candidates: dict[str, Work], goals: dict[str, str]) -> list[Row]:
    """Measures candidates that move `moved` bytes beside "copy", which moves `copied`, and returns their rows."""
    rows: list[Row] = []
    both = in_turn(candidates), back_to_back(candidates)
    for name in candidates:
        cells = [task, name]
        for medians in both:
            rate = (copied if name == "copy" else moved) / medians[name]
            share = rate / (copied / medians["copy"])
            cells += [f"{medians[name] * 1e3:.2f} ms", f"{rate / 1e9:.2f}", f"{share:.3f}"]
        rows.append((*cells, goals.get(name, "")))
    return rows


def quantizer() -> list[Row]:
    """Encoding and decoding of `ELEMENTS` numbers with 4 bits."""
    x = torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(0))
    y = torch.empty_like(x)
    codec = _bridge.Codec(f"q4:block={BLOCK}")
    payload = np.empty(codec.payload_bytes(ELEMENTS), np.uint8)
    x_numpy, y_numpy, generator = x.numpy(), y.numpy(), np.random.default_rng(0)
    encoders: dict[str, Work] = {
        "copy": lambda: y.copy_(x),
        "declora": lambda: codec.encode(x_numpy, payload, seed=1, round=2, client=3),
        "torch eager": lambda: torch_encode(x),
        "numpy": lambda: numpy_encode(x_numpy, generator),
        **pi_quant(x),
    }
    decoders: dict[str, Work] = {"copy": encoders["copy"], "declora": lambda: codec.decode(payload, y_numpy)}
    moved, copied = 4 * ELEMENTS + payload.nbytes, 8 * ELEMENTS
    rows = group("q4 encode, 16 Mi", moved, copied, encoders, {"declora": ">= 0.6; 40 x torch eager"})
    if not any(name.startswith("pi-quant") for name in encoders):
        rows.append((rows[0][0], "pi-quant", "not installed", *[""] * 6))
    return rows + group("q4 decode, 16 Mi", moved, copied, decoders, {"declora": ">= 0.7"})


def torch_encode(x: torch.Tensor) -> torch.Tensor:
    """The quantizer's arithmetic (without the scales' bytes), as eager torch has it."""
    blocks = x.view(-1, BLOCK)
    scaled = blocks * (LEVELS * 65536 / blocks.abs().amax(1, keepdim=True))
    fixed = scaled.round().clamp(-LEVELS * 65536, LEVELS * 65536).to(torch.int32)
    symbols = ((fixed + torch.randint(65536, fixed.shape, dtype=torch.int32)) >> 16) + LEVELS
    return (symbols[:, ::2] | symbols[:, 1::2] << 4).to(torch.uint8)


def numpy_encode(x: np.ndarray[Any, Any], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """The same with numpy."""
    blocks = x.reshape(-1, BLOCK)
    scaled = blocks * (np.float32(LEVELS * 65536) / np.abs(blocks).max(1, keepdims=True))
    fixed = np.rint(scaled).clip(-LEVELS * 65536, LEVELS * 65536).astype(np.int32)
    symbols = ((fixed + generator.integers(65536, size=fixed.shape, dtype=np.uint16)) >> 16) + LEVELS
    return (symbols[:, ::2] | symbols[:, 1::2] << 4).astype(np.uint8)


def pi_quant(x: torch.Tensor) -> dict[str, Work]:
    """The C++ quantizer of Prime Intellect, one scale for all, with both cores; nothing where it is missing."""
    try:
        import piquant
    except ImportError:
        return {}
    context = piquant.Context(os.cpu_count())
    kind, numbers = piquant.DataType.UINT4, piquant.DataType.F32
    out = np.empty(len(x) // 2, np.uint8)

    def scale() -> tuple[float, int]:
        found: tuple[float, int] = context.compute_quant_params_ptr_float32(x.data_ptr(), kind, len(x))
        return found

    def encode(mode: object, parameters: tuple[float, int]) -> None:
        context.quantize_ptr(x.data_ptr(), numbers, out.ctypes.data, kind, len(x), *parameters, mode)

    nearest, stochastic, parameters = piquant.RoundMode.NEAREST, piquant.RoundMode.STOCHASTIC, scale()
    return {
        "pi-quant, stochastic, without scale": lambda: encode(stochastic, parameters),
        "pi-quant, nearest, with scale": lambda: encode(nearest, scale()),
    }


def mixing(name: str, clients: int, columns: int, offsets: list[int], goals: dict[str, str]) -> list[Row]:
    """One round of gossip on a circulant graph, in place, from float32 and from q4 frames."""
    eye = sp.eye_array(clients, format="csr", dtype=np.float64)
    hops = [eye[np.roll(np.arange(clients), -offset)] for offset in offsets]
    weights = sp.csr_array(sum(hops, eye) / (len(offsets) + 1))
    weights.sort_indices()
    indptr, indices = weights.indptr.astype(np.int64), weights.indices.astype(np.int64)
    matrix = _bridge.MixingMatrix(indptr, indices, weights.data)
    x = torch.randn(clients, columns, generator=torch.Generator().manual_seed(0))
    y = torch.empty_like(x)
    single = weights.astype(np.float32)
    warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that torch's is a beta
    sparse = torch.sparse_csr_tensor(indptr, indices, single.data, weights.shape)
    codec = _bridge.Codec(f"q4:block={BLOCK}")
    frames = np.empty((clients, _bridge.HEADER_BYTES + codec.payload_bytes(columns)), np.uint8)
    senders = np.arange(clients, dtype=np.uint32)
    ids = {"run_id": bytes(16), "manifest": bytes(16), "round": 0, "senders": senders}
    _bridge.encode_frames(codec, x, frames, seed=1, **ids)
    checked = _bridge.check_frames(codec, frames, columns, **ids)
    candidates: dict[str, Work] = {
        "copy": lambda: y.copy_(x),
        "declora, in place": lambda: matrix.mix_in_place(y.numpy(), 1.0),
        "declora, from q4 frames": lambda: matrix.mix_frames(checked, y.numpy(), 1e-3),
        "scipy CSR @ dense": lambda: single @ x.numpy(),
        "torch.sparse CSR @ dense": lambda: sparse @ x,
    }
    size = 8 * x.numel()
    return group(f"{name}, {clients} x {columns:,}", size, size, candidates, goals)


def calls() -> list[Row]:
    """Microseconds of a call on a vector so small that only the call is left."""
    codec, x = _bridge.Codec("q4:block=32"), np.ones(32, np.float32)
    payload = np.empty(codec.payload_bytes(32), np.uint8)
    matrix = _bridge.MixingMatrix(np.array([0, 1, 2]), np.array([0, 1]), np.ones(2))
    pair, times = np.ones((2, 32), np.float32), 1000

    def repeat(call: Work) -> Work:
        return lambda: [call() for _ in range(times)]

    medians = back_to_back(
        {
            "encode": repeat(lambda: codec.encode(x, payload, seed=1, round=2, client=3)),
            "decode": repeat(lambda: codec.decode(payload, x)),
            "mix_in_place": repeat(lambda: matrix.mix_in_place(pair, 1.0)),
        }
    )
    return [
        ("call, 32 numbers", name, "", "", "", f"{median / times * 1e6:.2f} us", "", "", "< 20 us")
        for name, median in medians.items()
    ]


def main() -> None:
    """Measures, prints and writes a page of results."""
    facts = {**machine(), "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "not set")}
    ring_goals = {"declora, in place": ">= 0.8", "declora, from q4 frames": ">= 1.2"}
    powers = [1 << power for power in range(10)]
    rows = [
        *quantizer(),
        *mixing("ring", 64, 500_003, [1, 63], ring_goals),
        *mixing("exponential", 1024, 32_771, powers, {"declora, in place": ">= 0.5"}),
        *calls(),
    ]
    kinds = ["in turn", "GB/s", "x copy", "back to back", "GB/s", "x copy"]
    publish("core", "The core beside its yardsticks", facts, ["task", "by", *kinds, "goal"], rows)


if __name__ == "__main__":
    main()
