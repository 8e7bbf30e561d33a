"""Says which area of the library reference each top-level module of the standard library belongs to.

The areas follow the chapters of the Python Library Reference, joined where a chapter alone has few
docstrings. Only modules that exist in every supported Python (3.11 and later) and on every installation are
listed: the modules removed by PEP 594, `distutils`, `lib2to3`, `imp`, `asyncore` and the packages that Linux
distributions ship apart (`tkinter`, `idlelib`, `turtle`, `test`) are left out, so the classes are the same
everywhere.
"""

__all__ = ["AREAS", "AREA_OF"]

# A leading underscore marks the Python source of a public module (`_pydecimal` is `decimal`, ...).
_MODULES = {
    "concurrency": """
        asyncio concurrent multiprocessing queue sched selectors signal socket ssl subprocess threading
        _threading_local _weakrefset contextvars
    """,
    "data types": """
        _collections_abc _py_abc _pydatetime _pydecimal _pylong _strptime abc array bisect calendar
        collections copy copyreg datetime decimal enum fractions functools graphlib heapq numbers
        operator pprint random reprlib statistics types typing weakref zoneinfo
    """,
    "debugging and testing": """
        bdb cProfile cmd doctest faulthandler pdb profile pstats pydoc timeit trace traceback
        tracemalloc unittest logging warnings
    """,
    "files": """
        _compression _pyio bz2 compression dbm filecmp fileinput fnmatch genericpath glob gzip io
        linecache lzma netrc ntpath os pathlib pickle pickletools plistlib posixpath shelve shutil
        sqlite3 stat tarfile tempfile zipfile
    """,
    "internet": """
        ftplib hashlib hmac http imaplib ipaddress poplib secrets smtplib socketserver urllib uuid
        webbrowser wsgiref xmlrpc nturl2path
    """,
    "language": """
        __future__ ast code codeop compileall contextlib ctypes dataclasses dis ensurepip importlib
        inspect keyword modulefinder opcode pkgutil platform py_compile pyclbr runpy site symtable
        sysconfig tabnanny tokenize venv zipapp zipimport annotationlib
    """,
    "markup and mail": """
        _markupbase base64 email html json mailbox mimetypes quopri tomllib xml
    """,
    "text": """
        argparse codecs configparser csv curses difflib getopt getpass gettext locale optparse re
        rlcompleter shlex string stringprep textwrap
    """,
}

AREAS: tuple[str, ...] = tuple(sorted(_MODULES))
"""The class names, in the order of the class index."""

AREA_OF: dict[str, str] = {module: area for area in AREAS for module in _MODULES[area].split()}
"""Area by top-level module name."""
