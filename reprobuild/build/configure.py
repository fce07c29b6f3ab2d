"""Packages installed by the tree's own dpkg in the sandbox, maintainer scripts and all.

A function of the pinned packages and of the whole tree below. The packages lie in the sandbox as part of
the tree; the first ones, which bring dpkg itself, are unpacked by us (``place/apt.py``) before dpkg unpacks
them again, in the order in which debootstrap goes about it. Knows nothing of indexes or of choosing. See
``docs/apt.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reprobuild.build.capture import StoreCapture
from reprobuild.build.place import apt as place_apt
from reprobuild.debian.control import Stanza, parse_stanza
from reprobuild.debian.installed import STATUS, STATUS_FOLDER, SUMS
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Apt
from reprobuild.engine.protocol import Command, Engine
from reprobuild.errors import BuildFailedError
from reprobuild.images.normal_form import Dropped
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Entry, Layer, Tree, difference, directory, file, overlay

PACKAGES = ".reprobuild-packages"
"""Where the packages lie in the root while dpkg works."""

POLICY = "/usr/sbin/policy-rc.d"
"""What scripts ask before they start a service (invoke-rc.d(8)); 101 is no."""

AVAILABLE = "var/lib/dpkg/available"
SHOWN_LINES = 30

FIRST = ("base-passwd", "base-files", "dpkg", "libc6", "perl-base", "mawk", "debconf")
"""What debootstrap installs first, one by one: the scripts of all others need it."""

ENVIRONMENT: Mapping[str, str] = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "DEBCONF_NOWARNINGS": "yes",
    "DPKG_FRONTEND_LOCKED": "",
    "PYTHONDONTWRITEBYTECODE": "",
}

SCRIPT = """
set -e
packages=$1; shift
dpkg() { command dpkg --force-depends --force-unsafe-io --force-confold --force-overwrite "$@" </dev/null; }
if [ "$1" = first ]; then
    shift
    # As debootstrap: scripts call awk before an alternative for it is chosen.
    [ -e /usr/bin/awk ] || { ln -s mawk /usr/bin/awk; ours=yes; }
    for name in "$@"; do
        [ "$name" != mawk ] || [ -z "$ours" ] || { rm /usr/bin/awk; ours=; }
        dpkg --install "$packages/$name".deb
    done
    [ -z "$ours" ] || [ "$(readlink /usr/bin/awk)" != mawk ] || rm /usr/bin/awk
fi
dpkg --skip-same-version --unpack "$packages"/*.deb
command dpkg --force-unsafe-io --force-confold --configure --pending </dev/null
faults=$(dpkg-query --show --showformat='${Package} is ${Status}\n' | grep -v 'ok installed$' || true)
[ -z "$faults" ] || { echo "$faults"; exit 1; }
# Keys and numbers that would be others each time, and the same in all copies of the image.
[ ! -s /etc/machine-id ] || { rm /etc/machine-id; : >/etc/machine-id; chmod 0444 /etc/machine-id; }
[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
for link in /etc/ssl/certs/*.[0-9]; do
    [ "$(readlink "$link")" != ssl-cert-snakeoil.pem ] || rm "$link"
done
rm -f /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/private/ssl-cert-snakeoil.key
rm -f /var/lib/dpkg/*-old /var/cache/debconf/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow-
"""


def install(
    step: Apt,
    pins: Sequence[Pin],
    tree: Tree,
    below: Sequence[Layer],
    *,
    what: str,
    store: Store,
    engine: Engine,
    group: Transaction,
    output: Callable[[bytes], None],
) -> tuple[Layer, tuple[Dropped, ...]]:
    """Give what installing pinned packages changes in a tree, and what of that its normal form has not.

    ``below``: the layers that make the tree; ``what``: how errors call the step. Bodies go into the group.
    Raises BuildFailedError where dpkg or a script fails, ArchiveError, and what the engine raises.
    """
    with store.transaction() as scaffolding:
        scaffold, is_bare = _scaffold(step, pins, tree, store, scaffolding)
    given = overlay(tree, [*scaffold, directory(PACKAGES, 0o755), *map(_package, pins)])
    names = {str(pin.hashed["package"]) for pin in pins}
    first = ["first", *(name for name in FIRST if name in names)] if is_bare else []
    with store.scratch("configure") as scratch:
        policy = scratch / "policy-rc.d"
        policy.write_bytes(b"#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        command = Command(
            ("/bin/sh", "-c", SCRIPT, "dpkg", f"/{PACKAGES}", *first),
            env=ENVIRONMENT,
            inputs={POLICY: policy},
        )
        capture = StoreCapture(group)
        with engine.ground([*below, difference(tree, given)]) as ground:
            result = engine.run(ground, command, capture=capture, output=output)
    if result.exit_code:
        shown = "\n".join(f"  {line}" for line in result.tail[-SHOWN_LINES:])
        raise BuildFailedError(
            f"{what}: dpkg ended with exit code {result.exit_code}\n{shown}".rstrip(),
            "without configure=True no script runs: accounts, alternatives and the like come from tables",
        )
    normal = capture.normal_form(given, owners=False)
    kept = (
        entry for entry in normal.tree if entry.path != PACKAGES and not entry.path.startswith(PACKAGES + "/")
    )
    return difference(tree, Tree(kept)), normal.dropped


def _scaffold(
    step: Apt, pins: Sequence[Pin], tree: Tree, store: Store, group: Transaction
) -> tuple[list[Entry], bool]:
    """Give what a tree lacks for dpkg to work in it, and whether that is dpkg itself."""
    if tree.get(STATUS) is not None:
        return [], False
    stanzas = _placed(tree, store)
    status = b"\n".join(stanzas)
    scaffold = [_no_files(parse_stanza(stanza.decode("utf-8", "replace")), group) for stanza in stanzas]
    if not stanzas:
        scaffold += place_apt.unpacked(pins, place_apt.facts(step, tree, store), store, group)
    scaffold.append(file(STATUS, group.add_bytes(status), len(status)))
    scaffold.append(file(AVAILABLE, group.add_bytes(b""), 0))
    return scaffold, not stanzas


def _package(pin: Pin) -> Entry:
    """Give a package as part of the tree; dpkg takes them by the order of their names."""
    return file(f"{PACKAGES}/{pin.hashed['package']}.deb", pin.sha256, pin.size)


def _placed(tree: Tree, store: Store) -> list[bytes]:
    """Give what a tree says of packages that were placed without dpkg, as dpkg's own list has it."""
    return [
        store.blobs.read(entry.digest).strip(b"\n") + b"\n"
        for entry in tree.below(STATUS_FOLDER)
        if entry.digest is not None and not entry.path.endswith(SUMS)
    ]


def _no_files(fields: Stanza, group: Transaction) -> Entry:
    """Give the list of a placed package's files, which dpkg is to leave alone."""
    qualified = f":{fields['architecture']}" if fields.get("multi-arch") == "same" else ""
    return file(f"var/lib/dpkg/info/{fields['package']}{qualified}.list", group.add_bytes(b""), 0)
