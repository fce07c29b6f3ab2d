"""Dockerfiles to steps: what each instruction comes to, and what is said of one that makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobuild.derivation.codec import step_from_json, step_to_json
from reprobuild.derivation.dockerfile.expansion import dockerfile_steps
from reprobuild.derivation.dockerfile.reading import read_dockerfile
from reprobuild.derivation.recipe import image
from reprobuild.derivation.steps import Git, Oci, Run, Step, Url
from reprobuild.derivation.where import Where
from reprobuild.derivation.words import dockerfile
from reprobuild.derivation.written import Copy, Setting, Stage
from reprobuild.errors import RecipeError


def steps(text: str, **args: str) -> tuple[Step, ...]:
    return dockerfile_steps(text, "Dockerfile", args=args)


def commands(text: str) -> list[str]:
    return [step.command[-1] for step in steps(text) if isinstance(step, Run)]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("FROM scratch\nRUN a && b", "a && b"),
        ("from scratch\nrun a", "a"),
        ("FROM scratch\nRUN a \\\n  && b", "a   && b"),
        ("FROM scratch\nRUN a \\\n# no\n  # nor this\n\n  && b", "a   && b"),
        ("FROM scratch\nRUN a \\ \t\n b", "a  b"),
        ("FROM scratch\r\nRUN a \\\r\n b\r\n", "a  b"),
        ("# escape=`\nFROM scratch\nRUN a `\n C:\\\n", "a  C:\\"),
        ("\ufeff# syntax=docker/dockerfile:1.4\nFROM scratch\nRUN a", "a"),
        ("# a comment ends directives\n# escape=`\nFROM scratch\nRUN a \\\n b", "a  b"),
        ("FROM scratch\nRUN <<EOF\na\n  b # c\nEOF", "a\n  b # c\n"),
        ("FROM scratch\nRUN <<-EOF\n\ta\n\tb\n\tEOF", "a\nb\n"),
        ("FROM scratch\nRUN cat <<'A' <<B > /x\n1\nA\n2\nB", "cat <<'A' <<B > /x\n1\nA\n2\nB"),
        ("FROM scratch\nRUN echo $((1<<2)) '<<x'", "echo $((1<<2)) '<<x'"),
        ("FROM scratch\nRUN [ -f x ] && y", "[ -f x ] && y"),
        ("FROM scratch\nRUN echo 'a", "echo 'a"),
        ("FROM scratch\nRUN   a  ", "a"),
        ("FROM scratch\nRUN a\\", "a"),
    ],
)
def test_what_the_shell_gets(text: str, command: str) -> None:
    assert commands(text) == [command]


def test_the_exec_form_has_no_shell() -> None:
    (step,) = steps('FROM scratch\nRUN ["a", "b c", "$X"]')
    assert isinstance(step, Run)
    assert step.command == ("a", "b c", "$X")
    assert (step.shell, step.network) == (False, "recorded")


def test_a_script_with_its_own_interpreter_is_run_by_it() -> None:
    (command,) = commands("FROM scratch\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF")
    assert "#!/usr/bin/python3\nprint(1)\n" in command


def test_stages_are_set_aside_and_only_those_that_are_needed() -> None:
    found = steps(
        "FROM a:1 AS one\nRUN 1\nFROM b:1 AS unused\nRUN 2\nFROM one AS two\nRUN 3\n"
        "FROM scratch\nCOPY --from=two /x /y\nCOPY --from=0 /x /z\nCOPY --from=c:1 /x /c"
    )
    assert [step.title for step in found] == [
        "oci a:1",
        "FROM a:1",
        "run 1",
        "stage one",
        "run 3",
        "stage two",
        "oci c:1",
        "stage c:1",
        "COPY --from=two /x /y",
        "COPY --from=one /x /z",
        "COPY --from=c:1 /x /c",
    ]
    assert [step.begin for step in found if isinstance(step, Stage)] == ["one", "", ""]
    image(found)


def test_a_target_ends_it() -> None:
    found = dockerfile_steps("FROM a:1 AS one\nRUN 1\nFROM b:1\nRUN 2", "D", args={}, target="one")
    assert [step.title for step in found] == ["oci a:1", "FROM a:1", "run 1"]


def test_arguments_before_and_after_from() -> None:
    text = "ARG V=1\nARG W=$V-slim\nFROM x:$W\nARG V\nARG A=a B\nARG C=c\nENV D=$A"
    (base, begin, *rest) = steps(text, C="it's")
    assert isinstance(base, Oci)
    assert base.reference == "x:1-slim"
    assert begin.title == "FROM x:1-slim"
    assert [step.values for step in rest if isinstance(step, Setting)] == [
        ("V", "1"),
        ("A", "a"),
        ("C", "'it'\"'\"'s'"),
        ("D", "$A"),
    ]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("ENV A=1 B=2", ("A", "1", "B", "2")),
        ('ENV A="b c" D=e\\ f', ("A", '"b c"', "D", "e\\ f")),
        ("ENV A b  c", ("A", "b  c")),
        ("ENV A=$B", ("A", "$B")),
        ("LABEL a.b=c \"d e\"='f g'", ("a.b", "c", '"d e"', "'f g'")),
        ("WORKDIR a b", ("a b",)),
        ("USER $U:$G", ("$U:$G",)),
        ("EXPOSE 80 8000-8010/udp $P", ("80", "8000-8010/udp", "$P")),
        ('VOLUME ["/a b", "/c"]', ("/a b", "/c")),
        ("VOLUME /a /c", ("/a", "/c")),
        ("CMD a b", ("shell", "a b")),
        ('CMD ["a", "b"]', ("exec", "a", "b")),
        ("CMD []", ("exec",)),
        ('ENTRYPOINT ["a"]', ("exec", "a")),
        ('SHELL ["/bin/bash", "-c"]', ("/bin/bash", "-c")),
        ("STOPSIGNAL SIGINT", ("SIGINT",)),
        ("MAINTAINER A <a@b>", ("A <a@b>",)),
        ("HEALTHCHECK NONE", ("NONE",)),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD a b",
            ("interval=1m30s", "retries=3", "CMD", "shell", "a b"),
        ),
        ('HEALTHCHECK CMD ["a"]', ("CMD", "exec", "a")),
    ],
)
def test_settings(line: str, values: tuple[str, ...]) -> None:
    (step,) = steps(f"FROM scratch\n{line}")
    assert isinstance(step, Setting)
    assert (step.word, step.values) == (line.partition(" ")[0], values)


@pytest.mark.parametrize(
    ("line", "copy"),
    [
        ("COPY a b", Copy(sources=("a",), to="b")),
        ("COPY ./a/ /b c/", Copy(sources=("a/", "b"), to="c/")),
        ("COPY . .", Copy(sources=(".",), to=".")),
        ('COPY ["a b", "/c d/"]', Copy(sources=("a b",), to="/c d/")),
        (
            "COPY --chown=1:2 --chmod=755 *.py /x/",
            Copy(sources=("*.py",), to="/x/", chown="1:2", chmod="755"),
        ),
        ("COPY $X /x", Copy(sources=("known",), to="/x")),
        ("COPY <<EOF /x\na $X\nEOF", Copy(sources=(), to="/x", texts={"EOF": "a $X\n"}, expands=("EOF",))),
        ("COPY <<'E' /x\na\nE", Copy(sources=(), to="/x", texts={"E": "a\n"})),
        ("ADD a.tar /x/", Copy(sources=("a.tar",), to="/x/", unpack=True)),
        ("COPY --exclude=*.md a /x/", Copy(sources=("a",), to="/x/", exclude=("*.md",))),
    ],
)
def test_copies(line: str, copy: Copy) -> None:
    assert steps(f"FROM scratch\nENV X=known\n{line}")[1:] == (copy,)


def test_what_add_fetches_stands_aside() -> None:
    checksum = "0" * 64
    found = steps(f"FROM x:1\nADD --checksum=sha256:{checksum} --chown=3 https://h.test/a/b%20c.tar?q=1 /x/")
    assert found == (
        Url(url="https://h.test/a/b%20c.tar?q=1", to="/b c.tar", sha256=checksum, mode=0o600),
        Stage(name="add-2-1"),
        Oci(reference="x:1"),
        Setting(word="FROM", values=("x:1", "")),
        Copy(sources=("'/b c.tar'",), to="/x/", stage="add-2-1", chown="3"),
    )


def test_add_takes_a_repository_at_a_commit() -> None:
    commit = "a" * 40
    found = steps(f"FROM scratch\nADD https://github.com/a/b.git#{commit} /x")
    assert found[0] == Git(url="https://github.com/a/b.git", commit=commit, to="/content")


def test_equal_commands_in_other_settings_are_told_apart() -> None:
    text = "FROM a:1 AS x\nRUN c\nRUN c\nENV V=1\nRUN c\nFROM a:2\nRUN c\nCOPY --from=x /a /b"
    keys = [step.source_key for step in steps(text) if isinstance(step, Run)]
    assert len({*keys}) == 4
    again = [
        step.source_key
        for step in steps(text.replace("RUN c\nRUN c\n", "COPY a b\nRUN c\nRUN c\n"))
        if isinstance(step, Run)
    ]
    assert again == keys


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 0, "has no instruction"),
        ("# only a comment\n", 0, "has no instruction"),
        ("RUN a", 1, "the first instruction is FROM"),
        ("ARG A=1", 1, "there is no FROM"),
        ("FROM", 1, "needs one image"),
        ("FROM a b", 1, "needs one image"),
        ("FROM a AS", 1, "needs one image"),
        ("FROM a AS 1x", 1, "no name of a stage"),
        ("FROM a AS x\nFROM b AS X", 2, "taken"),
        ("ARG V\nFROM $V", 2, "comes to no image"),
        ("FROM a:$TARGETARCH", 1, "TARGETARCH"),
        ("FROM --platform=windows/amd64 a", 1, "not a platform"),
        ("FROM --x=y a", 1, "--x is not supported"),
        ("FROM A:B:C", 1, ""),
        ("FROM scratch\n\n\nFOO bar", 4, "no such instruction"),
        ("FROM scratch\n{}", 2, "no instruction"),
        ("FROM scratch\nONBUILD RUN a", 2, "not supported"),
        ("FROM scratch\nRUN", 2, "needs a command"),
        ("FROM scratch\nRUN []", 2, "needs a command"),
        ('FROM scratch\nRUN ["a", 1]', 2, "a list of texts"),
        ('FROM scratch\nRUN ["\\ud800"]', 2, "surrogate"),
        ("FROM scratch\nRUN --mount=type=secret,id=x a", 2, "type=secret is not supported"),
        ("FROM scratch\nRUN --mount=type=bind a", 2, "a target is needed"),
        ("FROM scratch\nRUN --mount=type=bind,target=/x,rw a", 2, "rw is not supported"),
        ("FROM scratch\nRUN --mount=type=bind,target=/x,from=9 a", 2, "no such stage"),
        ("FROM scratch\nRUN --mount=type=cache,target=/x,from=y a", 2, "not supported"),
        ('FROM scratch\nRUN --mount=type=bind,"target=/x a', 2, ""),
        ("FROM scratch\nRUN --network=foo a", 2, "--network=foo is not supported"),
        ("FROM scratch\nRUN --security=insecure a", 2, "not supported"),
        ("FROM scratch\nRUN <<EOF\na", 2, "does not end"),
        ("FROM scratch\nENV", 2, "needs a name"),
        ("FROM scratch\nENV A", 2, "needs a value"),
        ("FROM scratch\nENV A=1 B", 2, "no name=value"),
        ("FROM scratch\nENV A='b", 2, "closing '"),
        ("FROM scratch\nENV A=${B", 2, "missing"),
        ("FROM scratch\nENV --x A=b", 2, "--x is not supported"),
        ("FROM scratch\nARG", 2, "needs a name"),
        ("FROM scratch\nARG 1=2", 2, "no name of an argument"),
        ("FROM scratch\nCOPY a", 2, "a source and a target"),
        ("FROM scratch\nCOPY a b c", 2, "the target is a folder"),
        ("FROM scratch\nCOPY ../a b", 2, "outside"),
        ("FROM scratch\nCOPY [a b", 2, "missing"),
        ("FROM scratch\nCOPY --parents a b", 2, "--parents is not supported"),
        ("FROM scratch\nADD --parents a b", 2, "--parents is not supported"),
        ("FROM scratch\nCOPY --chmod=u+x a b", 2, "--chmod=u+x is not supported"),
        ("FROM scratch\nCOPY --chmod='go-w' a b", 2, "--chmod=go-w is not supported"),
        ("FROM scratch\nADD --chmod=999 https://h.test/a /b", 2, "--chmod=999 is not supported"),
        ("FROM scratch\nCOPY --chmod=${M a b", 2, "missing"),
        ("FROM scratch\nCOPY --from=later a b\nFROM scratch AS later", 2, "comes later"),
        ("FROM scratch\nCOPY --from=5 a b", 2, "no such stage"),
        ("FROM x:1\nCOPY $HOME/a b", 2, "not known before the base image"),
        ("FROM x:1\nCOPY https://h.test/a b", 2, ""),
        ("FROM scratch\nADD https://h.test/ /x", 2, "no file name"),
        ("FROM scratch\nADD https://u:p@h.test/a /x", 2, "not an http"),
        ("FROM scratch\nADD --checksum=md5:1 https://h.test/a /x", 2, "sha256"),
        ("FROM scratch\nADD https://github.com/a/b.git /x", 2, "full commit"),
        ("FROM scratch\nEXPOSE port", 2, "no port"),
        ("FROM scratch\nSHELL /bin/bash", 2, "JSON list"),
        ("FROM scratch\nHEALTHCHECK", 2, "needs CMD"),
        ("FROM scratch\nHEALTHCHECK --interval=x CMD a", 2, "a duration is needed"),
        ("FROM scratch\nHEALTHCHECK --foo=1 CMD a", 2, "--foo is not supported"),
        ("FROM scratch\nRUN a\0", 2, "NUL"),
        ("# escape=x\nFROM scratch", 1, "only"),
        ("# escape=`\n# escape=`\nFROM scratch", 2, "twice"),
        ("# syntax=me/mine\nFROM scratch", 1, "frontend"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_line(text: str, line: int, problem: str) -> None:
    if not problem:
        try:
            image(steps(text))
        except RecipeError as error:
            assert f"Dockerfile:{line}:" in error.message
        return
    with pytest.raises(RecipeError) as caught:
        steps(text)
    assert problem in caught.value.message
    assert caught.value.message.startswith(f"Dockerfile:{line}: " if line else "Dockerfile")


def test_an_argument_that_is_not_there_is_said() -> None:
    with pytest.raises(RecipeError, match="has no ARG X"):
        steps("FROM scratch\nRUN a", X="1")


WORDS = [
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "WORKDIR",
    "USER",
    "LABEL",
    "EXPOSE",
    "CMD",
    "VOLUME",
    "ENTRYPOINT",
    "SHELL",
    "HEALTHCHECK",
    "STOPSIGNAL",
    "ONBUILD",
    "MAINTAINER",
    "a",
    "scratch",
    "AS",
    "b=c",
    "$X",
    "${X:-y}",
    "'",
    '"',
    "\\",
    "`",
    "\n",
    "\n",
    "\n",
    "#",
    "<<EOF",
    "EOF",
    "--from=a",
    "--mount=type=bind",
    '["a"]',
    "[",
    "]",
    "=",
    ",",
    "/",
    "..",
    "*",
    "https://h.test/x",
    "\0",
    "\t",
    " ",
    "\u2028",
    "é",
    "# escape=`",
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_any_text_is_steps_or_a_problem(words: list[str]) -> None:
    for text in (" ".join(words), "FROM scratch\n" + " ".join(words)):
        try:
            found = steps(text)
        except RecipeError as error:
            assert error.message.startswith("Dockerfile")
        else:
            assert tuple(map(step_from_json, map(step_to_json, found))) == found


def test_the_word_reads_the_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM scratch\nCOPY . /x\n")
    (tmp_path / "docker" / ".dockerignore").write_text("*.md\n")
    code = compile("found = dockerfile('docker/Dockerfile')", str(tmp_path / "recipe.py"), "exec")
    names: dict[str, object] = {"dockerfile": dockerfile}
    exec(code, names)
    assert names["found"] == (Copy(sources=(".",), to="/x", context="docker", ignore=("*.md",)),)


@pytest.mark.parametrize("path", ["../Dockerfile", "/etc/passwd", "none", "."])
def test_the_word_reads_no_other_file(path: str) -> None:
    with pytest.raises(RecipeError):
        dockerfile(path)


def test_a_misspelt_instruction_is_told_what_it_is_like() -> None:
    with pytest.raises(RecipeError) as caught:
        steps("FROM scratch\nCOPPY a b")
    assert caught.value.hint == "did you mean COPY?"


def test_a_folder_is_no_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(RecipeError, match="src is a folder"):
        read_dockerfile("src", {}, "", None, Where("recipe.py", 1), str(tmp_path))
