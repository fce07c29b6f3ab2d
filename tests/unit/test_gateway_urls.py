from __future__ import annotations

import pytest

from reprobuild.gateway.urls import is_signed, join, shown, split_host, unsigned

S3 = "https://b.test/k?X-Amz-Algorithm=AWS4&X-Amz-Signature=abc&X-Amz-Expires=9&v=1"
CLOUDFRONT = "https://c.test/k?Expires=1&Signature=abc&Key-Pair-Id=K&Policy=p&response-content-type=x%2Fy"
GOOGLE = "https://g.test/k?GoogleAccessId=a&Expires=1&Signature=s%3D"
AZURE = "https://a.test/k?sv=2020&se=2021&sr=b&sp=r&sig=abc%3D&st=2"


@pytest.mark.parametrize(
    ("url", "named", "followed"),
    [
        pytest.param("https://a.test/x?y=1", "https://a.test/x?y=1", "https://a.test/x?y=1", id="nothing"),
        pytest.param(S3, "https://b.test/k?v=1", "https://b.test/k?v=1", id="S3"),
        pytest.param(CLOUDFRONT, "https://c.test/k?response-content-type=x%2Fy",
                     "https://c.test/k?response-content-type=x%2Fy", id="CloudFront"),
        pytest.param(GOOGLE, "https://g.test/k", "https://g.test/k", id="Google"),
        pytest.param(AZURE, "https://a.test/k", "https://a.test/k", id="Azure"),
        pytest.param("https://a.test/?token=x&b", "https://a.test/?token=***&b", "https://a.test/?b",
                     id="token"),
        pytest.param("https://a.test/?API_KEY=x", "https://a.test/?API_KEY=***", "https://a.test/", id="key"),
        pytest.param("https://a.test/?%74oken=x", "https://a.test/?%74oken=***", "https://a.test/",
                     id="escaped"),
        pytest.param("https://a.test/?key", "https://a.test/?key", "https://a.test/?key", id="no value"),
        pytest.param("https://me:pass@a.test/x#y", "https://a.test/x", "https://a.test/x", id="a user"),
        pytest.param("https://a.test/?expires=1", "https://a.test/?expires=1", "https://a.test/?expires=1",
                     id="an innocent word"),
    ],
)  # fmt: skip
def test_no_secret_is_in_an_address_that_is_kept(url: str, named: str, followed: str) -> None:
    assert (shown(url), unsigned(url)) == (named, followed)


def test_signatures_are_known() -> None:
    assert all(map(is_signed, (S3, CLOUDFRONT, GOOGLE, AZURE)))
    assert not is_signed("https://a.test/?expires=1&token=2")


@pytest.mark.parametrize(
    ("scheme", "authority", "target", "url"),
    [
        ("https", "A.Test", "/x", "https://a.test/x"),
        ("https", "a.test:443", "/", "https://a.test/"),
        ("http", "a.test:443", "/", "http://a.test:443/"),
        ("http", "a.test:80", "/%7euser/%2f?%e4=%41", "http://a.test/~user/%2F?%E4=A"),
        ("http", "[::1]:8080", "/#part", "http://[::1]:8080/"),
        ("https", "a.test.", "/ü", "https://a.test/%C3%BC"),
        ("https", "me@a.test", "/a//../b", "https://a.test/a//../b"),
    ],
)
def test_an_address_has_one_form(scheme: str, authority: str, target: str, url: str) -> None:
    assert join(scheme, authority, target) == url


@pytest.mark.parametrize(
    "authority", ["", "a b", "a/b", "a:b", "a:99999", "a\x00", ":80", "-a", "[::1", "[9]"]
)
def test_what_is_no_host_is_no_host(authority: str) -> None:
    with pytest.raises(ValueError, match="no host"):
        split_host(authority)
