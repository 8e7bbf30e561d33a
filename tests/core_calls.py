"""Short calls of the core that its tests share."""

import numpy as np
import scipy.sparse as sp

from declora import _bridge

NAMES = ("none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8")
DRAWS = {"seed": 7, "round": 3, "client": 11}
IDS = {"run_id": b"0123456789abcdef", "manifest": bytes(range(16)), "round": 4}


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
    senders = np.arange(len(x), dtype=np.uint32) if senders is None else senders
    out = np.empty((len(x), _bridge.HEADER_BYTES + codec.payload_bytes(x.shape[1])), np.uint8)
    _bridge.encode_frames(codec, x, out, senders=senders, seed=5, **IDS)
    return out


def ring(n):
    eye = sp.eye_array(n, format="csr")
    return (eye + eye[np.roll(np.arange(n), 1)] + eye[np.roll(np.arange(n), -1)]).tocsr() / 3


def matrix(weights):
    weights = sp.csr_array(weights)
    weights.sort_indices()
    return _bridge.MixingMatrix(
        weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data.astype(np.float64)
    )
