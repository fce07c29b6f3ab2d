"""Where the bodies of recorded exchanges can be had: beside the lock, or upstream again by digest.

Knows nothing of how exchanges are recorded or answered.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprobuild.derivation.folder import RECORDED
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.recorded import is_given_again, url_of
from reprobuild.derivation.steps import Run
from reprobuild.errors import OutsideError
from reprobuild.fetch.download import Download
from reprobuild.settings import Settings

if TYPE_CHECKING:
    from reprobuild.derivation.steps import Fetched

SHOWN = 20


def downloads(step: Run, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give a download for each exchange of a step: beside the lock, then where the recipe says that an
    answer is, then the exchange's own URL where a plain request is likely to give it again."""
    return exchange_downloads(pins, str(step.where), settings, step.answers)


def exchange_downloads(
    pins: Iterable[Pin], where: str, settings: Settings, answers: Mapping[str, Fetched] = {}
) -> list[Download]:
    """Give a download for each exchange; ``answers``: URL → the source that answers it."""
    found = []
    for pin in pins:
        url = url_of(pin)
        if url in answers:
            one = _download_of_answer(answers[url], pin, settings)
        else:
            one = Download(name="", urls=(url,) if is_given_again(pin) else ())
        beside = f"file:{RECORDED}/{pin.sha256.hex}"
        found.append(
            replace(
                one, name=pin.name, urls=(beside, *one.urls), sha256=pin.sha256, size=pin.size, where=where
            )
        )
    return found


def _download_of_answer(source: Any, pin: Pin, settings: Settings) -> Download:
    finder = importlib.import_module(f"reprobuild.fetch.{source.kind}")
    # The answer's pin keeps the name that the source knows the file by among what helps to find it.
    own = Pin(name=pin.found.get("path", ""), size=pin.size, sha256=pin.sha256, found=pin.found)
    (one,) = finder.downloads(source, [own], settings)
    assert isinstance(one, Download)
    return one


def within_reach(wanted: Iterable[Download], folder: Path, again: str) -> list[Download]:
    """Give the downloads with the addresses that there are: what lies beside the lock is taken from there.

    ``folder``: the recipe's; ``again``: the call that records anew. Raises OutsideError, naming each body
    that is nowhere.
    """
    mend = f"reprobuild import FILE takes the bytes from a copy of them; or record anew: {again}"
    found, lost = [], []
    for one in wanted:
        beside, *others = one.urls
        is_beside = (folder / beside.removeprefix("file:")).is_file()
        if not is_beside and not others:
            lost.append(one)
        if is_beside:
            path = os.path.relpath(folder / beside.removeprefix("file:"))
            restore = f"restore {path} from version control; or {mend}"
            found.append(replace(one, urls=(beside,), folder=folder, mend=restore, lost=restore))
        else:
            found.append(replace(one, urls=tuple(others), folder=folder, mend=mend, lost=mend))
    if lost:
        lines = [f"  {one.sha256} ({one.size:,} bytes): {one.name}" for one in lost[:SHOWN]]
        lines += [f"  and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else []
        one = lost[0]
        raise OutsideError(
            "\n".join(
                [
                    f"{one.where}: recorded bodies are neither in {folder / RECORDED} nor in the store, and "
                    "their servers would not give them again:",
                    *lines,
                ]
            ),
            mend,
        )
    return found
