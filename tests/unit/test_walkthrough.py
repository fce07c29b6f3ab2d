"""What follows pages fails where a page is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.walkthrough import Follower, steps

PAGE = """\
Write `notes/a.txt`:

```text
one
```

```console
$ pip install nothing-of-the-kind
$ cd notes && echo two \\
    >> a.txt
$ cat a.txt; echo made in 1.5 s of 3 MB, as sha256:{digest}
one
made in 0.1 s of 31.7 MB, as sha256:{digest}
$ ls b.txt || (echo "error: none" >&2; exit 2)
error: none
```

```python
text = open("a.txt").read()  # from where the commands have gone
text.split()  # ['one', 'two']
```

<!-- not run: it would end everything -->
```console
$ exit 3
```
"""
RIGHT = PAGE.replace("{digest}", "0" * 64)

WRONG = {
    "output": ("\none\nmade", "\nthree\nmade"),
    "order": ("as sha256:" + "0" * 64 + "\n$ ls", "as sha256:" + "0" * 64 + "\none\n$ ls"),
    "a command that fails": ("$ cat a.txt;", "$ cat b.txt &&"),
    "an error that does not come": ("exit 2)", "exit 0)"),
    "python": ("['one', 'two']", "['one']"),
    "a program that fails": ('open("a.txt")', 'open("b.txt")'),
}


def follow(folder: Path, text: str) -> int:
    (folder / "page.md").write_text(text)
    (folder / "here" / "notes").mkdir(parents=True)
    return Follower(folder / "here", folder / "store").follow(folder / "page.md")


def test_a_page_that_is_true_is_followed_to_its_end(tmp_path: Path) -> None:
    assert follow(tmp_path, RIGHT) == 4
    assert [step.kind for step in steps(tmp_path / "page.md")] == ["file", "console", "python"]


@pytest.mark.parametrize(("true", "false"), WRONG.values(), ids=WRONG)
def test_a_page_that_is_wrong_is_found_out(true: str, false: str, tmp_path: Path) -> None:
    assert RIGHT.count(true) == 1
    with pytest.raises(AssertionError):
        follow(tmp_path, RIGHT.replace(true, false))
