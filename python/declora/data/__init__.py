"""Loads text from a file, a folder, the hub or memory, and divides it over the clients."""

from typing import TYPE_CHECKING

from declora.lazily import exports

if TYPE_CHECKING:
    from declora.data.loading import load
    from declora.data.partition_specs import parse_partition
    from declora.data.partitioner import Partitioner
    from declora.data.partitions import Partition, partition
    from declora.data.public import load_public
    from declora.data.text_data import TextData

__all__ = [
    "Partition",
    "Partitioner",
    "TextData",
    "load",
    "load_public",
    "parse_partition",
    "partition",
]

__getattr__ = exports(
    __name__,
    {
        "Partition": "partitions",
        "Partitioner": "partitioner",
        "TextData": "text_data",
        "load": "loading",
        "load_public": "public",
        "parse_partition": "partition_specs",
        "partition": "partitions",
    },
)
