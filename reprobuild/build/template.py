"""The texts that a new recipe begins with: a recipe that works, its program, its tests, its README.

Knows nothing of where they are written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from reprobuild.derivation.recipe import is_version
from reprobuild.errors import UsageError

LONGEST = 1000
"""Characters of what is said of a recipe in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a model before its recipe is written; empty: not known yet."""

    title: str = ""
    """What it is, in a line: the recipe's docstring, and what ``list`` shows."""
    publication: str = ""
    """``Jane Smith: Reversing Texts. ACL 2024``"""
    repository: str = ""
    """Where its code is."""
    licence: str = ""
    """An SPDX expression, where there is one."""
    version: str = ""
    """Of the recipe: the first part of its tags."""

    def __post_init__(self) -> None:
        """Raise UsageError for what is no line of text, or no version."""
        for one in fields(self):
            text = getattr(self, one.name)
            if len(text) > LONGEST or not all(character.isprintable() for character in text):
                raise UsageError(f"the {one.name} is to be one line of text, not {text[:100]!r}")
        if self.version and not is_version(self.version):
            raise UsageError(
                f"{self.version!r} is no version", "letters, digits, '.', '_' and '-', as in a tag: 1.0"
            )


FIRST_VERSION = "0.1"
UNKNOWN = "not said yet"


def recipe(name: str, function: str, about: About) -> str:
    """Give ``recipe.py`` of a recipe that locks and predicts as it is."""
    title = docstring(about.title or f"{name}: reverses each text. Say here in a line what it is.")
    return _RECIPE.format(title=title, function=function, version=about.version or FIRST_VERSION)


def docstring(title: str) -> str:
    """Give a line as a docstring, whatever is in it."""
    if "\\" in title or '"""' in title or title.endswith('"'):
        return json.dumps(title, ensure_ascii=False)
    return f'"""{title}"""'


def tests(name: str) -> str:
    """Give the recipe's own tests: one prediction, and outputs as they were."""
    return _TEST.format(name=name)


def readme(name: str, about: About) -> str:
    """Give the README of ``recipe``: all that a reader needs to know, as far as it is known."""
    return _README.format(used=_USED.format(name=name), **_said(name, about))


def readme_of_draft(name: str, about: About) -> str:
    """Give the README of a recipe whose predictor is still to be written."""
    return _README.format(used=_UNUSED.format(name=name), **_said(name, about))


def _said(name: str, about: About) -> dict[str, str]:
    def cell(text: str) -> str:
        return text.replace("|", "\\|") or UNKNOWN

    is_address = about.repository.startswith(("https://", "http://")) and " " not in about.repository
    return {
        "name": name,
        "title": about.title or "What it does, in a line.",
        "publication": cell(about.publication),
        "repository": f"<{about.repository}>" if is_address else cell(about.repository),
        "licence": cell(about.licence),
        "version": about.version or FIRST_VERSION,
    }


_RECIPE = """\
{title}

from reprobuild import apt, files, image, predictor, recipe


@recipe(version="{version}")
def {function}():
    return image(
        apt("bookworm", "python3"),
        files("src/run.py", to="/app/run.py"),
        workdir="/app",
        predictors={{
            "default": predictor(
                "python3 run.py --input-file {{input}} --output-file {{output}}",
                inputs={{"text": str}},
                outputs={{"output": str}},
                scope="item",
                examples=[({{"text": "abc"}}, {{"output": "cba"}})],
            ),
        }},
    )
"""

PROGRAM = '''\
"""Read JSON Lines, write one line for each: here the text, reversed."""

import argparse
import json

parser = argparse.ArgumentParser()
parser.add_argument("--input-file", required=True)
parser.add_argument("--output-file", required=True)
arguments = parser.parse_args()
with open(arguments.input_file) as lines, open(arguments.output_file, "w") as out:
    for line in lines:
        print(json.dumps({"output": json.loads(line)["text"][::-1]}), file=out)
'''

INPUTS = '{"text": "abc"}\n{"text": ""}\n{"text": "Straße"}\n'
OUTPUTS = '{"output":"cba"}\n{"output":""}\n{"output":"eßartS"}\n'

_TEST = '''\
"""Tests of {name}: reprobuild test {name} runs them after the predictors' examples."""

import json
from pathlib import Path

from reprobuild import load

REGRESSION = Path(__file__).parent / "regression"


def records(name):
    lines = (REGRESSION / name).read_text(encoding="utf-8").split("\\n")
    return [json.loads(line) for line in lines if line]


def test_a_text_is_reversed():
    assert load("{name}").predict(text="abc") == "cba"


def test_outputs_are_as_they_were():
    # One field comes as its value, several as a dict. Fractions may need pytest.approx.
    expected = [next(iter(one.values())) if len(one) == 1 else one for one in records("outputs.jsonl")]
    assert load("{name}").predict_batch(records("inputs.jsonl")) == expected
'''

_README = """\
# {name}

{title}

| | |
| --- | --- |
| publication | {publication} |
| repository | {repository} |
| licence | {licence} |
| platform | linux/amd64, CPU |

{used}
## Notes

What the authors' code does that a reader would not expect, what is different here, and why. Network: none is
needed to predict; all that the model reads is in the image.

## Replication status

| level | status |
| --- | --- |
| regression: outputs as they were | by the examples, and `tests/regression/` |
| correctness: outputs that the authors publish | not tried |
| full test set | not tried |
| approximately the published figures | not tried |
| exactly the published figures | not tried |

## Changes

| version | what is different |
| --- | --- |
| {version} | the first |
"""

_USED = """\
## Inputs and outputs

`{name}` (scope: item)

| field | type | meaning |
| --- | --- | --- |
| `text` | text | in: the text to reverse |
| `output` | text | out: the text, its last character first |

## Usage

```console
$ reprobuild lock {name}
$ echo '{{"text": "abc"}}' | reprobuild predict {name} --input - --output -
{{"output":"cba"}}
```

```python
from reprobuild import load

load("{name}").predict(text="abc")  # 'cba'
```

`reprobuild test {name}` runs the examples of `recipe.py` and then `tests/`. Where outputs are meant to be
different from now on, this, in this folder, writes those that the tests compare with:

```console
$ reprobuild predict {name} --input tests/regression/inputs.jsonl --output tests/regression/outputs.jsonl
```
"""

_UNUSED = """\
## Inputs and outputs

`{name}` (scope: batch)

| field | type | meaning |
| --- | --- | --- |
| | | to be written, with the predictor in `recipe.py` |

## Usage

```console
$ reprobuild lock {name}
$ reprobuild predict {name} --input in.jsonl --output out.jsonl
```
"""
