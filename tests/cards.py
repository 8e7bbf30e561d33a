"""What the tests of kernels share: they run on a GPU where there is one, else under Triton's interpreter."""

import numpy as np
import pytest
import torch

from core_calls import RUN
from declora import _bridge, cuda

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_card(array):
    return torch.from_numpy(np.array(array)).to(DEVICE)


def same_bits(tensor, array):
    found = tensor.cpu().numpy()
    return found.shape == array.shape and found.tobytes() == array.tobytes()


def by_core(text, x, *, seed=9, round=3, senders=None):
    """The payloads of the core, and what they decode to: uint8 `[N, L]`, float32 `[N, D]`, and the proof of both."""
    codec = _bridge.Codec(text)
    names = RUN | {"round": round, "senders": np.arange(len(x), dtype=np.uint32) if senders is None else senders}
    frames = np.empty((len(x), _bridge.HEADER_BYTES + codec.payload_bytes(x.shape[1])), np.uint8)
    _bridge.encode_frames(codec, x, frames, seed=seed, **names)
    proof = _bridge.check_frames(codec, frames, x.shape[1], **names)
    z = np.empty_like(x)
    _bridge.decode_frames(proof, z)
    return np.ascontiguousarray(frames[:, _bridge.HEADER_BYTES :]), z, proof


def by_card(text, x, *, seed=9, round=3, senders=None):
    """The payloads that the kernels make."""
    codec = cuda.Codec.of(str(_bridge.Codec(text)))
    senders = np.arange(len(x), dtype=np.uint32) if senders is None else senders
    return codec.encode(on_card(x), seed=seed, round=round, senders=on_card(senders))
