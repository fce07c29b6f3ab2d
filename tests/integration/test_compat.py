"""repro's own tutorial on our engines, its import lines changed; and what commands in images do there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.compat import DockerContainer, image_exists, run_command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import EngineError, PredictionFailedError, UsageError
from tests.gpus import machine, make_root
from tests.own_recipes import realize
from tests.projects import Project, make_project, require_sandbox
from tests.sandboxes import shared_folder

# From "Adding a Model" of github.com/danieldeutsch/repro (Apache-2.0), word by word but for the import
# lines, and for the image.
PACKAGE = """\
import os

from reprobuild import load

VERSION = "1.0"
MODEL_NAME = os.path.basename(os.path.dirname(__file__))
DEFAULT_IMAGE = load("tutorial").image

from mine.tutorial.model import TutorialModel
"""
WRAPPER = """\
import json
from typing import Dict, List

from reprobuild.compat import DockerContainer
from reprobuild.compat import read_jsonl_file
from reprobuild.compat import Model
from mine.tutorial import DEFAULT_IMAGE, MODEL_NAME


@Model.register(f"{MODEL_NAME}-model")
class TutorialModel(Model):
    def __init__(self, image: str = DEFAULT_IMAGE):
        self.image = image
        
    def predict(self, text: str, **kwargs) -> str:
        return self.predict_batch([{"text": text}], **kwargs)[0]
        
    def predict_batch(self, inputs: List[Dict[str, str]], **kwargs) -> List[str]:
        with DockerContainer(self.image) as backend:
            host_input_file = f"{backend.host_dir}/input.jsonl"
            host_output_file = f"{backend.host_dir}/output.jsonl"
            container_input_file = f"{backend.container_dir}/input.jsonl"
            container_output_file = f"{backend.container_dir}/output.jsonl"
            
            # Serialize the data to a file
            with open(host_input_file, "w") as out:
                for inp in inputs:
                    out.write(json.dumps(inp) + "\\n")
                    
            # Define the command which will be run in the Docker container
            command = (
                f"python run.py"
                f"  --input-file {container_input_file}"
                f"  --output-file {container_output_file}"
            )
            
            # Run the command in the Docker container
            backend.run_command(command=command)
    
            # Load the results and return
            results = read_jsonl_file(host_output_file)
            raw_results = [result["output"] for result in results]
            return raw_results
"""  # noqa: W293  # as it stands there
TESTS = """\
import unittest

from mine.tutorial import TutorialModel
 
 
class TestTutorialModel(unittest.TestCase):
    def test_tutorial(self):
        model = TutorialModel()
        assert model.predict("abc") == "cba"
        assert model.predict_batch([{"text": "abc"}, {"text": "123"}]) == ["cba", "321"]
"""  # noqa: W293  # as it stands there
ENGINES = ("sandbox", "docker")


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables by which an engine is chosen and found."""
    daemon: Mapping[str, str] = {}
    if request.param == "docker":
        daemon = request.getfixturevalue("docker").environment
    return {"REPROBUILD_ENGINE": request.param, **daemon}


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_the_tutorial_of_repro_with_its_import_lines_changed(
    own_recipes: Project, engine: dict[str, str], tmp_path: Path
) -> None:
    realize(own_recipes, "tutorial")
    tests = tmp_path / "mine" / "tutorial" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "__init__.py").write_text(PACKAGE)
    (tests.parent / "model.py").write_text(WRAPPER)
    (tests / "__init__.py").touch()
    (tests / "model_test.py").write_text(TESTS)
    project = replace(own_recipes, environment=engine, path=f"{own_recipes.path}{os.pathsep}{tmp_path}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests / "model_test.py")],
        cwd=project.folder,
        env={**project.full_environment(), "REPROBUILD_STORE": str(project.store)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one image, of busybox."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    project.call("lock", "copier")
    return project


@pytest.fixture
def image(built: Project, engine: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The image's tag, with an engine chosen, and settings that know nothing of the recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPROBUILD_STORE", str(built.store))
    for name, value in engine.items():
        monkeypatch.setenv(name, value)
    tag: str = built.call("realize", "copier", "--json").json["tag"]
    return tag


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_folder_goes_in_and_comes_back(image: str) -> None:
    with DockerContainer(image) as backend:
        folder = Path(backend.host_dir)
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "in").write_text("wörter\n")
        (folder / "deep" / "er" / "in").chmod(0o600)
        (folder / "old").write_text("old")
        inside = backend.container_dir
        said = backend.run_command(
            command=f"cd {inside} && tr a-z A-Z < deep/er/in > deep/out && rm old && mkdir old"
            " && pwd && echo o >&2",
            silent=True,
            network_disabled=True,
        )
        assert sorted(said.split()) == sorted([inside, "o"])
        assert (folder / "deep" / "out").read_text() == "WöRTER\n"
        assert (folder / "old").is_dir()
        # The next command is another container, which finds what this one left.
        assert backend.run_command(f"cat {inside}/deep/out; rm -r {inside}/deep", silent=True) == "WöRTER\n"
        assert [path.name for path in folder.iterdir()] == ["old"]
        assert {path.stat().st_uid for path in folder.iterdir()} == {os.geteuid()}
    assert not folder.exists()


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_streams_are_shown_meanwhile_and_counted_as_asked(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    both = "echo out; echo err >&2"
    assert sorted(run_command(image, both).split()) == ["err", "out"]
    assert sorted(capsys.readouterr().out.split()) == ["err", "out"]
    assert run_command(image, both, stderr=False, silent=True) == "out\n"
    assert run_command(image, both, stdout=False, silent=True) == "err\n"
    assert capsys.readouterr().out == ""
    with pytest.raises(UsageError, match="stdout and stderr"):
        run_command(image, both, stdout=False, stderr=False)


@pytest.mark.parametrize("engine", ["sandbox"], indirect=True)
def test_several_folders_and_what_a_failed_command_left(image: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    (one / "a").write_text("a")
    command = "cp /x/a '/y z/b'; rm /x/a; echo '#'; exit 4 # done"
    with pytest.raises(PredictionFailedError, match="exit code 4"):
        run_command(image, command, {str(one): "/x", str(two): "/y z"}, silent=True)
    # As it was, but for what it wrote: nothing is removed on the word of a command that failed.
    assert [(path.name, path.read_text()) for path in (*one.iterdir(), *two.iterdir())] == [
        ("a", "a"),
        ("b", "a"),
    ]


@pytest.mark.parametrize("engine", ["sandbox"], indirect=True)
def test_images_are_found_or_named(image: str) -> None:
    assert image_exists(image)
    assert not image_exists("danieldeutsch/tutorial:1.0")
    with pytest.raises(UsageError, match=r"no image danieldeutsch/tutorial:1\.0 is in the store"):
        run_command("danieldeutsch/tutorial:1.0", "true")
    with pytest.raises(UsageError, match="with"):
        DockerContainer(image).run_command("true")
    with pytest.raises(UsageError, match="can't be a folder of a command"):
        run_command(image, "true", {__file__: "/x"})


@pytest.mark.parametrize("engine", ["sandbox"], indirect=True)
def test_cuda_gives_all_gpus_or_says_why_there_is_none(image: str) -> None:
    look = "ls /dev/nvidia?; echo $CUDA_VISIBLE_DEVICES"
    with shared_folder(os.geteuid()) as folder, DockerContainer(image) as backend:
        engine = backend._project.sandbox
        assert isinstance(engine, SandboxEngine)
        engine._machine = machine(make_root(folder / "machine", (1, 2, 3)))
        said = backend.run_command(look, cuda=True, silent=True)
        assert said.split() == ["/dev/nvidia1", "/dev/nvidia2", "/dev/nvidia3", "0,1,2"]
        assert "/dev/nvidia1" not in backend.run_command(f"{look} || true", silent=True)
        engine._machine = machine(folder / "nothing")
        with pytest.raises(EngineError, match="no driver of NVIDIA's is loaded"):
            backend.run_command("true", cuda=True, silent=True)
