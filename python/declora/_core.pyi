"""The Rust core: slices in, slices out. Only `declora._bridge` imports it.

Arrays are C-contiguous numpy arrays of the dtype shown; nothing is copied and the GIL is released while the
core works. An array of another kind, a size that does not fit or an integer out of range raises
`declora.errors.ConfigError`, which names the argument, what it is and the fix. Results depend on arguments
and seeds only, never on the number of threads or the instruction set.
"""

from collections.abc import Sequence
from typing import Final, TypeVar, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HEADER_BYTES",
    "Codec",
    "MixingMatrix",
    "check_frames",
    "consensus_distance",
    "crc32c",
    "decode_frames",
    "dropout_mask",
    "encode_frames",
    "frame_bytes",
    "philox4x32_10",
    "set_threads",
    "threads",
]

_F = TypeVar("_F", np.float32, np.float64)

HEADER_BYTES: Final[int]
"""Bytes of a frame before its payload: 96."""

@final
class Codec:
    """How a flat float32 vector becomes bytes and back, without memory.

    | name | options (defaults) | what is sent |
    |---|---|---|
    | `none` | | float32, as it is |
    | `fp16`, `bf16` | | rounded to nearest even |
    | `q2` to `q8` | `block` (256), `norm` (max) | b bits a number, stochastic and uniform; one scale a block |
    | `qsgd` | `levels` (15), `block` (512), `norm` (l2) | the same, with any number of levels (arXiv 1610.02132) |
    | `natural` | | sign and a power of two, stochastic: 9 bits (arXiv 1905.10988) |
    | `sign` | `block` (256) | sign and the block's mean magnitude: 1 bit (arXiv 1901.09847) |
    | `topk` | `fraction` (0.05), `values` (q8) | the numbers of largest magnitude (arXiv 1809.07599) |
    | `randk` | `fraction` (0.05), `values` (q8) | one number of each run of n / k, times n / k (arXiv 1809.07599) |
    | `eden` | `bits` (4; 1 to 4), `block` (4096), `rotations` (2) | centroids, after a random rotation (2108.08842) |
    | `drive` | `block`, `rotations` | `eden` with one bit (arXiv 2105.08339) |
    | `powersgd` | `rank` (2), `iterations` (2), `values` (none) | each matrix as P Q^T (arXiv 1905.13727) |

    `q2` to `q8` and `qsgd` have L levels on either side of zero (2^(b-1) - 1, or `levels`) and one float32 scale s per
    block, its largest magnitude or Euclidean norm:

        V = clamp(round_half_even(x * (L/s * 65536)), -L*65536, L*65536)
        q = (V + r) >> 16,  r uniform in 0..65535 (Philox4x32-10)
        y = q * (s / L)

    so the expectation of y is x to 2^-17 of a step s / L, and |y - x| <= s / L. A block of zeros, or of values so small
    that L/s * 65536 is not finite, gives zeros. The payload is all scales (float32 little endian), then q + L in as few
    bits as hold 2L + 1 values, as one little-endian bit stream. The other payloads: `rust/core/src/codec`.

    Args:
        spec: `NAME[:OPTION=VALUE,...][+rans]`. With `+rans` the same bytes are written shorter, by an entropy coder.
        shapes: The (rows, columns) of the matrices that a message consists of, each row-major; only `powersgd` needs
            them.

    Raises:
        ConfigError: An unknown name, option or stage; the message has the nearest one.
        CodecError: An option out of range.
    """

    def __new__(cls, spec: str, *, shapes: Sequence[tuple[int, int]] = ...) -> Codec: ...
    @property
    def name(self) -> str:
        """The name of its scheme; `eden` for `drive`."""

    @property
    def block(self) -> int:
        """Values per scale; 0 for a codec without scales."""

    @property
    def id(self) -> int:
        """The 32-bit id on the wire: bytes family (128 more with `+rans`), bits or levels, norm or values, 0."""

    @property
    def unbiased(self) -> bool:
        """Whether the expectation of the decoded value is the encoded one."""

    @property
    def needs_memory(self) -> bool:
        """Whether gossip may use it only with a memory: biased by more than a rounding (sign, topk, powersgd)."""

    @property
    def variable_length(self) -> bool:
        """Whether a payload may be shorter than `payload_bytes` (with `+rans`)."""

    @property
    def elements(self) -> int | None:
        """How many values a message has, where the codec fixes it (`powersgd`)."""

    def error_bound(self, n: int) -> float:
        """Returns the largest E||z - x||^2 / ||x||^2 over all x of `n` normal floats.

        The relative variance omega of an unbiased codec, 1 - a of a contractive one. Of `eden` it is the value for long
        blocks.
        """

    def payload_bytes(self, n: int) -> int:
        """Returns the exact size in bytes of the payload of `n` values, at most 2^35; with `+rans` the most it has.

        Raises:
            ConfigError: `n` is too large, or not what the shapes of `powersgd` add up to.
        """

    def encode(self, x: NDArray[np.float32], out: NDArray[np.uint8], *, seed: int, round: int, client: int) -> int:
        """Writes the payload of `x [n]` to the start of `out [payload_bytes(n)]` and returns its length.

        Args:
            x: float32 `[n]`.
            out: uint8 `[payload_bytes(n)]`, written; zeros after the payload.
            seed: Seed of all draws, below 2^64; it draws by (seed, round, client, element).
            round: Round, below 2^32.
            client: Client, below 2^32.

        Raises:
            CodecError: A value that is not finite or too large (2^127 for q2 to q8, 65520 for fp16; the message
                has the limit and the first index), and `out` is all zeros.
        """

    def decode(self, payload: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        """Writes the values of a payload to `out [n]`, float32.

        Raises:
            FrameError: Another length than that of `n` values, or bytes that no encoder writes (a scale that is not
                finite, indices out of order ...). `out` is then as it was.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class MixingMatrix:
    """The mixing matrix W of one round: sparse rows, checked once.

    Mixing is the difference form of gossip, `x_i += gamma * sum over j != i of w_ij (z_j - z_i)` (Xiao and
    Boyd 2004): with W symmetric (or of column sums 1) the mean over clients stays, whatever z is. The terms
    of an element are added in the order of j, every product and sum rounded in the dtype of x.

    Args:
        indptr: int64 `[clients + 1]`, row pointers.
        indices: int64 `[nnz]`, the columns of each row, increasing.
        weights: float64 `[nnz]`, not negative; each row sums to 1 within 1e-9.

    Raises:
        TopologyError: A matrix that is not that; the message has the row.
    """

    def __new__(
        cls, indptr: NDArray[np.int64], indices: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> MixingMatrix: ...
    @property
    def clients(self) -> int:
        """Number of rows and columns."""

    @property
    def nnz(self) -> int:
        """Number of stored entries."""

    def mix(self, z: NDArray[_F], x: NDArray[_F], gamma: float) -> None:
        """Mixes `x [clients, D]` in place by the differences of `z [clients, D]`, of the same dtype.

        Args:
            z: float32 or float64 `[clients, D]`: what all holders take the rows to be.
            x: The rows themselves, changed.
            gamma: Consensus step size, finite; 1 applies W as it is.
        """

    def mix_in_place(self, x: NDArray[_F], gamma: float) -> None:
        """Mixes `x [clients, D]` with z = x before the call: the same bits as `mix(x.copy(), x, gamma)`."""

    def mix_frames(self, codec: Codec, frames: NDArray[np.uint8], x: NDArray[np.float32], gamma: float) -> None:
        """Decodes `frames [clients, 96 + L]` and mixes `x [clients, D]` in one pass.

        The same bits as `decode_frames` to z, then `mix(z, x, gamma)`. Headers are not read: `check_frames`
        first.

        Raises:
            FrameError: A payload that cannot be decoded. `x` is then as it was.
        """

def encode_frames(
    codec: Codec,
    x: NDArray[np.float32],
    out: NDArray[np.uint8],
    *,
    run_id: bytes,
    manifest: bytes,
    round: int,
    senders: NDArray[np.uint32],
    seed: int,
) -> None:
    """Encodes each row of `x` into a whole frame: header and payload.

    Args:
        codec: Codec of the payloads.
        x: float32 `[N, D]`.
        out: uint8 `[N, 96 + codec.payload_bytes(D)]`, written; zeros after a message that is shorter.
        run_id: 16 bytes that name the run.
        manifest: 16 bytes, the hash of what the peers agreed on.
        round: Round, below 2^32.
        senders: uint32 `[N]`, the client of each row.
        seed: Seed of the rounding, below 2^64.

    Raises:
        CodecError: A value that cannot be encoded, with the first row and index; that frame is all zeros.
    """

def check_frames(
    codec: Codec,
    frames: NDArray[np.uint8],
    d: int,
    *,
    run_id: bytes,
    manifest: bytes,
    round: int,
    senders: NDArray[np.uint32],
) -> None:
    """Checks that row i of `frames [N, 96 + L]` is the undamaged message of `senders[i]` with `d` values.

    Raises:
        FrameError: With the first row at fault and its first wrong field.
    """

def frame_bytes(codec: Codec, frames: NDArray[np.uint8], d: int) -> NDArray[np.int64]:
    """Returns the length of the message in each row of `frames [N, 96 + L]`: less than the row with `+rans`."""

def decode_frames(codec: Codec, frames: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Decodes the payloads of `frames [N, 96 + L]` into `out [N, D]`, float32; headers are not read.

    Raises:
        FrameError: A payload that cannot be decoded, with its row. `out` is then as it was.
    """

def consensus_distance(x: NDArray[np.float32]) -> float:
    """Returns sqrt(mean over i of ||x_i - mean||^2) of the rows of `x [N, D]`, summed in float64.

    Kong et al. 2021, "Consensus control for decentralized deep learning", arXiv 2102.04828.
    """

def dropout_mask(
    out: NDArray[np.float32],
    *,
    rate: float,
    seed: int,
    step: int,
    clients: NDArray[np.uint32],
    samples: NDArray[np.uint32],
) -> None:
    """Fills row i of `out` with the dropout mask of sample `samples[i]` of client `clients[i]`.

    An entry is 0 with probability `rate`, else 1 / (1 - rate); it depends on (seed, step, client, sample,
    element) only.

    Args:
        out: float32 `[rows, n]`, written.
        rate: Probability of 0 (rounded to a multiple of 2^-16), 0 <= rate < 1.
        seed: Seed, below 2^64.
        step: Step of the run, below 2^32.
        clients: uint32 `[rows]`.
        samples: uint32 `[rows]`, below 2^24.
    """

def crc32c(data: NDArray[np.uint8]) -> int:
    """Returns the CRC32C (Castagnoli, RFC 3720) of `data [n]`."""

def philox4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the four 32-bit words of Philox4x32-10 (Salmon et al., SC'11) for a counter and a key."""

def set_threads(count: int) -> None:
    """Uses `count` threads from the next call on; 0 is the default, one per core. No result depends on it."""

def threads() -> int:
    """Returns the number of threads that the core uses."""
