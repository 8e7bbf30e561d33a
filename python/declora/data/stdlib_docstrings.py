"""Makes a real text classification task without a download: the docstrings of Python's standard library.

The sources of the running Python are parsed with `ast`, never imported. A sample is the beginning of one
docstring (module, public class, public function or method), its label the area of the library reference
that its module belongs to (`stdlib_areas`). The texts are those of the running Python, so they differ a
little between Python versions; on one version they are the same on every machine.
"""

import ast
import functools
import hashlib
import inspect
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import datasets

from declora.data.stdlib_areas import AREA_OF, AREAS
from declora.errors import DataError

__all__ = ["docstring_text", "load_stdlib_docstrings", "split_of"]

MIN_CHARACTERS = 20
MAX_CHARACTERS = 400
VALIDATION_PERCENT = 15

_SKIPPED_FOLDERS = frozenset({"__pycache__", "test", "tests", "site-packages", "idle_test"})
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def load_stdlib_docstrings() -> datasets.DatasetDict:
    """Returns the task: splits `train` and `validation` with columns `text`, `label`, `module`, `name`.

    `label` is a `ClassLabel` over `AREAS`; `module` is the top-level module (a natural `column:module`
    partition); `name` is the dotted name of the documented object. Rows come in the order of file path and
    position, each text once: the first of several equal ones, letter case, spaces and punctuation aside.
    `split_of` says which split an object is in.

    Raises:
        DataError: This Python has no standard library sources (a zipped or stripped installation).
    """
    root = Path(sysconfig.get_path("stdlib"))
    rows: dict[str, list[dict[str, str]]] = {"train": [], "validation": []}
    seen: set[str] = set()
    for path, module in _source_files(root):
        for name, docstring in _docstrings(path):
            text = docstring_text(docstring)
            key = re.sub(r"\W+", "", text).casefold()
            if len(text) < MIN_CHARACTERS or key in seen:
                continue
            seen.add(key)
            top = module.partition(".")[0]
            full_name = f"{module}.{name}" if name else module
            row = {"text": text, "label": AREA_OF[top], "module": top, "name": full_name}
            rows[split_of(module, name)].append(row)
    found = {row["label"] for row in rows["train"]} & {row["label"] for row in rows["validation"]}
    if missing := sorted(set(AREAS) - found):
        raise DataError(
            f"data='stdlib-docstrings' finds no docstrings for {', '.join(missing)} in {root}: this Python has "
            "no (complete) standard library sources. Install a full Python or pass a file as data."
        )
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(AREAS)),
            "module": datasets.Value("string"),
            "name": datasets.Value("string"),
        }
    )
    return datasets.DatasetDict({split: datasets.Dataset.from_list(rows[split], features=features) for split in rows})


def split_of(module: str, name: str) -> str:
    """Returns `"train"` or, for about 15 in 100 objects, `"validation"`.

    It depends on the object alone (BLAKE2b of its module and qualified name), not on the order or number of
    the others, so an object stays in its split when Python gains or loses modules.
    """
    digest = hashlib.blake2b(f"{module}:{name}".encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "little") % 100 < VALIDATION_PERCENT else "train"


def docstring_text(docstring: str) -> str:
    """Returns the first paragraphs of a docstring as one line of at most 400 characters, or `""`.

    Paragraphs are taken whole while they fit; a first one that is too long is cut at a space. The text ends
    before the first doctest, underline or table, which is not prose.
    """
    text = ""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = [line.strip() for line in paragraph.splitlines()]
        prose = next((i for i, line in enumerate(lines) if re.match(r">>>|([-=~*+#_|])\1{2}", line)), len(lines))
        joined = " ".join(" ".join(lines[:prose]).split())
        if text and len(text) + 1 + len(joined) > MAX_CHARACTERS:
            break
        text = f"{text} {joined}".strip()
        if prose < len(lines):
            break
    if len(text) > MAX_CHARACTERS:
        text = text[: text.rfind(" ", 0, MAX_CHARACTERS + 1)] if " " in text[:MAX_CHARACTERS] else ""
    return text


def _source_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yields each source file of the mapped modules with its dotted module name, in a fixed order."""
    for top in sorted(AREA_OF):
        if (root / f"{top}.py").is_file():
            yield root / f"{top}.py", top
        for path in sorted((root / top).rglob("*.py"), key=lambda path: path.as_posix()):
            parts = path.relative_to(root).with_suffix("").parts
            if not _SKIPPED_FOLDERS.intersection(parts):
                yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (qualified name, raw docstring) of a file's module, public classes and public functions."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # deliberately broken sources of a tool's own fixtures
        return
    yield from _documented(tree, "")


def _documented(node: _Documented, name: str) -> Iterator[tuple[str, str]]:
    if docstring := ast.get_docstring(node, clean=False):
        yield name, docstring
    if not isinstance(node, ast.Module | ast.ClassDef):
        return  # functions inside functions are nobody's interface
    pending: list[ast.stmt] = list(reversed(node.body))
    while pending:
        statement = pending.pop()
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not statement.name.startswith("_"):
                yield from _documented(statement, f"{name}.{statement.name}".lstrip("."))
        elif isinstance(statement, ast.If | ast.Try):
            handlers = [s for handler in getattr(statement, "handlers", []) for s in handler.body]
            pending += reversed([*statement.body, *handlers, *statement.orelse])
