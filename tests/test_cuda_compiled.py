"""The kernels compile for the GPUs that they are for, and every operation is rounded by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
COMPILER = Path(__file__).parent / "kernel_compiler.py"


def test_kernels_compile_without_a_gpu_and_round_every_operation(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    shown = subprocess.run([sys.executable, COMPILER], env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    kernels = json.loads(shown.stdout)
    assert {kernel["capability"] for kernel in kernels} == {80, 90}
    assert all(kernel["bytes"] > 0 for kernel in kernels)
    assert {tuple(kernel["inexact"]) for kernel in kernels} == {()}
    # Only sums over rows ask for fused multiply-adds, as torch's do on a CPU.
    assert {kernel["kernel"] for kernel in kernels if kernel["fused"]} == {"deviations", "mean"}
