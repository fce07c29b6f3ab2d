from __future__ import annotations

import pytest

from reprobuild.engine.refusals import Refusals, find_refusal

NAMED = {
    "curl: name": ("curl: (6) Could not resolve host: models.example.org", "models.example.org"),
    "curl: address": (
        "curl: (7) Failed to connect to 192.0.2.7 port 80 after 0 ms: Couldn't connect to server",
        "192.0.2.7",
    ),
    "curl: old": ("curl: (7) Failed to connect to 192.0.2.7 port 443: Network is unreachable", "192.0.2.7"),
    "curl: IPv6": (
        "curl: (7) Failed to connect to 2001:db8::1 port 443 after 0 ms: Couldn't connect to server",
        "2001:db8::1",
    ),
    "curl: time": (
        "curl: (28) Failed to connect to a.example port 443 after 9 ms: Connection timed out",
        "a.example",
    ),
    "curl: proxy": ("curl: (5) Could not resolve proxy: proxy.example", "proxy.example"),
    "wget": ("wget: unable to resolve host address \u2018data.example\u2019", "data.example"),
    "wget: ASCII": ("wget: unable to resolve host address 'data.example'", "data.example"),
    "wget: log": (
        "Resolving data.example (data.example)... failed: Temporary failure in name resolution.",
        "data.example",
    ),
    "wget: address": ("Connecting to 192.0.2.7:80... failed: Network is unreachable.", "192.0.2.7"),
    "wget: name and address": (
        "Connecting to data.example (data.example)|192.0.2.7|:443... failed: Network is unreachable.",
        "data.example",
    ),
    "busybox wget": ("wget: bad address 'data.example'", "data.example"),
    "requests": (
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='hub.example', port=443): Max retries"
        ' exceeded with url: /bert/config.json (Caused by NameResolutionError("<urllib3.connection.'
        "HTTPSConnection object at 0x7f>: Failed to resolve 'hub.example' ([Errno -3] Temporary failure in"
        ' name resolution)"))',
        "https://hub.example/bert/config.json",
    ),
    "requests: another port": (
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='hub.example', port=8080): Max retries"
        " exceeded with url: /x (Caused by NewConnectionError('…'))",
        "http://hub.example:8080/x",
    ),
    "hugging face hub": (
        "(MaxRetryError('HTTPSConnectionPool(host=\\'hub.example\\', port=443): Max retries exceeded with"
        " url: /api/models/a (Caused by NameResolutionError(",
        "https://hub.example/api/models/a",
    ),
    "urllib3": (
        "urllib3.exceptions.NameResolutionError: <urllib3.connection.HTTPSConnection object at 0x7f>:"
        " Failed to resolve 'hub.example' ([Errno -2] Name or service not known)",
        "hub.example",
    ),
    "aiohttp": (
        "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host hub.example:443 ssl:default"
        " [Temporary failure in name resolution]",
        "hub.example",
    ),
    "git": (
        "fatal: unable to access 'https://code.example/a/b/': Could not resolve host: code.example",
        "https://code.example/a/b/",
    ),
    "ssh": (
        "ssh: Could not resolve hostname code.example: Temporary failure in name resolution",
        "code.example",
    ),
    "apt": ("  Temporary failure resolving 'mirror.example'", "mirror.example"),
    "apt: error": (
        "E: Failed to fetch http://mirror.example/debian/pool/a.deb  Temporary failure resolving"
        " 'mirror.example'",
        "http://mirror.example/debian/pool/a.deb",
    ),
    "node": ("Error: getaddrinfo ENOTFOUND registry.example", "registry.example"),
    "npm": ("npm ERR! errno EAI_AGAIN: getaddrinfo EAI_AGAIN registry.example", "registry.example"),
    "node: address": ("Error: connect ENETUNREACH 192.0.2.7:443 - Local (0.0.0.0:0)", "192.0.2.7"),
    "java": (
        'Exception in thread "main" java.net.UnknownHostException: repo.example: Temporary failure in'
        " name resolution",
        "repo.example",
    ),
    "go: server": (
        "dial tcp: lookup proxy.example on 127.0.0.1:53: read udp 127.0.0.1:5->127.0.0.1:53: read: connection"
        " refused",
        "proxy.example",
    ),
    "go: get": (
        'Get "https://proxy.example/mod/@v/list": dial tcp: lookup proxy.example: no such host',
        "https://proxy.example/mod/@v/list",
    ),
    "go: address": ("dial tcp 192.0.2.7:443: connect: network is unreachable", "192.0.2.7"),
    "rust": (
        "error sending request for url (https://crates.example/index): error trying to connect: dns error:"
        " failed to lookup address information: Temporary failure in name resolution",
        "https://crates.example/index",
    ),
    "perl": ("Can't connect to data.example:80 (Temporary failure in name resolution)", "data.example"),
    "ping": ("ping: data.example: Temporary failure in name resolution", "data.example"),
    "R": ("  Could not resolve host: data.example", "data.example"),
}

UNNAMED = {
    "python": "socket.gaierror: [Errno -3] Temporary failure in name resolution",
    "python: unknown": "socket.gaierror: [Errno -2] Name or service not known",
    "python: address": "OSError: [Errno 101] Network is unreachable",
    "urllib": "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
    "nltk": "[nltk_data] Error loading x: <urlopen error [Errno -3] Temporary failure in name resolution>",
    "httpx": "httpx.ConnectError: [Errno -3] Temporary failure in name resolution",
    "pip": (
        "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after"
        " connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object"
        " at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name"
        " resolution')': /simple/click/"
    ),
    "java": "java.net.ConnectException: Network is unreachable (connect failed)",
    "ruby": "getaddrinfo: Temporary failure in name resolution (SocketError)",
}

OTHERS = {
    "nothing": "",
    "progress": "Epoch 3: loss 0.25, network weights saved",
    "loopback": ("curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server"),
    "loopback address": "curl: (7) Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect",
    "loopback, Go": "dial tcp 127.0.0.1:5432: connect: connection refused",
    "loopback, pool": (
        "HTTPConnectionPool(host='localhost', port=9200): Max retries exceeded with url: / (Caused by …)"
    ),
    "loopback, Java": "java.net.ConnectException: Connection refused",
    "file": "FileNotFoundError: [Errno 2] No such file or directory: 'resolve.txt'",
}


@pytest.mark.parametrize(("line", "address"), NAMED.values(), ids=NAMED)
def test_an_address_is_found(line: str, address: str) -> None:
    assert find_refusal(line.encode() + b"\n") == (address, True)


@pytest.mark.parametrize("line", UNNAMED.values(), ids=UNNAMED)
def test_a_line_without_an_address_is_given_itself(line: str) -> None:
    assert find_refusal(line.encode() + b"\n") == (line[:300], False)


@pytest.mark.parametrize("line", OTHERS.values(), ids=OTHERS)
def test_other_lines_are_none(line: str) -> None:
    assert find_refusal(line.encode()) is None


def test_each_address_is_given_once_and_lines_only_without_one() -> None:
    refusals = Refusals()
    refusals.look_at(b"OSError: [Errno 101] Network is unreachable\n")
    assert refusals.found() == ("OSError: [Errno 101] Network is unreachable",)
    for _ in range(3):
        refusals.look_at(b"curl: (6) Could not resolve host: a.example\n")
    refusals.look_at(b"fatal: unable to access 'https://a.example/x/': Could not resolve host: a.example\n")
    refusals.look_at(b"curl: (6) Could not resolve host: b.example\n")
    assert refusals.found() == ("https://a.example/x/", "b.example")
