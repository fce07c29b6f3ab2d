from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.derivation.codec import recipe_from_json, recipe_to_json
from reprobuild.derivation.evaluation import evaluate
from reprobuild.derivation.predictors import Json
from reprobuild.errors import RecipeError

HEAD = '"""One line.\n\nMore."""\nfrom reprobuild import *\n'
WHOLE = """\
'''Count words.'''
from reprobuild import File, apt, files, image, predictor, recipe, run, url, wheels

@recipe(version="1.0", publish=True)
def counter(big: bool = False, size: int = 3, rate: float = 0.5, name: str = "x"):
    return image(
        apt("bookworm", "python3", components="main"),
        wheels("numpy==1.0", python="3.11"),
        url("https://example.org/w.tar.gz", to="/w/", unpack=True, strip=1, mode=None),
        files("src", to="/app", mode=0o755),
        run(["make", "-j", str(size)], env={"A": "b"}, workdir="/app"),
        *([run("make big")] if big else []),
        env={"MODEL": name},
        workdir="/app",
        predictors={
            "default": predictor(
                "./count {input} {output} {least}",
                inputs={"text": str, "picture": File, "words": list[str]},
                outputs={"count": int, "rate": "float"},
                scope="item",
                parameters={"least": 1},
                tolerance=1e-6,
                examples=[
                    ({"text": "a", "picture": "p", "words": []}, {"count": 1}),
                    ([{"text": "a", "picture": "p", "words": []}] * 2, [{"count": 1}] * 2, {"least": 2}),
                ],
            ),
        },
    )
"""


def write(folder: Path, text: str) -> Path:
    (folder / "recipe.py").write_text(text)
    return folder


def test_a_whole_recipe_survives_its_json(tmp_path: Path) -> None:
    recipe = evaluate(write(tmp_path, WHOLE), "counter", {"big": "true", "size": "7"})
    assert recipe_from_json(recipe_to_json(recipe)) == recipe
    assert recipe.chosen == {"big": True, "size": 7, "rate": 0.5, "name": "x"}
    assert recipe.summary == "Count words."
    assert [step.kind for step in recipe.image.steps] == ["apt", "wheels", "url", "files", "run", "run"]
    assert dict(recipe.image.predictors["default"].inputs) == {
        "text": "str",
        "picture": "file",
        "words": "list[str]",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("import nonsense_module", "recipe.py:1: ModuleNotFoundError", id="import"),
        pytest.param("\n\n1 +", "recipe.py:3: SyntaxError", id="syntax"),
        pytest.param(
            "x = \\0",
            "SyntaxError: unexpected character after line continuation character$",
            id="syntax, once",
        ),
        pytest.param("x = 1", "no function marked with @recipe", id="none"),
        pytest.param("raise SystemExit(3)", "recipe.py:1: SystemExit: 3", id="exit"),
        pytest.param(
            "from reprobuild import *\nfrom reprobuild import recipe, image\n"
            "@recipe(version='1')\ndef a(): return 3",
            "AttributeError|returns no image",
            id="no-image",
        ),
        pytest.param(
            "from reprobuild import recipe, image\n@recipe(version='1')\ndef a(x): return image()",
            "option x of a needs a default",
            id="option-default",
        ),
        pytest.param(
            "from reprobuild import recipe, image\n@recipe(version='1')\ndef a(): return image()",
            "image\\(\\) has no step",
            id="empty-image",
        ),
        pytest.param(
            "from reprobuild import recipe, image\n@recipe(version='a b')\ndef a(): return image()",
            "version='a b'",
            id="version",
        ),
        pytest.param(
            "import os\nfrom reprobuild import recipe\n@recipe(version='1')\ndef a(): os.environ['NOPE_X']",
            "recipe.py:4: KeyError",
            id="environment",
        ),
        pytest.param(
            "from reprobuild import image, predictor, recipe, run\n@recipe(version='1')\ndef a():\n"
            "  return image(run('x'), predictors={'default': predictor('x', inputs={'a': str},"
            " outputs={'b': str})})",
            "needs {input} and {output}",
            id="predictor-files",
        ),
        pytest.param(
            "from reprobuild import image, predictor, recipe, run\n@recipe(version='1')\ndef a():\n"
            "  return image(run('x'), predictors={'default': predictor('x {input} {output} {beam}',"
            " inputs={'a': str}, outputs={'b': str})})",
            "uses {beam}",
            id="predictor-placeholder",
        ),
    ],
)
def test_a_recipe_that_does_not_evaluate_says_why(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        evaluate(write(tmp_path, text), "a", {})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param({"sise": 3}, "no option sise", id="unknown"),
        pytest.param({"size": "many"}, "is int, not 'many'", id="no-int"),
        pytest.param({"size": True}, "is int, not True", id="bool-for-int"),
        pytest.param({"big": "maybe"}, "is bool, not 'maybe'", id="no-bool"),
        pytest.param({"rate": "fast"}, "is float, not 'fast'", id="no-float"),
        pytest.param({"name": 3}, "is str, not 3", id="no-str"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path: Path, given: dict[str, Json], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        evaluate(write(tmp_path, WHOLE), "counter", given)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("x = run('true')", "from reprobuild import run", id="a word that is not imported"),
        pytest.param("import numpy.nonsense", "steps, such as wheels(…)", id="a package"),
        pytest.param("from reprobuild import recip", "it has File, apt, ", id="a word that there is not"),
        pytest.param(
            "from reprobuild import recipe\n@recipe\ndef x(): pass", '@recipe(version="1.0")', id="no version"
        ),
        pytest.param("x = undefined", "", id="nothing to say"),
    ],
)
def test_what_beginners_do_gets_a_hint(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        evaluate(write(tmp_path, text), "counter", {})
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)
    assert str(tmp_path) not in caught.value.message


def test_the_words_of_recipes_can_be_imported_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace(
        "from reprobuild import File, apt, files, image, predictor, recipe, run, url, wheels",
        "from reprobuild import *",
    )
    assert evaluate(write(tmp_path, text), "counter", {}).version == "1.0"
