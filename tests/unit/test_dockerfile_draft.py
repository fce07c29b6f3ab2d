"""Recipes drafted from Dockerfiles: what becomes a step, what stays recorded, what is pointed out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobuild.derivation.dockerfile.draft import draft
from reprobuild.derivation.dockerfile.shell import hidden_failures, is_row, parts
from reprobuild.derivation.evaluation import evaluate
from reprobuild.derivation.steps import Step
from reprobuild.errors import RecipeError
from tests.unit.test_dockerfile_steps import WORDS
from tests.unit.test_evaluation import write

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def steps(body: str, *files: str, base: str = "python:3.9-slim-bookworm", **lists: str) -> list[str]:
    """Give the steps of a draft, after its base image, as they are written."""
    text = draft(
        f"FROM {base}\n{body}\n",
        "made",
        [*files, "requirements.txt"],
        {"requirements.txt": lists.get("r", "")},
    )
    found = re.findall(r"(?m)^        (\w+\(.*\)),$", text.recipe)
    assert found[0].startswith("oci(")
    return found[1:]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("RUN wget https://h.test/a/x.bin", ['url("https://h.test/a/x.bin", to="/x.bin")']),
        ("RUN wget -q -O /m/x https://h.test/a?b=c", ['url("https://h.test/a?b=c", to="/m/x")']),
        ("RUN wget -P /m https://h.test/x", ['url("https://h.test/x", to="/m/x")']),
        ("RUN curl -fsSL -o /m/x https://h.test/y", ['url("https://h.test/y", to="/m/x")']),
        ("RUN cd /m && curl -LO https://h.test/y", ['url("https://h.test/y", to="/m/y")']),
        ("RUN curl https://h.test/y | sh", ['run("curl https://h.test/y | sh", network="recorded")']),
        ("RUN wget https://h.test/$X/y", ['run("wget https://h.test/$X/y", network="recorded")']),
        ("ARG V=1.2\nRUN wget https://h.test/$V/y", ['url("https://h.test/1.2/y", to="/y")']),
        (
            "RUN wget https://h.test/a.tgz && tar -xzf a.tgz -C /m --strip-components=1 && rm a.tgz && make",
            ['url("https://h.test/a.tgz", to="/m", unpack=True, strip=1)', 'run("make", network="recorded")'],
        ),
        ("RUN gdown --id 1AbCdEfGhIjKl -O /m/w", ['gdrive("1AbCdEfGhIjKl", to="/m/w")']),
        (
            "RUN gdown https://drive.google.com/uc?id=1AbCdEfGhIjKl -O w",
            ['gdrive("1AbCdEfGhIjKl", to="/w")'],
        ),
        (
            f"RUN git clone https://h.test/a/b.git && cd b && git checkout {COMMIT} && make",
            [
                f'git("https://h.test/a/b.git", "{COMMIT}", to="/b")',
                'run("make", network="recorded", workdir="/b")',
            ],
        ),
        (
            f"RUN git clone https://h.test/b /c && git -C /c checkout -q {COMMIT}",
            [f'git("https://h.test/b", "{COMMIT}", to="/c")'],
        ),
        ("RUN git clone https://h.test/b", ['run("git clone https://h.test/b", network="recorded")']),
        ("RUN pip install --no-cache-dir a==1 b[x]==2.0", ['wheels("a==1", "b[x]==2.0")']),
        ("RUN python3 -m pip install a==1", ['wheels("a==1")']),
        ("RUN pip install a", ['run("pip install a", network="recorded")']),
        ("RUN pip install -e .", ['run("pip install -e .", network="recorded")']),
        (
            "RUN apt-get update && apt-get install -y --no-install-recommends git wget "
            "&& rm -rf /var/lib/apt/lists/*",
            ['apt("bookworm", "git", "wget", configure=True)'],
        ),
        (
            "RUN make && wget https://h.test/x && ./x",
            [
                'run("make", network="recorded")',
                'url("https://h.test/x", to="/x")',
                'run("./x", network="recorded")',
            ],
        ),
        ("RUN --network=none make", ['run("make")']),
        ('RUN ["make", "all"]', ['run(["make", "all"], network="recorded")']),
        (
            "WORKDIR /app\nRUN make",
            ['run("mkdir -p /app", workdir="/")', 'run("make", network="recorded", workdir="/app")'],
        ),
        ("COPY run.py /app/", ['files("src/run.py", to="/app/")']),
        ("COPY lib /app/lib", ['files("src/lib", to="/app/lib")']),
        ("COPY *.py /app/", ['files("src/a.py", to="/app/")', 'files("src/run.py", to="/app/")']),
        ("COPY --chmod=755 run.py /r", ['files("src/run.py", to="/r", mode=0o755)']),
        ("ADD data.tar.gz /d", ['url("file:src/data.tar.gz", to="/d", unpack=True)']),
        ("ADD https://h.test/x /d/", ['url("https://h.test/x", to="/d/", mode=0o600)']),
    ],
)
def test_what_becomes_of_an_instruction(body: str, expected: list[str]) -> None:
    assert steps(body, "run.py", "a.py", "lib/b.py", "data.tar.gz") == expected


def test_lists_of_requirements_are_read() -> None:
    body = "WORKDIR /app\nCOPY requirements.txt .\nRUN pip install -r requirements.txt"
    assert steps(body, r="# c\na==1\nb==2  # d\n")[-1] == 'wheels("a==1", "b==2")'
    assert steps(body, r="a==1\nb>=2\n")[-1].startswith('run("pip install -r requirements.txt"')


def test_the_suite_of_an_unknown_base_is_not_guessed() -> None:
    assert steps("RUN apt-get install -y git", base="python:3.9") == [
        'run("apt-get install -y git", network="recorded")'
    ]


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS b\nRUN x\nFROM c\nCOPY --from=b /x /y",
        "FROM a\nRUN --mount=type=cache,target=/c x",
        'FROM a\nSHELL ["/bin/bash", "-c"]\nRUN x',
        "FROM a\nRUN <<EOF\nx\nEOF",
        "FROM a\nCOPY --chown=1 x /y",
        "FROM a\nARG M=755\nCOPY --chmod=$M x /y",
    ],
)
def test_what_plain_steps_cannot_say_is_left_to_the_dockerfile(text: str) -> None:
    made = draft(text, "made", ["x"])
    assert 'dockerfile("src/Dockerfile")' in made.recipe
    assert made.is_whole
    assert made.findings


@pytest.mark.parametrize("flag", ["--parents", "--chmod=u+x"])
def test_what_is_not_supported_is_not_drafted(flag: str) -> None:
    with pytest.raises(RecipeError, match=rf"^Dockerfile:2: COPY.*{re.escape(flag)} is not supported"):
        draft(f"FROM a\nCOPY {flag} x /y", "made", ["x"])


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        ("a && b", []),
        ("a; b", ["; goes on after a failure of: a"]),
        ("set -e; a; b", []),
        ("set -eux && a; b", []),
        ("a || true", ["|| true hides a failure of: a"]),
        ("a && b || :", ["|| : hides a failure of: b"]),
        ("a || b", []),
        ("a | b", ["| hides a failure of: a"]),
        ("set -o pipefail && a | b", []),
        ("a & b", ["& does not wait for: a"]),
        ("a 2>&1 && b", []),
        ("a &> x && b", []),
        ("a\nb", ["a new line goes on after a failure of: a"]),
        ("echo 'a; b || true'", []),
        ("x=$(a; b)", []),
        ("for f in *; do a $f; done", []),
        ("if a; then b; fi", []),
        ("a # b; c || true", []),
    ],
)
def test_hidden_failures_are_pointed_out(text: str, hides: list[str]) -> None:
    assert hidden_failures(text) == hides


def test_findings_have_their_lines() -> None:
    made = draft("FROM a\nRUN b\n\nRUN c; \\\n  d || true\nUSER e\n", "made", [])
    assert [(one.line, one.text.partition(" ")[0]) for one in made.findings] == [
        (4, ";"),
        (4, "||"),
        (6, "USER"),
    ]


def test_rows_are_told_from_the_rest() -> None:
    assert is_row("a && 'b; c' && d\\;e")
    assert not any(
        map(is_row, ("a; b", "a || b", "(a && b)", "for x in y; do z; done", "a\nb", "cat <<E\nE"))
    )
    assert [one.text for one in parts("a && b | c")] == ["a", "b", "c"]


def test_a_draft_is_a_recipe(tmp_path: Path) -> None:
    body = 'ENV A="b c"\nWORKDIR /app\nRUN pip install a==1 && make\nCOPY run.py .\nCMD python run.py'
    text = draft(f"FROM python:3.9\n{body}", "counter", ["run.py"]).recipe
    image = evaluate(write(tmp_path, text), "counter", {}).image
    assert all(isinstance(step, Step) for step in image.steps)
    assert (image.env, image.workdir) == ({"A": "b c"}, "/app")
    assert "# The Dockerfile's own: CMD python run.py" in text


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([*WORDS, "wget", "git", "clone", "pip", "install", "&&", ";", "|"]), max_size=25)
)
def test_any_text_is_a_draft_or_a_problem(words: list[str]) -> None:
    try:
        made = draft("FROM a\n" + " ".join(words), "made", ["a", "b/c"])
    except RecipeError as error:
        assert error.message.startswith("Dockerfile")
    else:
        compile(made.recipe, "recipe.py", "exec")
