from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.errors import UsageError
from reprobuild.fetch.python_index import PythonIndex, configured_certificates, python_index, shown


def environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment in which no file of this machine counts but ``/etc/pip.conf``, which tests override."""
    return {
        "HOME": str(folder),
        "XDG_CONFIG_DIRS": str(folder / "xdg"),
        "VIRTUAL_ENV": str(folder / "venv"),
        "PIP_INDEX_URL": "https://own.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://extra.example/simple",
        "PIP_FIND_LINKS": str(folder / "links"),
        **more,
    }


def test_variables_count(tmp_path: Path) -> None:
    found = python_index("", environment(tmp_path, PIP_CERT="/ca.pem", PIP_TRUSTED_HOST="one two"))
    assert found == PythonIndex(
        urls=("https://own.example/simple", "https://extra.example/simple"),
        uses_default=False,
        find_links=((tmp_path / "links").as_uri(),),
        trusted_hosts=("one", "two"),
        certificates="/ca.pem",
    )


def test_the_setting_replaces_all_but_trust(tmp_path: Path) -> None:
    found = python_index("https://set.example/simple", environment(tmp_path, PIP_CERT="/ca.pem"))
    assert found == PythonIndex(("https://set.example/simple",), False, certificates="/ca.pem")


def test_a_setting_may_be_a_folder(tmp_path: Path) -> None:
    found = python_index(str(tmp_path / "simple"), {})
    assert found.urls == ((tmp_path / "simple").as_uri(),)
    assert found.is_local


def test_files_count_and_the_strongest_wins(tmp_path: Path) -> None:
    places = {
        ".config/pip/pip.conf": "user",
        "xdg/pip/pip.conf": "global",
        "venv/pip.conf": "site",
    }
    given = environment(tmp_path)
    del given["PIP_INDEX_URL"]
    seen = []
    for path in ("xdg/pip/pip.conf", ".config/pip/pip.conf", "venv/pip.conf"):
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(f"[global]\nindex_url = https://{places[path]}.example/simple\n")
        seen.append(python_index("", given).urls[0])
    assert seen == [f"https://{name}.example/simple" for name in ("global", "user", "site")]


def test_a_file_that_is_named_is_stronger_than_the_user_s(tmp_path: Path) -> None:
    user, named = tmp_path / ".config" / "pip" / "pip.conf", tmp_path / "named.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\ntrusted-host = user\n")
    named.write_text("[install]\nindex-url = https://named.example/simple\n")
    given = environment(tmp_path, PIP_CONFIG_FILE=str(named))
    del given["PIP_INDEX_URL"]
    found = python_index("", given)
    assert found.urls[0] == "https://named.example/simple"
    assert "user" not in found.trusted_hosts


def test_dev_null_turns_all_files_off(tmp_path: Path) -> None:
    file = tmp_path / ".config" / "pip" / "pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[global]\nindex-url = https://user.example/simple\n")
    found = python_index("", {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"})
    assert found == PythonIndex((), uses_default=True)


def test_no_index_leaves_the_links(tmp_path: Path) -> None:
    found = python_index("", environment(tmp_path, PIP_NO_INDEX="true"))
    assert found.urls == () and not found.uses_default and found.is_local


@pytest.mark.parametrize("value", ["0", "false", "off"])
def test_no_index_that_is_off_counts_for_nothing(tmp_path: Path, value: str) -> None:
    assert python_index("", environment(tmp_path, PIP_NO_INDEX=value)).urls


def test_a_file_that_is_broken_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.conf"
    file.write_text("index-url = without a section\n")
    with pytest.raises(UsageError, match=r"broken\.conf"):
        python_index("", {"PIP_CONFIG_FILE": str(file), "HOME": str(tmp_path)})


def test_credentials_are_never_shown() -> None:
    assert shown(["https://user:secret@own.example/simple"]) == "https://own.example/simple"


def test_downloads_trust_what_pip_s_files_name(tmp_path: Path) -> None:
    file, bundle = tmp_path / "pip.conf", tmp_path / "ca.pem"
    file.write_text(f"[global]\ncert = {bundle}\n")
    given = {"PIP_CONFIG_FILE": str(file), "HOME": str(tmp_path)}
    assert configured_certificates(given) == ""
    bundle.write_text("")
    assert configured_certificates(given) == str(bundle)


def test_a_broken_file_stops_no_download(tmp_path: Path) -> None:
    file = tmp_path / "broken.conf"
    file.write_text("cert = without a section\n")
    assert configured_certificates({"PIP_CONFIG_FILE": str(file), "HOME": str(tmp_path)}) == ""
