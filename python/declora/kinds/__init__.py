"""Defines kinds of settings: what each may be, how a text of the command line is read as one, and as what it is kept.

A kind judges values that may be anything, before anything is loaded or written. What it returns is plain Python: a
numpy integer is the whole number that it is, so that files and digests do not depend on what made it.
"""

from declora.kinds.kind import Kind, parse_value
from declora.kinds.lora import LORA_FIELDS, one_of_all
from declora.kinds.objects import Given, Objects, Source, Table, Tables
from declora.kinds.texts import Choice, Choices, Name, Place, Text, Texts
from declora.kinds.values import Bytes, Real, Switch, Whole, Wholes

__all__ = [
    "LORA_FIELDS", "Bytes", "Choice", "Choices", "Given", "Kind", "Name", "Objects", "Place", "Real", "Source",
    "Switch", "Table", "Tables", "Text", "Texts", "Whole", "Wholes", "one_of_all", "parse_value",
]  # fmt: skip
