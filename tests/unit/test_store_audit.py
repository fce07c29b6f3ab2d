"""What an audit finds, and what is left after its findings were set aside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.events import Checked, Event
from reprobuild.store.audit import Finding, audit, set_aside
from reprobuild.store.hash_pool import hash_files
from reprobuild.store.store import Store
from reprobuild.tree import Layer, directory, link
from tests.unit.stores import LARGE, USER, as_user, image_of, layer_of, users_folder


class Sample:
    """A store with an image, its checkout and its root."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder)
        self.layer = layer_of(
            self.store,
            {"usr/a": b"small", "usr/large": LARGE, "c": b"copied"},
            link("bin", "usr"),
            directory("tmp", 0o1777),
        )
        self.image = image_of(self.store, "image", self.layer)
        self.store.roots.set("image", [self.image], "realized")
        with self.store.checkouts.lay_out([self.layer]) as checkout:
            (self.checkout,) = checkout.lowers

    def blob(self, body: bytes) -> Path:
        return self.store.blobs.path(Digest.of(body))

    def findings(self) -> list[Finding]:
        return list(audit(self.store, jobs=1))


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "store")


def keeping_time(path: Path, data: bytes) -> None:
    """Write to a file as somebody does who hides it."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def as_file(path: Path) -> None:
    path.rmdir()
    path.write_bytes(b"")


def as_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def edited(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))


def record_of(sample: Sample) -> Path:
    return Path(sample.store.realisations.locate(sample.image))


def bad_listing(sample: Sample) -> None:
    with sample.store.transaction() as group:
        listing = group.add_bytes(b"layer 1\nnonsense\n")
        group.record(Digest.of(b"k"), {"kind": "run", "layer": str(listing)})


def wrong_size(sample: Sample) -> None:
    entries = [entry._replace(size=99) if entry.path == "c" else entry for entry in sample.layer.entries]
    with sample.store.transaction() as group:
        listing = group.add_bytes(Layer(entries).listing)
        group.record(Digest.of(b"k"), {"kind": "run", "layer": str(listing)})


# What was done: how, the kind of the finding, and what it says.
DAMAGES: dict[str, tuple[Callable[[Sample], object], str, str]] = {
    "a flipped bit": (lambda s: keeping_time(s.blob(b"small"), b"smalm"), "blob", "are those of"),
    "a byte more": (lambda s: keeping_time(s.blob(b"small"), b"small!"), "blob", "6 bytes are those of"),
    "an emptied blob": (lambda s: keeping_time(s.blob(b"small"), b""), "blob", "0 bytes are those of"),
    "a touched blob": (lambda s: os.utime(s.blob(b"small")), "blob", "its time was changed"),
    "a blob's mode": (lambda s: s.blob(b"small").chmod(0o600), "blob", "mode was changed to 0600"),
    "a link for a blob": (
        lambda s: as_link(s.blob(b"small"), "/dev/null"),
        "blob",
        "cannot be read",
    ),
    "a deleted body": (lambda s: s.blob(b"small").unlink(), "listing", "lacks 1 blob that it names"),
    "a deleted listing": (
        lambda s: s.store.blobs.path(s.layer.digest).unlink(),
        "realisation",
        "lacks 1 blob that it needs",
    ),
    "a listing without sense": (bad_listing, "listing", "makes no sense"),
    "a listing with a wrong size": (wrong_size, "listing", "says 99 bytes"),
    "a strange file": (
        lambda s: (Path(s.store.blobs.folder) / "ab" / "notes.txt").write_bytes(b""),
        "leftover",
        "is no blob",
    ),
    "an edited file": (lambda s: keeping_time(s.checkout / "c", b"edited"), "checkout", "/c has other bytes"),
    "a longer file": (lambda s: keeping_time(s.checkout / "c", b"longer."), "checkout", "/c has 7 bytes"),
    "a touched file": (lambda s: os.utime(s.checkout / "c"), "checkout", "/c was changed"),
    "a file's mode": (lambda s: (s.checkout / "c").chmod(0o755), "checkout", "/c has mode 0755"),
    "a folder's mode": (lambda s: (s.checkout / "tmp").chmod(0o755), "checkout", "/tmp has mode 0755"),
    "a missing file": (lambda s: (s.checkout / "c").unlink(), "checkout", "/c is missing"),
    "an extra file": (
        lambda s: (s.checkout / "tmp" / "new").write_bytes(b""),
        "checkout",
        "/tmp/new does not belong",
    ),
    "another kind": (lambda s: as_file(s.checkout / "tmp"), "checkout", "/tmp is of another kind"),
    "another target": (
        lambda s: as_link(s.checkout / "bin", "etc"),
        "checkout",
        "/bin points to 'etc'",
    ),
    "a checkout without its list of links": (
        lambda s: (s.checkout.parent / f"{s.checkout.name}.links").unlink(),
        "checkout",
        "list of its links",
    ),
    "a cut record": (lambda s: record_of(s).write_bytes(b'{"ki'), "realisation", "makes no sense"),
    "a record of no kind": (lambda s: record_of(s).write_bytes(b"{}"), "realisation", "no kind"),
    "a record that names what is not there": (
        lambda s: edited(record_of(s), lambda record: record.update(config="sha256:" + "0" * 64)),
        "realisation",
        "lacks 1 blob that it needs: sha256:0000",
    ),
    "a deleted record": (lambda s: record_of(s).unlink(), "root", "there is no record"),
    "a cut root": (
        lambda s: Path(s.store.roots.locate("image")).write_bytes(b""),
        "root",
        "makes no sense",
    ),
}


def test_a_sound_store_has_no_findings(sample: Sample) -> None:
    assert sample.findings() == []


@pytest.mark.parametrize(("damage", "kind", "problem"), DAMAGES.values(), ids=DAMAGES)
def test_each_damage_is_found(
    sample: Sample, damage: Callable[[Sample], object], kind: str, problem: str
) -> None:
    damage(sample)
    findings = [finding for finding in sample.findings() if finding.kind == kind]
    assert any(problem in finding.problem for finding in findings), findings
    assert all(finding.hint and os.path.isabs(finding.where) for finding in findings)


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "a strange file"])
def test_what_is_set_aside_is_not_found_again(sample: Sample, name: str) -> None:
    DAMAGES[name][0](sample)
    for _ in range(3):
        for finding in sample.findings():
            set_aside(sample.store, finding)
    assert sample.findings() == []


def test_records_that_need_a_damaged_blob_are_forgotten(sample: Sample) -> None:
    keeping_time(sample.blob(b"small"), b"smalm")
    (finding,) = [finding for finding in sample.findings() if finding.kind == "blob"]
    assert set_aside(sample.store, finding)
    assert set_aside(sample.store, finding)  # what is gone is gone
    assert not sample.blob(b"small").exists()
    assert sample.store.realisations.get(sample.image) is None


def test_a_changed_link_is_named_once_as_the_blob(sample: Sample) -> None:
    keeping_time(sample.checkout / "usr" / "large", LARGE[:-1] + b"?")
    (finding,) = sample.findings()
    assert (finding.kind, finding.what) == ("blob", str(Digest.of(LARGE)))


def test_a_replaced_link_is_found(sample: Sample) -> None:
    (sample.checkout / "usr" / "large").unlink()
    (sample.checkout / "usr" / "large").write_bytes(LARGE)
    (sample.checkout / "usr" / "large").chmod(0o644)
    problems = [finding.problem for finding in sample.findings()]
    assert any("/usr/large was" in problem for problem in problems)


def test_a_blob_of_another_owner_is_found(sample: Sample) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(sample.blob(b"small"), 0, 0)
    (finding,) = sample.findings()
    assert "belongs to uid 0" in finding.problem
    set_aside(sample.store, finding)
    assert sample.findings() == []


def test_what_a_dead_process_left_is_no_damage(sample: Sample) -> None:
    child = os.fork()
    if child == 0:
        with sample.store.scratch("dead"):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert sample.findings() == []
    assert os.listdir(sample.store.tmp) == []


def test_progress_is_told(sample: Sample) -> None:
    told: list[Event] = []
    list(audit(sample.store, jobs=1, tell=told.append))
    assert told == [
        *(Checked("folders of blobs", number, 256) for number in range(1, 257)),
        Checked("checkouts", 1, 1),
    ]


def test_an_ordinary_user_audits_as_well() -> None:
    with users_folder() as folder:

        def work() -> list[str]:
            sample = Sample(folder / "store")
            layer = layer_of(sample.store, {"closed/file": b"x", "secret": b"y"}, directory("closed", 0))
            with sample.store.checkouts.lay_out([layer]) as checkout:
                sound = sample.findings()
                (checkout.lowers[0] / "secret").chmod(0o600)
            return [finding.problem for finding in (*sound, *sample.findings())]

        assert as_user(work) == ["/secret has mode 0600 instead of 0644"]


def test_many_files_are_hashed_in_processes(tmp_path: Path) -> None:
    paths = [f"{number}\n ü" for number in range(600)]
    for number, path in enumerate(paths):
        (tmp_path / path).write_bytes(b"%d" % number * (number % 50))
    (tmp_path / "folder").mkdir()
    found = dict(hash_files(str(tmp_path), [*paths, "missing", "folder"], jobs=2))
    assert found.keys() == {*paths, "missing", "folder"}
    for number, path in enumerate(paths):
        body = b"%d" % number * (number % 50)
        assert (found[path].digest, found[path].size) == (Digest.of(body).hex, len(body))
    assert (found["missing"].digest, found["missing"].errno) == ("", 2)
    assert (found["folder"].digest, found["folder"].errno) == ("", 0)


def test_large_files_are_hashed_in_processes(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(70_000_000)
    (tmp_path / "small").write_bytes(b"abc")
    found = dict(hash_files(str(tmp_path), ["large", "small"], jobs=2))
    assert found["large"].size == 70_000_000
    assert found["large"].digest == Digest.of_chunks(bytes(1_000_000) for _ in range(70)).hex
    assert found["small"].digest == Digest.of(b"abc").hex


def test_many_blobs_are_checked_in_processes(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.transaction() as group:
        digests = [group.add_bytes(b"%d" % number) for number in range(600)]
    assert list(audit(store, jobs=2)) == []
    keeping_time(store.blobs.path(digests[7]), b"x")
    keeping_time(store.blobs.path(digests[8]), b"")
    os.utime(store.blobs.path(digests[9]))
    store.blobs.path(digests[10]).unlink()
    (store.blobs.path(digests[10]).parent / "odd\nname").write_bytes(b"")
    found = {finding.what for finding in audit(store, jobs=2)}
    odd = f"{digests[10].hex[:2]}/odd\nname"
    assert found == {str(digests[7]), str(digests[8]), str(digests[9]), odd}


def test_hashing_can_be_broken_off(tmp_path: Path) -> None:
    for number in range(700):
        (tmp_path / str(number)).write_bytes(b"x")
    hashing = hash_files(str(tmp_path), [str(number) for number in range(700)], jobs=2)
    next(hashing)
    hashing.close()


def test_the_user_is_nobody_in_these_tests() -> None:
    from reprobuild.store.owner import is_nobodys

    assert is_nobodys(USER)
