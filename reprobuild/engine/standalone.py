"""Programs of our own for a Python that can't read our folders: their whole text as one argument.

Knows nothing of what they do.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

_START = """\
import sys
for name, text in {texts!r}:
    sys.modules[name] = module = type(sys)(name)
    exec(compile(text, name, "exec"), module.__dict__)
module.main()
"""


def program_text(*modules: ModuleType) -> str:
    """Give a program, for ``python3 -c``, that is made of modules and calls ``main`` of the last.

    They may import each other by their full names, each those before it.
    """
    texts = [(module.__name__, Path(str(module.__file__)).read_text()) for module in modules]
    return _START.format(texts=texts)
