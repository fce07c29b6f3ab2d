"""A large download by curl through the gateway, recorded and replayed, beside the same without it.

All over TLS on loopback, curl writing a file each time; the server is nginx: once as fast as it can, where
it, curl and what stands between them share the machine's cores, and once at the pace of a fast network. The
peers: no gateway, nginx as a proxy that stores what it passes on (without a digest), and our own download
without a client. The gateway runs in a process of its own, whose memory is measured. What is written lies
in memory where that has the room: a disk to which a recorded body is written twice would be all that is
measured. Knows nothing of how the table is printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.table import Row
from benchmarks.timing import command
from tests.require import find_program

ROOT = Path(__file__).resolve().parent.parent
TOTAL = int(os.environ.get("REPROBUILD_BENCH_DOWNLOAD", str(5 * 1000**3)))
ROUNDS = 2
HOST = "files.test"
FAST, PACED = "large", "paced"
PACE = 312_500_000
"""Bytes a second of the network that ``PACED`` stands for: 2.5 Gbit/s."""
IN_MEMORY = Path("/dev/shm")


def rows() -> list[Row]:
    """Measure: megabytes a second, more is better; and the gateway's memory at its peak."""
    if missing := [name for name in ("curl", "nginx") if find_program(name) is None]:
        print(f"left out: {' and '.join(missing)} is not installed", file=sys.stderr)
        return []
    with ExitStack() as stack:
        served, folder = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reprobuild-bench-", dir=place)))
            for place in (os.environ.get("TMPDIR"), place_to_write())
        )
        make_file(served / "root" / FAST)
        (served / "root" / PACED).symlink_to(FAST)
        upstream = stack.enter_context(nginx(served))
        proxy = stack.enter_context(nginx(folder, upstream))
        return [
            *measure(folder, upstream, proxy, FAST, "as fast as it can"),
            *measure(folder, upstream, proxy, PACED, "at 2.5 Gbit/s"),
        ]


def place_to_write() -> str | None:
    """Give where two copies of the file are written: memory if it has room for them."""
    try:
        has_room = shutil.disk_usage(IN_MEMORY).free > 3 * TOTAL and not os.environ.get("TMPDIR")
    except OSError:
        has_room = False
    return str(IN_MEMORY) if has_room else os.environ.get("TMPDIR")


def measure(folder: Path, upstream: Server, proxy: Server, name: str, pace: str) -> list[Row]:
    """Download plainly, recorded and replayed, in turns; every recording is into a store of its own."""
    seconds: dict[str, list[float]] = {"plain": [], "proxy": [], "fetch": [], "record": [], "replay": []}
    memory = {"record": 0.0, "replay": 0.0}
    fetch = [sys.executable, "-m", "benchmarks.bench_gateway", "fetch", str(folder), name]
    for _ in range(ROUNDS):
        seconds["plain"].append(timed(curl(folder, name, upstream)))
        seconds["proxy"].append(timed(curl(folder, name, proxy)))
        shutil.rmtree(folder / "stored")
        seconds["fetch"].append(timed(fetch, environment(upstream)))
        shutil.rmtree(folder / "store")
        for mode in ("record", "replay"):
            with gateway(mode, folder, upstream) as gate:
                seconds[mode].append(timed(curl(folder, name, gate)))
            memory[mode] = max(memory[mode], gate.peak)
        shutil.rmtree(folder / "store")
    speeds = {name: TOTAL / 1000**2 / min(found) for name, found in seconds.items()}
    size = f"{TOTAL / 1000**3:.1f} GB by curl, {pace}"
    peers = {"without a gateway": speeds["plain"]}
    others = {
        "nginx, a proxy that stores": speeds["proxy"],
        "reprobuild's own download": speeds["fetch"],
    }
    return [
        Row(f"{size}, recorded", speeds["record"], {**peers, **others}, "MB/s", "more"),
        Row(f"{size}, recorded: the gateway's memory", memory["record"], {}, "MB"),
        Row(f"{size}, replayed", speeds["replay"], peers, "MB/s", "more"),
        Row(f"{size}, replayed: the gateway's memory", memory["replay"], {}, "MB"),
    ]


def timed(work: list[str], env: Mapping[str, str] | None = None) -> float:
    """Give the seconds that a command takes."""
    run = command(work, env=env, cwd=str(ROOT))
    os.sync()  # what one has written must not slow the next one down
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def environment(upstream: Server) -> dict[str, str]:
    """Give what lets reprobuild reach the server."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "REPROBUILD_CONNECT_TO": f"{HOST}:443:127.0.0.1:{upstream.port}",
        "REQUESTS_CA_BUNDLE": str(upstream.authority),
    }


def make_file(path: Path) -> None:
    """Make a file that nothing can compress."""
    path.parent.mkdir()
    block = os.urandom(8 * 1024**2)
    with path.open("wb") as file:
        written = 0
        while written < TOTAL:
            written += file.write(block[: TOTAL - written])


def curl(folder: Path, name: str, server: Server | Gateway) -> list[str]:
    """Give curl's command line for the download."""
    return [str(find_program("curl")), "-sSf", "--noproxy", "*", "--cacert", str(server.authority),
            "--connect-to", f"{HOST}:443:127.0.0.1:{server.port}", "-o", str(folder / "arrived"),
            f"https://{HOST}/{name}"]  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server with the file, or one that passes it on."""

    port: int
    authority: Path


@contextmanager
def nginx(folder: Path, upstream: Server | None = None) -> Iterator[Server]:
    """Serve the file over TLS, out of ``root``, or as a proxy that stores what it takes from upstream."""
    from tests.servers import free_port, server
    from tests.upstreams import Authority

    authority = Authority(folder)
    pair = authority.issue(HOST)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    if upstream is None:
        what = f"root {folder}/root; location /{PACED} {{ limit_rate {PACE}; }}"
    else:
        what = (
            f"location / {{ proxy_pass https://127.0.0.1:{upstream.port}; proxy_http_version 1.1;"
            f" proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_verify on;"
            f" proxy_ssl_trusted_certificate {upstream.authority};"
            f" proxy_buffers 16 256k; proxy_busy_buffers_size 512k; proxy_max_temp_file_size {2 * TOTAL};"
            f" proxy_temp_path {folder}/passing; proxy_store {folder}/stored$uri; }}"
        )
    settings = folder / "nginx.conf"
    settings.write_text(
        f"daemon off; {user} pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port} ssl;"
        f" ssl_certificate {pair}; ssl_certificate_key {pair}; {what} }} }}\n"
    )

    def is_up() -> bool:
        import socket

        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    argv = [str(find_program("nginx")), "-p", str(folder), "-c", str(settings), "-e", "stderr"]
    with server("nginx", argv, folder / "log", is_up):
        yield Server(port, authority.path)


@dataclass
class Gateway:
    """A process with an open gateway."""

    port: int
    authority: Path
    peak: float = 0.0
    """Megabytes of memory, at most; known when it has ended."""


@contextmanager
def gateway(mode: str, folder: Path, upstream: Server) -> Iterator[Gateway]:
    """Run a gateway in a process of its own; what it records the next one replays."""
    argv = [sys.executable, "-m", "benchmarks.bench_gateway", mode, str(folder)]
    with subprocess.Popen(
        argv, env=environment(upstream), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        gate = Gateway(int(_line(process.stdout)), folder / "gateway.pem")
        yield gate
        process.stdin.close()
        gate.peak = float(_line(process.stdout))


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline()
    if not line:
        raise RuntimeError("the gateway's process ended early")
    return line


def fetch(folder: Path, name: str) -> None:
    """Download as a ``url`` source does."""
    from reprobuild import settings
    from reprobuild.events import ignore
    from reprobuild.fetch.download import Download, fetch_all
    from reprobuild.store.store import Store

    chosen = settings.load({}, os.environ, str(folder))
    fetch_all(
        Store.open(folder / "store"),
        [Download(name=name, urls=(f"https://{HOST}/{name}",))],
        tell=ignore,
        settings=chosen,
    )


def serve(mode: str, folder: Path) -> None:
    """Be that process: print the port, serve until standard input ends, print the memory used."""
    from reprobuild import settings
    from reprobuild.derivation.pins import Pin
    from reprobuild.digest import Digest
    from reprobuild.events import ignore
    from reprobuild.gateway.gate import recording, replaying
    from reprobuild.store.store import Store
    from tests.doors import opened

    store = Store.open(folder / "store")
    record = folder / "record.json"
    if mode == "record":
        gate = recording(store, settings.load({}, os.environ, str(folder)), tell=ignore)
    else:
        pins = [
            Pin(name, size, Digest(sha256), hashed)
            for name, size, sha256, hashed in json.loads(record.read_text())
        ]
        gate = replaying(store, pins)
    (folder / "gateway.pem").write_bytes(gate.certificate)
    with opened(gate, folder / "clients") as entry:
        print(entry.port(443), flush=True)
        sys.stdin.read()
    if mode == "record":
        found = [(pin.name, pin.size, pin.sha256.hex, dict(pin.hashed)) for pin in gate.pins]
        record.write_text(json.dumps(found))
    # Not ru_maxrss, which begins with what the process had that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024 / 1000**2, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "fetch":
        fetch(Path(sys.argv[2]), sys.argv[3])
    else:
        serve(sys.argv[1], Path(sys.argv[2]))
