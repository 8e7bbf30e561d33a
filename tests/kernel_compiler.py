"""Compiles kernels for GPUs that need not be there: `python tests/kernel_compiler.py` prints JSON, one entry a kernel.

Triton brings ptxas, so what the interpreter forgives (types, layouts, shapes) is found without a GPU.
"""

import json
import re

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from declora.cuda.kernels import columns, dropout, floats, mixing, quantizer

ENCODE = "*fp32 i64 *i32 i64 *i32 *i32 i32 i32 i32 i32 i32"
MIX = "i64 *fp32 i64 *i32 *i32 *fp32 *i32 fp32 i32 i32"
Q3 = {"BITS": 3, "LEVELS": 3, "BLOCK": 96}
Q4 = {"BITS": 4, "LEVELS": 7, "BLOCK": 256}
WORDS = {"SPANS": 4, "SPAN": 256}
KERNELS = (
    (80, quantizer.encode, ENCODE, {**Q3, "CHUNKS": 16, "SCALED": True}),
    (90, quantizer.encode, ENCODE, {**Q4, "CHUNKS": 16, "SCALED": False}),
    (
        90,
        quantizer.scales,
        "*fp32 i64 *i32 i64 *i32 i32 i32",
        {"LEVELS": 7, "BLOCK": 512, "EUCLIDEAN": True, "BLOCKS": 32},
    ),
    (80, floats.encode, "*fp32 i64 *fp16 i64 *i32 i32 i32", {"LIMIT": 0x477FF000, "TILE": 1024}),
    (90, floats.encode, "*fp32 i64 *i16 i64 *i32 i32 i32", {"LIMIT": 0x7F7F8000, "TILE": 1024}),
    (80, mixing.mix, f"*i32 {MIX}", {**Q3, "SPANS": 32, "SPAN": 32}),
    (90, mixing.mix, f"*i32 {MIX}", {**Q4, **WORDS}),
    (90, mixing.mix, f"*i16 {MIX}", {"BITS": 0, "LEVELS": 0, "BLOCK": 32, **WORDS}),
    (80, mixing.decode, "*i32 i64 *fp32 i64 i32 i32", {**Q4, **WORDS}),
    (90, columns.deviations, "*fp32 i64 *i32 *fp64 *fp64 i32 i32", {"WIDTH": 128}),
    (80, columns.mean, "*fp32 i64 *i32 *fp64 *fp32 *fp64 i32 i32", {"WIDTH": 128}),
    (80, dropout.masks, "*fp32 *i32 *i32 *i32 i32 i32 i32 i32 i32 i32 fp32", {"TILE": 256}),
    (90, columns.sums, "*fp64 *fp64 i32 i32", {"LENGTH": 1024, "WIDTH": 32}),
)


def compiled(capability, kernel, types, constants):
    arguments = (name for name in kernel.arg_names if name not in constants)
    signature = dict(zip(arguments, types.split(), strict=True)) | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constants)
    target = GPUTarget("cuda", capability, 32)
    found = triton.compile(source, target=target, options={"enable_fp_fusion": False})
    ptx = found.asm["ptx"]
    return {
        "kernel": kernel.__name__,
        "capability": capability,
        "bytes": len(found.asm["cubin"]),
        "fused": len(re.findall(r"\bfma\.", ptx)),
        "inexact": sorted(set(re.findall(r"\b\w+\.(?:approx|full|ftz)[.\w]*", ptx))),
    }


if __name__ == "__main__":
    print(json.dumps([compiled(*kernel) for kernel in KERNELS]))
