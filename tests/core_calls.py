"""Short calls of the core that its tests share."""

import numpy as np
import scipy.sparse as sp

from declora import _bridge
from declora import _core as core  # noqa: TID251 (tests also call what the package does not)

__all__ = [
    "DRAWS",
    "NAMES",
    "checked",
    "core",
    "csr",
    "decoded",
    "encoded",
    "framed",
    "ids",
    "matrix",
    "normal",
    "rectangle",
    "ring",
]

NAMES = ("none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8")
DRAWS = {"seed": 7, "round": 3, "client": 11}
RUN = {"run_id": b"0123456789abcdef", "manifest": bytes(range(16))}


def ids(n, round=4):
    """What the headers of `n` messages say, those of clients 0 to n - 1."""
    return RUN | {"round": np.full(n, round, np.uint64), "senders": np.arange(n, dtype=np.uint32)}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def encoded(codec, x, **draws):
    out = np.full(codec.payload_bytes(len(x)), 0xAA, np.uint8)
    codec.encode(x, out, **(DRAWS | draws))
    return out


def decoded(codec, payload, n):
    out = np.full(n, np.nan, np.float32)
    codec.decode(payload, out)
    return out


def framed(codec, x, senders=None):
    names = ids(len(x)) if senders is None else ids(len(x)) | {"senders": senders}
    out = np.empty((len(x), _bridge.HEADER_BYTES + codec.payload_bytes(x.shape[1])), np.uint8)
    _bridge.encode_frames(codec, x, out, seed=5, **names)
    return out


def checked(codec, frames, d, **names):
    """The frames of `framed`, which are to be as they were."""
    return _bridge.check_frames(codec, frames, d, **(ids(len(frames)) | names))


def ring(n):
    eye = sp.eye_array(n, format="csr")
    return (eye + eye[np.roll(np.arange(n), 1)] + eye[np.roll(np.arange(n), -1)]).tocsr() / 3


def csr(weights):
    weights = sp.csr_array(weights)
    weights.sort_indices()
    return {
        "indptr": weights.indptr.astype(np.int64),
        "indices": weights.indices.astype(np.int64),
        "weights": weights.data.astype(np.float64),
    }


def matrix(weights):
    return _bridge.MixingMatrix(**csr(weights))


def rectangle(weights, rows):
    """The rows `rows` of a square matrix, as those of these clients among all."""
    weights = sp.csr_array(weights)
    return _bridge.MixingMatrix(**csr(weights[rows]), known=weights.shape[0], own=np.array(rows))
