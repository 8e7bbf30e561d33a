"""Measures the facts that any codec and any mixing matrix of gossip must have: the conformance kit.

    from declora import testing
    testing.check_codec("eden:bits=2").raise_if_failed()
    testing.check_codec(MyCodec())           # any object with encode and decode
    testing.check_matrix(my_matrix).raise_if_failed()

`declora conformance` prints the tables. Nothing here is needed at run time.
"""

from declora.testing.codecs import CodecLike, CodecReport, check_codec
from declora.testing.matrices import MatrixReport, check_matrix, load_matrix
from declora.testing.tables import CODECS, TOPOLOGIES, codec_table, matrix_table

__all__ = [
    "CODECS",
    "TOPOLOGIES",
    "CodecLike",
    "CodecReport",
    "MatrixReport",
    "check_codec",
    "check_matrix",
    "codec_table",
    "load_matrix",
    "matrix_table",
]
