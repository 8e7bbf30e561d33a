"""The one doorway to the Rust core: arrays or CPU tensors in, results written in place, nothing copied.

Shapes, dtypes, units and errors are those of `_core.pyi`. The methods of the core's classes take numpy arrays; the
functions here also take CPU tensors, which they view as arrays of the same memory.
"""

from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from declora import _core  # noqa: TID251 (this is the one place)
from declora._core import (  # noqa: TID251
    HEADER_BYTES,
    Average,
    CheckedFrames,
    Codec,
    MixingMatrix,
    codec_options,
    level,
    set_threads,
    threads,
)
from declora.errors import ConfigError, FrameError

if TYPE_CHECKING:
    import torch

Array: TypeAlias = Union[NDArray[Any], "torch.Tensor"]

__all__ = [
    "HEADER_BYTES",
    "Array",
    "Average",
    "CheckedFrames",
    "Codec",
    "MixingMatrix",
    "check_frames",
    "clipped",
    "clipped_beyond",
    "codec_options",
    "consensus_distance",
    "crc32c",
    "decode_frames",
    "dropout_mask",
    "encode_frames",
    "frame_bytes",
    "krum",
    "level",
    "lora_backward",
    "lora_forward",
    "median",
    "nearest",
    "open_frames",
    "product_distance",
    "push",
    "seal_frames",
    "sealed_bytes",
    "set_threads",
    "threads",
    "trimmed_mean",
]


def encode_frames(
    codec: Codec,
    x: Array,
    out: Array,
    *,
    run_id: bytes,
    manifest: bytes,
    round: int | Array,
    senders: Array,
    seed: int,
) -> None:
    """Encodes row i of `x`, float32 `[N, D]`, into frame i of `out`, uint8 `[N, 96 + L]`; see `check_frames`."""
    _core.encode_frames(
        codec,
        _array("x", x),
        _array("out", out),
        run_id=run_id,
        manifest=manifest,
        round=_each("round", round, len(senders)),
        senders=_array("senders", senders),
        seed=seed,
    )


def check_frames(
    codec: Codec,
    frames: Array,
    d: int,
    *,
    run_id: bytes,
    manifest: bytes,
    round: int | Array,
    senders: Array,
    partial: bool = False,
) -> CheckedFrames:
    """Checks whether row i of `frames`, uint8 `[N, 96 + L]`, is the message of `senders[i]` in `round`.

    Args:
        codec: What the payloads are decoded with.
        frames: As they arrived.
        d: Columns of a decoded row.
        run_id: 16 bytes, of the run.
        manifest: 16 bytes, of what its sites agreed on.
        round: Of all frames, or uint64 `[N]`, of each.
        senders: uint32 `[N]`.
        partial: Whether frames that are refused are only listed (`CheckedFrames.faults`).

    Raises:
        FrameError: A frame is refused, and not `partial`.
    """
    checked = _core.check_frames(
        codec,
        _array("frames", frames),
        d,
        run_id=run_id,
        manifest=manifest,
        round=_each("round", round, len(senders)),
        senders=_array("senders", senders),
    )
    if checked.faults and not partial:
        row, why = checked.faults[0]
        raise FrameError(f"the message of client {senders[row]} was refused: {why}")
    return checked


def frame_bytes(codec: Codec, frames: Array, d: int) -> NDArray[np.int64]:
    """Returns the length of the message in each row of `frames`, uint8 `[N, 96 + L]`, as int64 `[N]`."""
    return _core.frame_bytes(codec, _array("frames", frames), d)


def decode_frames(frames: CheckedFrames, out: Array) -> None:
    """Decodes the payloads of N frames to `out`, float32 `[N, D]`; zeros for those that were refused."""
    _core.decode_frames(frames, _array("out", out))


def seal_frames(
    frames: Array, lens: Array, *, run_id: bytes, manifest: bytes, round: int | Array, senders: Array
) -> None:
    """Writes the headers of `frames`, uint8 `[N, 96 + L]`, whose payloads of `lens`, uint64 `[N]`, bytes are there."""
    _core.seal_frames(
        _array("frames", frames),
        _array("lens", lens),
        run_id=run_id,
        manifest=manifest,
        round=_each("round", round, len(senders)),
        senders=_array("senders", senders),
    )


def sealed_bytes(frames: Array) -> NDArray[np.int64]:
    """Returns the length of the message in each row of `frames`, uint8 `[N, 96 + L]`, of `seal_frames`, int64 `[N]`."""
    return _core.sealed_bytes(_array("frames", frames))


def open_frames(
    frames: Array, *, run_id: bytes, manifest: bytes, round: int | Array, senders: Array
) -> tuple[NDArray[np.int64], list[tuple[int, str]]]:
    """Checks frames that `seal_frames` made, as `check_frames` does, but for what is in their payloads.

    Returns:
        The bytes of each payload, int64 `[N]`, and the rows that are refused, each with the reason.
    """
    return _core.open_frames(
        _array("frames", frames),
        run_id=run_id,
        manifest=manifest,
        round=_each("round", round, len(senders)),
        senders=_array("senders", senders),
    )


def clipped(matrix: MixingMatrix, z: Array, radius: float) -> MixingMatrix:
    """Returns the weights of clipped gossip for the public values `z [known, D]` and one radius."""
    return _core.clipped(matrix, _array("z", z), radius)


def clipped_beyond(matrix: MixingMatrix, z: Array, bad: Array) -> MixingMatrix:
    """Returns the weights of clipped gossip with the radii that clip at most `bad`, uint32 `[local]`, neighbours."""
    return _core.clipped_beyond(matrix, _array("z", z), _array("bad", bad))


def nearest(matrix: MixingMatrix, z: Array, bad: Array) -> MixingMatrix:
    """Returns the weights of nearest-neighbour averaging of `z [known, D]`; `bad` is uint32 `[local]`."""
    return _core.nearest(matrix, _array("z", z), _array("bad", bad))


def krum(matrix: MixingMatrix, z: Array, bad: Array, average: int | None = None) -> MixingMatrix:
    """Returns the weights of Krum (`average=1`) or multi-Krum of `z [known, D]`; `bad` is uint32 `[local]`."""
    return _core.krum(matrix, _array("z", z), _array("bad", bad), average)


def trimmed_mean(matrix: MixingMatrix, z: Array, x: Array, bad: Array, gamma: float) -> None:
    """Moves `x [local, D]` towards the trimmed mean of each neighbourhood of `z`, both float32 or both float64."""
    _core.trimmed_mean(matrix, _array("z", z), _array("x", x), _array("bad", bad), gamma)


def median(matrix: MixingMatrix, z: Array, x: Array, gamma: float) -> None:
    """Moves `x [local, D]` towards the median of each neighbourhood of `z`, both float32 or both float64."""
    _core.median(matrix, _array("z", z), _array("x", x), gamma)


def push(matrix: MixingMatrix, z: Array, x: Array, gamma: float, own: Array | None = None) -> None:
    """Spreads `z [clients, D]` over `x [local, D]`, the rows of `own`, by the rows of senders `matrix`: push-sum."""
    _core.push(matrix, _array("z", z), _array("x", x), gamma, None if own is None else _array("own", own))


def consensus_distance(x: Array) -> float:
    """Returns the consensus distance of the rows of `x`, float32 `[N, D]`."""
    return _core.consensus_distance(_array("x", x))


def product_distance(x: Array, layers: Array, scalings: Array) -> float:
    """Returns the consensus distance of the products of factors in the rows of `x`, float32 `[N, D]`."""
    return _core.product_distance(_array("x", x), _array("layers", layers), _array("scalings", scalings))


def dropout_mask(out: Array, *, rate: float, seed: int, step: int, clients: Array, samples: Array) -> None:
    """Fills row i of `out`, float32 `[rows, n]`, with the dropout mask of `samples[i]` of `clients[i]`."""
    _core.dropout_mask(
        _array("out", out),
        rate=rate,
        seed=seed,
        step=step,
        clients=_array("clients", clients),
        samples=_array("samples", samples),
    )


def lora_forward(
    x: Array, a: Array, b: Array, counts: Array, *, scaling: float, y: Array, down: Array, out: Array
) -> None:
    """Writes A x to `down [tokens, rank]` and y + scaling B A x to `out [tokens, outputs]`, client by client."""
    _core.lora_forward(
        _array("x", x),
        _array("a", a),
        _array("b", b),
        _array("counts", counts),
        scaling=scaling,
        y=_array("y", y),
        down=_array("down", down),
        out=_array("out", out),
    )


def lora_backward(
    x: Array,
    a: Array,
    b: Array,
    counts: Array,
    *,
    scaling: float,
    grad: Array,
    down: Array,
    grad_a: Array,
    grad_b: Array,
    grad_x: Array | None,
) -> None:
    """Writes the gradients of what `lora_forward` computed to `grad_a`, `grad_b` and, where there is one, `grad_x`."""
    _core.lora_backward(
        _array("x", x),
        _array("a", a),
        _array("b", b),
        _array("counts", counts),
        scaling=scaling,
        grad=_array("grad", grad),
        down=_array("down", down),
        grad_a=_array("grad_a", grad_a),
        grad_b=_array("grad_b", grad_b),
        grad_x=None if grad_x is None else _array("grad_x", grad_x),
    )


def crc32c(data: Array) -> int:
    """Returns the CRC32C of `data`, uint8 `[n]`."""
    return _core.crc32c(_array("data", data))


def _each(name: str, value: int | Array, count: int) -> NDArray[Any]:
    """Returns one number as that of each of `count` rows, uint64 `[count]`."""
    if not isinstance(value, int):
        return _array(name, value)
    if not 0 <= value < 2**32:
        raise ConfigError(f"{name}={value} cannot be used: it must be from 0 to 2^32 - 1.")
    return np.full(count, value, dtype=np.uint64)


def _array(name: str, value: Array) -> NDArray[Any]:
    """Returns `value` as an array of the same memory; the core then checks its dtype and layout."""
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "detach"):
        kind = type(value).__name__
        raise ConfigError(f"{name} is a {kind}, but must be a numpy array or a CPU tensor; use numpy.asarray.")
    if value.device.type != "cpu":
        raise ConfigError(f"{name} is on {value.device}, but the core works on the CPU; use {name}.cpu().")
    try:
        return value.detach().numpy()
    except TypeError as error:
        raise ConfigError(f"{name} has dtype {value.dtype}, which numpy lacks; use {name}.float().") from error
