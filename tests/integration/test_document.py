"""Small documents that are asked for whole: indexes, listings, manifests."""

from __future__ import annotations

import pytest

from reprobuild.errors import OfflineError, UpstreamError
from reprobuild.fetch.document import get
from tests.misbehaving import Answer, Misbehaving

pytestmark = pytest.mark.once


def test_a_document_is_asked_for_again_only_if_it_changed(server: Misbehaving) -> None:
    server.answers["/index"] = [
        Answer(b"one", etag='"1"'),
        Answer(status=304),
        Answer(b"two", headers={"Content-Type": "text/plain"}),
    ]
    first = get(f"{server.url}/index")
    assert first is not None and first.body == b"one"
    assert get(f"{server.url}/index", known=first) is first
    assert server.requests[1].headers["if-none-match"] == '"1"'
    last = get(f"{server.url}/index", known=first)
    assert last is not None and (last.body, last.content_type) == (b"two", "text/plain")


def test_documents_that_are_not_there(server: Misbehaving) -> None:
    assert get(f"{server.url}/gone", is_optional=True) is None
    with pytest.raises(UpstreamError, match="404"):
        get(f"{server.url}/gone")


def test_documents_are_bounded(server: Misbehaving) -> None:
    server.answers["/big"] = [Answer(bytes(2000))]
    with pytest.raises(UpstreamError, match="larger than 1,000 bytes"):
        get(f"{server.url}/big", limit=1000)


def test_documents_offline() -> None:
    with pytest.raises(OfflineError, match=r"https://example\.org/x is needed"):
        get("https://example.org/x", offline=True)
