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
    "philox4x32_10",
    "product_distance",
    "push",
    "seal_frames",
    "sealed_bytes",
    "set_threads",
    "threads",
    "trimmed_mean",
]

_F = TypeVar("_F", np.float32, np.float64)

HEADER_BYTES: Final[int]
"""Bytes of a frame before its payload: 96."""

def codec_options() -> list[tuple[str, list[str]]]:
    """Returns the names of all codecs, each with the options that it takes, in the order in which it is written."""

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
    that L/s * 65536 is not finite, gives zeros. (So does, with `eden`, a block whose values are all below 2^-70, and so
    do, with `powersgd`, values below 2^-70: work on subnormal numbers would be slow.) The payload is all scales
    (float32 little endian), then q + L in as few bits as hold 2L + 1 values, as one little-endian bit stream. The other
    payloads: `rust/core/src/codec`.

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
        """Whether the expectation of the decoded vector is the encoded one.

        To 2^-17 of a step for the quantizers. Of `eden` to 2 % of the length of a block, whatever is in it, and so
        with two rotations and blocks of 4096 values or more only. On vectors of few values shorter blocks (the last
        one of a message may be) have a bias of up to 1.2 / sqrt(block), and one rotation has one of 9 to 80 % of their
        length; on dense vectors neither shows.
        """

    @property
    def keeps_product(self) -> bool:
        """Whether E<z, x> = ||x||^2 for the decoded z: all that are unbiased, every `eden`, and every `randk`.

        With an error of omega, z / (1 + omega) is then contractive: its error is 1 - 1 / (1 + omega).
        """

    @property
    def needs_memory(self) -> bool:
        """Whether gossip may use it only with a memory: what it drops is lost for good (sign, topk, powersgd)."""

    @property
    def variable_length(self) -> bool:
        """Whether a payload may be shorter than `payload_bytes` (with `+rans`)."""

    @property
    def elements(self) -> int | None:
        """How many values a message has, where the codec fixes it (`powersgd`)."""

    def error_bound(self, n: int) -> float:
        """Returns the largest E||z - x||^2 / ||x||^2 over all x of `n` normal floats.

        The relative variance omega of an unbiased codec, 1 - a of a contractive one. Of `eden` it is for the shortest
        block of the message, and the most that a search has found. Of `fp16`, also as the values of another codec, it
        is 2^-22, a relative 2^-11 a value, and holds of values from 2^-14 on, which are normal there; smaller ones, as
        B's are where LoRA begins, are off by up to 2^-25 each.
        """

    def limit(self, n: int) -> float:
        """Returns the magnitude below which numbers can be encoded in a message of `n`; infinity where all are."""

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
                finite, a code beyond the codec's levels, spare bits that are not zero, indices out of order ...).
                `out` is then as it was.
        """

    def decode_add(self, payload: NDArray[np.uint8], out: NDArray[np.float32], weight: float) -> None:
        """Adds `weight` times the values of a payload to `out [n]`, float32.

        The same bits as `decode` to z, then `out + float32(weight) * z`, both operations rounded. Codecs whose values
        can be decoded in pieces need no memory for z.

        Args:
            payload: uint8, as `encode` wrote it.
            out: float32 `[n]`, changed.
            weight: Finite as a float32.

        Raises:
            FrameError: As for `decode`. `out` is then as it was.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class MixingMatrix:
    """The mixing matrix W of one round: sparse rows, checked once.

    It is a rectangle `[local, known]`: a row for each client that is mixed here, a column for each whose values are
    known here, and for each row the place of its own client among the known. That of a whole graph, the default, is
    square, and row i is client i. Some rows of a square give the bits that they give in it.

    Mixing is the difference form of gossip, `x_i += gamma * sum over j != i of w_ij (z_j - z_i)` (Xiao and
    Boyd 2004): with W symmetric (or of column sums 1) the mean over clients stays, whatever z is. The terms
    of an element are added in the order of j, every product and sum rounded in the dtype of x.

    Args:
        indptr: int64 `[local + 1]`, row pointers.
        indices: int64 `[nnz]`, the columns of each row, increasing.
        weights: float64 `[nnz]`, not negative; each row sums to 1 within 1e-9.
        known: Number of columns; that of rows where None.
        own: int64 `[local]`, the place of each row's own client among the known, no two the same; row i's is i where
            None.

    Raises:
        TopologyError: A matrix that is not that; the message has the row.
    """

    def __new__(
        cls,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int64],
        weights: NDArray[np.float64],
        known: int | None = None,
        own: NDArray[np.int64] | None = None,
    ) -> MixingMatrix: ...
    @property
    def local(self) -> int:
        """Number of rows: the clients that are mixed here."""

    @property
    def known(self) -> int:
        """Number of columns: the clients whose values are known here."""

    @property
    def nnz(self) -> int:
        """Number of stored entries."""

    def mix(self, z: NDArray[_F], x: NDArray[_F], gamma: float) -> None:
        """Mixes `x [local, D]` in place by the differences of `z [known, D]`, of the same dtype.

        Args:
            z: float32 or float64 `[known, D]`: what all holders take the rows to be.
            x: The rows themselves, `[local, D]`, changed.
            gamma: Consensus step size, finite; 1 applies W as it is.
        """

    def mix_in_place(self, x: NDArray[_F], gamma: float) -> None:
        """Mixes `x [clients, D]` with z = x before the call: the same bits as `mix(x.copy(), x, gamma)`.

        Raises:
            TopologyError: The matrix is no square whose row i is client i.
        """

    def mix_frames(self, frames: CheckedFrames, x: NDArray[np.float32], gamma: float) -> None:
        """Decodes `frames`, one of each known client, and mixes `x [local, D]` in one pass.

        The same bits as `decode_frames` to z, then `mix(z, x, gamma)`.

        Raises:
            FrameError: A frame that was refused has a weight, or is that of a row with neighbours. `x` is then as it
                was; give the weight to somebody else first.
        """

@final
class Average:
    """The mixing matrix `1 w^T + home I` of one round, in which all clients apply the same row: w, checked once.

    Mixing is `x_i += gamma * (m - s z_i)` with `m = sum over j of w_j z_j` and s the sum of w: the difference form of
    `MixingMatrix`, at the cost of its rows, not of its n^2 weights. All is in float64, the sum in the order of j, and
    x_i is rounded once. Without `home` and with gamma 1 it is `(x_i - z_i) + m`: where z = x, all rows become the same.

    Args:
        weights: float64 `[known]`, not negative: what each client's values count, one's own among them.
        home: What each keeps for itself besides; the weights sum to 1 with it within 1e-9.

    Raises:
        TopologyError: Weights that are not that.
    """

    def __new__(cls, weights: NDArray[np.float64], home: float = 0.0) -> Average: ...
    @property
    def known(self) -> int:
        """Number of weights: the clients whose values are known here."""

    def mix(self, z: NDArray[np.float32], x: NDArray[np.float32], gamma: float, first: int) -> None:
        """Mixes `x [local, D]` in place by `z [known, D]`.

        Args:
            z: float32: what all holders take the rows to be.
            x: float32: the rows of known clients that follow each other, changed.
            gamma: Consensus step size, finite; float32 is made of it.
            first: The place of the first of these among the known.
        """

    def mix_frames(self, frames: CheckedFrames, x: NDArray[np.float32], gamma: float, first: int) -> None:
        """Decodes `frames`, one of each known client, and mixes `x [local, D]`.

        The same bits as `decode_frames` to z, then `mix(z, x, gamma, first)`.

        Raises:
            FrameError: A frame that was refused has a weight, or is that of a row of `x`. `x` is then as it was; give
                the weight to somebody else first.
        """

@final
class CheckedFrames:
    """Frames that were checked one by one, and what was found: what `check_frames` returns, and all that is decoded.

    It keeps the array, which is read-only as long as it does. `len()` is the number of frames.
    """

    def __len__(self) -> int: ...
    @property
    def refused(self) -> NDArray[np.bool_]:
        """Which frames were refused, bool `[N]`."""

    @property
    def faults(self) -> list[tuple[int, str]]:
        """The index of each frame that was refused, rising, and the first thing that is wrong with it."""

def encode_frames(
    codec: Codec,
    x: NDArray[np.float32],
    out: NDArray[np.uint8],
    *,
    run_id: bytes,
    manifest: bytes,
    round: NDArray[np.uint64],
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
        round: uint64 `[N]`, the round of each row, below 2^32.
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
    round: NDArray[np.uint64],
    senders: NDArray[np.uint32],
) -> CheckedFrames:
    """Checks whether row i of `frames [N, 96 + L]` is the undamaged message of `senders[i]` in `round[i]`.

    A frame that is not is named in the result, and the others can be used.

    Args:
        codec: Codec of the payloads.
        frames: uint8 `[N, 96 + codec.payload_bytes(d)]`; of another length all are refused.
        d: Values of each message.
        run_id: 16 bytes that name the run.
        manifest: 16 bytes, the hash of what the peers agreed on.
        round: uint64 `[N]`, the round that each row has to be of.
        senders: uint32 `[N]`, the client that each row has to be by.
    """

def frame_bytes(codec: Codec, frames: NDArray[np.uint8], d: int) -> NDArray[np.int64]:
    """Returns the length of the message in each row of `frames [N, 96 + L]`: less than the row with `+rans`."""

def decode_frames(frames: CheckedFrames, out: NDArray[np.float32]) -> None:
    """Decodes the payloads of N frames into `out [N, D]`, float32: zeros for a frame that was refused."""

def seal_frames(
    frames: NDArray[np.uint8],
    lens: NDArray[np.uint64],
    *,
    run_id: bytes,
    manifest: bytes,
    round: NDArray[np.uint64],
    senders: NDArray[np.uint32],
) -> None:
    """Writes the header in front of each payload that a codec which is not of this core has written.

    Args:
        frames: uint8 `[N, 96 + L]` with a payload after byte 96 of each row, changed: zeros after a shorter one.
        lens: uint64 `[N]`, the bytes of each payload, at most L.
        run_id: 16 bytes that name the run.
        manifest: 16 bytes, the hash of what the peers agreed on, the codec too: the headers of all such codecs have the
            same id, 127.
        round: uint64 `[N]`, the round of each row.
        senders: uint32 `[N]`, the client of each row.
    """

def sealed_bytes(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the length of the message in each row of `frames [N, 96 + L]` of `seal_frames`, as its header says."""

def open_frames(
    frames: NDArray[np.uint8],
    *,
    run_id: bytes,
    manifest: bytes,
    round: NDArray[np.uint64],
    senders: NDArray[np.uint32],
) -> tuple[NDArray[np.int64], list[tuple[int, str]]]:
    """Checks frames of `seal_frames` as `check_frames` does, but for what is in their payloads.

    Returns:
        The bytes of each payload, int64 `[N]`, 0 where a frame was refused; and the index of each frame that was
        refused, rising, with the first thing that is wrong with it.
    """

def clipped(matrix: MixingMatrix, z: NDArray[_F], radius: float) -> MixingMatrix:
    """Returns the weights under which no neighbour pulls further than `radius`: clipped gossip, arXiv 2202.01545.

    Mixed with these weights, `x_i += gamma * sum_j w_ij clip(z_j - z_i, radius)` with `clip(v, r) = v min(1, r/|v|)`.
    One neighbour pulls by at most `gamma * w_ij * radius`, whatever it sends (from a distance of 2^96 on, not at all).
    Symmetric weights stay symmetric, so the mean over clients stays.

    Args:
        matrix: W of the round; a client's neighbours are its entries above 0.
        z: float32 or float64 `[known, D]`, public values.
        radius: Not negative; infinity clips nothing.

    Raises:
        ConfigError: A value of z that is not finite (with its row and column), or a radius out of range.
    """

def clipped_beyond(matrix: MixingMatrix, z: NDArray[_F], bad: NDArray[np.uint32]) -> MixingMatrix:
    """Returns `clipped` weights with a radius for each client: the distance of its `bad[i] + 1`-th farthest neighbour.

    So at most `bad[i]` neighbours of client i are clipped. Radii differ, so the mean over clients does not stay.

    Args:
        matrix: W of the round.
        z: float32 or float64 `[known, D]`, public values.
        bad: uint32 `[local]`, neighbours of each client that are assumed to be bad.

    Raises:
        TopologyError: A client with 2 bad[i] values or fewer, its own among them.
        ConfigError: A value of z that is not finite, with its row and column.
    """

def nearest(matrix: MixingMatrix, z: NDArray[_F], bad: NDArray[np.uint32]) -> MixingMatrix:
    """Returns equal weights for the k - bad[i] of client i's k values nearest to its own: NNA, arXiv 2209.10931.

    Its own value always counts; of equally near ones the lower client. Arguments and errors as `clipped_beyond`.
    """

def krum(matrix: MixingMatrix, z: NDArray[_F], bad: NDArray[np.uint32], average: int | None = None) -> MixingMatrix:
    """Returns equal weights for the `average` of client i's k values of lowest Krum score (Blanchard et al. 2017).

    A score is the sum of the squared distances to the k - bad[i] - 2 nearest of the other values; of equal ones the
    lower client counts. Arguments and errors as `clipped_beyond`, but k is to be at least 2 bad[i] + 3; a client with
    fewer than three values of which none is bad keeps its own.

    Args:
        matrix: W of the round.
        z: float32 or float64 `[known, D]`, public values.
        bad: uint32 `[local]`, neighbours of each client that are assumed to be bad.
        average: 1 is Krum, more is multi-Krum, k - bad[i] at the most; None: k - bad[i] - 2.
    """

def trimmed_mean(matrix: MixingMatrix, z: NDArray[_F], x: NDArray[_F], bad: NDArray[np.uint32], gamma: float) -> None:
    """Moves `x_i += gamma * (R_i - z_i)`, R_i the trimmed mean of client i's values in each column (arXiv 1803.01498).

    Sums are in float64. With `gamma` 1 and z equal to x, x becomes R exactly. Arguments and errors as `clipped_beyond`.

    Args:
        matrix: W of the round, of which only the neighbours matter.
        z: float32 or float64 `[known, D]`, public values.
        x: The rows themselves, `[local, D]`, of the same dtype, changed.
        bad: uint32 `[local]`: so many lowest and highest values are left out in each column.
        gamma: Step size, finite.
    """

def median(matrix: MixingMatrix, z: NDArray[_F], x: NDArray[_F], gamma: float) -> None:
    """Moves x as `trimmed_mean` does, by the median of each column: the mean of the two in the middle if even."""

def push(
    matrix: MixingMatrix, z: NDArray[_F], x: NDArray[_F], gamma: float, own: NDArray[np.int64] | None = None
) -> None:
    """Spreads `x [local, D]` by push-sum (arXiv 1811.10792): row j of the matrix is how client j splits its own.

        x_i += gamma * (sum over j != i of m_ji z_j - (sum over j != i of m_ij) z_i)

    What one client gives another gets, so the sum over clients stays whatever z is.

    Args:
        matrix: The transpose of the column-stochastic matrix: rows of senders that sum to 1. It is a square whose row
            i is client i.
        z: float32 or float64 `[clients, D]`, public values.
        x: The rows themselves, `[local, D]`, of the same dtype, changed.
        gamma: Step size, finite.
        own: int64 `[local]`, which clients the rows of x are; all, in order, where None.

    Raises:
        TopologyError: A matrix that is not that, or a place in `own` that is not a client's, or is given twice.
    """

def consensus_distance(x: NDArray[np.float32]) -> float:
    """Returns sqrt(mean over i of ||x_i - mean||^2) of the rows of `x [N, D]`, summed in float64.

    Kong et al. 2021, "Consensus control for decentralized deep learning", arXiv 2102.04828.
    """

def product_distance(x: NDArray[np.float32], layers: NDArray[np.uint64], scalings: NDArray[np.float64]) -> float:
    """Returns how far what the rows of `x [N, D]` add to the weights of their layers is from the mean of it.

        sqrt(mean over i of the sum over layers of ||s B_i A_i - mean over j of s B_j A_j||_F^2)

    In float64, from Gram matrices of factors; no product is held as a whole. The square of the result is off by some
    (outputs + inputs + N x rank) epsilons of the mean of (||B|| ||a_i|| + ||b_i|| ||A_i||)^2, a_i and b_i being
    deviations from the means A and B.

    Args:
        x: The adapters.
        layers: uint64 `[L, 5]`: the first columns of B and of A, the rank, outputs and inputs of each layer; B is
            `[outputs, rank]` and A `[rank, inputs]`, row after row.
        scalings: float64 `[L]`, s of each.
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

def lora_forward(
    x: NDArray[np.float32],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    counts: NDArray[np.uint32],
    *,
    scaling: float,
    y: NDArray[np.float32],
    down: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Computes `y + scaling * B_c A_c x` for each token of each client c (Hu et al. 2021, arXiv 2106.09685).

    Each number is one chain of fused multiply-adds, whoever else is in the group.

    Args:
        x: float32 `[tokens, inputs]`, client by client.
        a: float32 `[clients, rank, inputs]`.
        b: float32 `[clients, outputs, rank]`.
        counts: uint32 `[clients]`: how many tokens each client has.
        scaling: LoRA's alpha / rank.
        y: float32 `[tokens, outputs]`.
        down: float32 `[tokens, rank]`, written: A_c x, for the backward pass.
        out: float32 `[tokens, outputs]`, written.
    """

def lora_backward(
    x: NDArray[np.float32],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    counts: NDArray[np.uint32],
    *,
    scaling: float,
    grad: NDArray[np.float32],
    down: NDArray[np.float32],
    grad_a: NDArray[np.float32],
    grad_b: NDArray[np.float32],
    grad_x: NDArray[np.float32] | None,
) -> None:
    """Computes the gradients of what `lora_forward` computed from the same arguments; that of y is `grad` itself.

    Args:
        x: float32 `[tokens, inputs]`, client by client.
        a: float32 `[clients, rank, inputs]`.
        b: float32 `[clients, outputs, rank]`.
        counts: uint32 `[clients]`: how many tokens each client has.
        scaling: LoRA's alpha / rank.
        grad: float32 `[tokens, outputs]`: the gradient of `out`.
        down: float32 `[tokens, rank]`, as `lora_forward` wrote it.
        grad_a: float32 `[clients, rank, inputs]`, written.
        grad_b: float32 `[clients, outputs, rank]`, written.
        grad_x: float32 `[tokens, inputs]`, written, or None where it is not needed.
    """

def crc32c(data: NDArray[np.uint8]) -> int:
    """Returns the CRC32C (Castagnoli, RFC 3720) of `data [n]`."""

def philox4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the four 32-bit words of Philox4x32-10 (Salmon et al., SC'11) for a counter and a key."""

def level() -> str:
    """Returns the instruction set that the kernels use: `portable`, `avx2` or `avx512`. No result depends on it."""

def set_threads(count: int) -> None:
    """Uses `count` threads from the next call on; 0 is the default, one per core. No result depends on it.

    A forked child starts threads of its own, as many as its parent used.
    """

def threads() -> int:
    """Returns the number of threads that the core uses."""
