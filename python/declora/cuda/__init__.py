"""The core's functions for tensors on a GPU: the same names, the same bytes, the same bits.

What has no function here is the core's alone. The kernels are Triton's, which is imported with the first call.
"""

from declora.cuda.codec import Codec, Payloads
from declora.cuda.dropout import dropout_mask
from declora.cuda.launch import there
from declora.cuda.matrix import Average, MixingMatrix
from declora.cuda.products import product_distance
from declora.cuda.rows import consensus_distance, weighted_mean
from declora.cuda.transfer import to_device, to_host

__all__ = [
    "Average",
    "Codec",
    "MixingMatrix",
    "Payloads",
    "consensus_distance",
    "dropout_mask",
    "product_distance",
    "there",
    "to_device",
    "to_host",
    "weighted_mean",
]
