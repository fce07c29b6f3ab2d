from __future__ import annotations

import pytest

from reprobuild.fetch.disposition import file_name, is_attachment


@pytest.mark.parametrize(
    ("value", "name"),
    [
        pytest.param('attachment; filename="model.tar.gz"', "model.tar.gz", id="quoted"),
        pytest.param("attachment; filename=model.bin", "model.bin", id="token"),
        pytest.param(
            "attachment; filename=\"a.zip\"; filename*=UTF-8''%C3%A4%20b.zip", "ä b.zip", id="extended-wins"
        ),
        pytest.param("attachment; filename*=iso-8859-1'en'%E4.zip", "ä.zip", id="latin-1"),
        pytest.param("attachment; filename*=UTF-8''%ff; filename=b.zip", "b.zip", id="bad-extended"),
        pytest.param('attachment; filename="a\\"b;c.zip"', 'a"b;c.zip', id="escaped"),
        pytest.param('ATTACHMENT;FileName="x"', "x", id="case"),
        pytest.param('attachment; filename="../../etc/passwd"', "passwd", id="path"),
        pytest.param('attachment; filename="C:\\\\x\\\\y.bin"', "y.bin", id="windows-path"),
        pytest.param('attachment; filename=".."', "", id="dots"),
        pytest.param('attachment; filename="a\x07b"', "", id="control"),
        pytest.param("attachment; filename=\"ä.zip\"".encode().decode("latin-1"), "ä.zip", id="raw-utf-8"),
        pytest.param("attachment", "", id="none"),
        pytest.param("", "", id="empty"),
    ],
)  # fmt: skip
def test_the_name_of_a_file(value: str, name: str) -> None:
    assert file_name(value) == name


def test_what_is_a_file() -> None:
    assert is_attachment('Attachment; filename="page.html"')
    assert not is_attachment("inline")
    assert not is_attachment("")
