"""Makes files outside of docs/ that pages link to part of the site, as they are, below `files/`."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)(?:#[^)\s]*)?\)")
_ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Returns the text of a page with links that lead out of docs/ to where the site has those files."""

    def lead(link: re.Match[str]) -> str:
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[2]))
        if not inside.startswith("../"):
            return link[0]
        path = inside.removeprefix("../")
        source = _ROOT / path
        if not source.is_file():  # a folder, which a site has no page of
            return link[1]
        # A browser shows a text file; what ends with .md would be taken for a page.
        uri = f"files/{path}.txt"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=source.read_bytes()))
        return f"[{link[1]}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')})"

    return _LINK.sub(lead, markdown)
