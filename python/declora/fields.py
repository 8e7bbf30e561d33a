"""Reads the fields of a configuration off its class: an annotation says what a field may be, its text what it means."""

import ast
import inspect
import itertools
import textwrap
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from declora.kinds import Choice, Kind, Real, Switch, Text, Whole

__all__ = ["LOADED", "SHARED", "Field", "Section", "list_fields", "read_fields"]

LOADED = "loaded"
"""Marks, in an annotation, what decides about data, tokens and base model; runs that agree on it can share them."""
SHARED = "shared"
"""Marks, in an annotation, what a comparison has once for all of its runs."""

_KINDS: dict[object, Kind] = {bool: Switch(), int: Whole(least=0), float: Real(), str: Text()}


@dataclass(frozen=True)
class Section:
    """Stands as a heading in the body of a class: the fields below it, down to the next heading, belong to it."""

    title: str
    about: str = ""


@dataclass(frozen=True)
class Field:
    """Holds what there is to know about a field."""

    name: str
    section: Section
    kind: Kind
    optional: bool
    """Whether it may be None."""
    loaded: bool
    """Whether it is marked by `LOADED`."""
    shared: bool
    """Whether it is marked by `SHARED`."""
    text: str
    """What it means: the text under it."""

    def check(self, value: Any) -> Any:
        """Returns `value` as it is kept.

        Raises:
            ConfigError: The field cannot be that.
        """
        return None if value is None and self.optional else self.kind.check(self.name, value)

    def parse(self, text: str) -> Any:
        """Returns what `text` means; `none` is no value where there may be none, else a name like any other."""
        return None if self.optional and text.lower() == "none" else self.kind.parse(text)


def read_fields(cls: type) -> Mapping[str, Field]:
    """Returns the fields of a class by name, in order.

    A kind that stands in an annotation is the field's own (`Annotated[int, Whole(least=1)]`); where there is none, the
    type says enough (`bool`, `Literal["linear", "cosine"]`). With `| None` it may be None. Fields above any heading are
    in a section "Settings".
    """
    fields, section, texts = {}, Section("Settings"), _texts(cls)
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if isinstance(heading := getattr(cls, name, None), Section):
            section = heading
        else:
            fields[name] = _read(name, hint, section, texts.get(name, ""))
    return fields


def list_fields(fields: Mapping[str, Field]) -> str:
    """Returns the fields with their texts, under the headings of their sections."""
    lines = []
    for section, below in itertools.groupby(fields.values(), key=lambda field: field.section):
        lines.append(f"{section.title}: {section.about}")
        lines += [f"    {field.name}: " + field.text.replace("\n", "\n        ") for field in below]
        lines.append("")
    return "\n".join(lines)


def _read(name: str, hint: Any, section: Section, text: str) -> Field:
    plain, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    union = get_args(plain) if get_origin(plain) in (Union, types.UnionType) else (plain,)
    types_ = [part for part in union if part is not types.NoneType]
    kind = next((mark for mark in marks if isinstance(mark, Kind)), None) or _kind_of(types_[0])
    return Field(name, section, kind, len(types_) < len(union), LOADED in marks, SHARED in marks, text)


def _kind_of(plain: Any) -> Kind:
    return Choice(get_args(plain)) if get_origin(plain) is Literal else _KINDS[plain]


def _texts(cls: type) -> dict[str, str]:
    """Returns the text under each field of a class, from its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(str(text.value.value))
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
