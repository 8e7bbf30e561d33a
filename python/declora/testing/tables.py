"""Shows reports as tables, and lists the codecs and topologies that declora itself is held to."""

from collections.abc import Iterable

import pandas as pd

from declora.testing.codecs import CodecReport
from declora.testing.matrices import MatrixReport

__all__ = ["CODECS", "TOPOLOGIES", "codec_table", "matrix_table"]

CODECS = (
    "none", "fp16", "bf16", "q2", "q3", "q4", "q8", "qsgd", "qsgd:levels=1", "natural", "sign", "topk",
    "topk:fraction=0.01", "randk", "eden", "eden:bits=3", "eden:bits=2", "drive", "drive:rotations=1", "drive:block=32",
    "powersgd", "none+rans", "bf16+rans",
    "q2+rans", "q3+rans", "q4+rans", "q8+rans", "qsgd+rans", "natural+rans", "topk+rans", "eden:bits=2+rans",
)  # fmt: skip
TOPOLOGIES = (
    "ring", "torus", "path", "star", "complete", "hypercube", "random-regular", "erdos-renyi", "watts-strogatz",
    "exponential", "one-peer-exponential", "base:1", "base:2",
)  # fmt: skip


def codec_table(reports: Iterable[CodecReport]) -> pd.DataFrame:
    """Returns one row per codec: bits a number, error, bound, bias, drift of the mean, and the verdict."""
    return pd.DataFrame(
        {
            "codec": report.name,
            "bits a number": f"{report.bits:.2f}",
            "error, normal": f"{report.error:.2g}",
            "error, worst input": f"{report.worst_error:.2g}",
            "bound": "–" if report.bound is None else f"{report.bound:.2g}",
            "unbiased": "yes" if report.unbiased else "no",
            "bias found": f"{report.bias:.2g}",
            "mean moves by": f"{report.mean_drift:.0e}",
            "verdict": "; ".join(report.failures) or "passed",
        }
        for report in reports
    )


def matrix_table(reports: Iterable[MatrixReport]) -> pd.DataFrame:
    """Returns one row per matrix: clients, period, sums, symmetry, spectral gap, contraction, and the verdict."""
    return pd.DataFrame(
        {
            "topology": report.name,
            "clients": str(report.clients),
            "rounds": str(report.period),
            "rows to 1 within": f"{report.row_error:.0e}",
            "columns": f"{report.column_error:.0e}",
            "symmetric": "yes" if report.symmetric else "no",
            "connected": "yes" if report.connected else "no",
            "spectral gap": f"{report.spectral_gap:.4f}",
            "a round leaves": f"{report.contraction:.3f}",
            "mean moves by": f"{report.mean_drift:.0e}",
            "verdict": "; ".join(report.failures) or "passed",
        }
        for report in reports
    )
