"""What ``cache explain`` does once its arguments have been read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reprobuild.cli.arguments import image_of, pairs
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.records import Records, read
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, seconds_text
from reprobuild.cli.ui import say
from reprobuild.cli.why import value_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reprobuild.predict.explain import Explained
    from reprobuild.store.store import Store


PARTS = {"run_id": "image", "device": "device", "threads": "threads", "parameters.seed": "seed"}
"""What people call parts of a key, where that is not their name."""


def explain(
    session: Session,
    name: str,
    given: Records,
    *,
    parameters: Sequence[str],
    device: str,
    limit: int | None,
    sets: Sequence[str],
    trust: bool,
) -> int:
    """Explain the records of a file; give the exit code."""
    from reprobuild.predict.cache import PredictionCache
    from reprobuild.predict.call import Call, Options
    from reprobuild.predict.explain import Explainer
    from reprobuild.predict.key import KeyMaker
    from reprobuild.predict.parameters import is_cacheable, parse_parameters
    from reprobuild.predict.target import make_target, split_name

    texts = pairs(parameters, "--param")
    recipe, predictor = split_name(name)
    with session.working() as project:
        target = make_target(project, image_of(project, recipe, sets, trust=trust))
        filled = parse_parameters(target.predictor(predictor), texts)
        # A call that is never answered: it checks parameters and device as predict does.
        call = Call(target, predictor, Options(parameters=filled, device=device, cache="off"), project.tell)
    keys = KeyMaker(target.run_id, call.predictor, call.parameters, call.device_class)
    tag = f"{target.recipe}/{predictor}"
    records = read(given, call.predictor, tag, limit)
    with PredictionCache.open(target.store) as cache:
        label = records.label
        explainer = Explainer(cache, keys, call.predictor, tag)
        found = list(explainer.explain(records.chunks))
    remembered = is_cacheable(call.predictor, call.parameters)
    tags = _tags(project.store) if any(one.differences for one in found) else {}
    if session.json:
        told = [_as_json(one, label, tags) for one in found]
        cached = sum(one.is_cached for one in found)
        fields = {"making": keys.making.decode(), "remembered": remembered, "cached": cached}
        print_json(document(predictor=tag, **fields, records=told))
        return 0
    for one in found:
        print_text("\n".join(_lines(one, label, tag, tags, is_known=explainer.is_known)))
    if not session.quiet:
        if not remembered:
            say(
                f"note: {tag} samples, and no seed is given: nothing is remembered so\n"
                "  hint: --param seed=N, with the seed that predict was given"
            )
        noun = "record" if call.predictor.scope == "item" else "call"
        say(f"{tag}: {sum(one.is_cached for one in found):,} of {count_text(len(found), noun)} cached")
    return 0


def _tags(store: Store) -> dict[str, str]:
    """Give the images of the store by their run IDs."""
    from reprobuild.build.find import images
    from reprobuild.predict.key import run_id

    return {
        str(run_id([layer.diff_id for layer in image.layers], image.env, image.workdir)): image.tag
        for image in images(store)
    }


def _where(one: Explained, label: Callable[[int], str]) -> str:
    return label(one.first) if one.count == 1 else f"the call of {one.count:,} records"


def _lines(
    one: Explained, label: Callable[[int], str], tag: str, tags: Mapping[str, str], *, is_known: bool
) -> list[str]:
    where = f"{_where(one, label)}: "
    key = one.key.hex()[:16]
    if one.is_cached:
        return [f"{where}cached  {key}  {_made(one.provenance)}"]
    if one.is_damaged:
        return [
            f"{where}not cached  {key}  what is kept does not fit its digest",
            "  hint: reprobuild cache verify --repair",
        ]
    lines = [f"{where}not cached  {key}"]
    if one.nearest is None or (is_known and not one.has_record):
        lines.append(
            "  a new record: others were predicted just so" if is_known else f"  nothing of {tag} is kept"
        )
        return lines
    if one.has_record:
        lines.append("  the same record is kept, made otherwise:")
    else:
        lines.append(f"  no prediction of this record is kept; the nearest of {tag} was made otherwise:")
    for part in one.differences:
        name = PARTS.get(part.path, part.path)
        before, after = (_value_text(part.path, value, tags) for value in (part.before, part.after))
        lines.append(f"    {name}: {before} → {after}")
    return lines


def _value_text(path: str, value: Any, tags: Mapping[str, str]) -> str:
    if path == "parameters.seed" and value is None:
        return "none given"
    if path != "run_id":
        return value_text(value)
    return tags.get(value, f"{str(value)[:19]}… (not in the store)")


def _made(facts: Mapping[str, Any]) -> str:
    """Say how a prediction was made: when, where, how long it took."""
    from reprobuild.predict.sealed import IMPORTED, seconds_each

    inner = facts.get(IMPORTED)
    source = ""
    if isinstance(inner, dict):
        source = f", imported from {str(inner.get('from'))[:19]}…, not computed here"
        facts_there = inner.get("provenance")
        facts = facts_there if isinstance(facts_there, dict) else {}
    cpu = f" ({facts['cpu']})" if "cpu" in facts else ""
    shown = (("device", "", cpu), ("engine", "", ""), ("driver", "driver ", ""), ("tool", "reprobuild ", ""))
    parts = []
    if isinstance(created := facts.get("created"), int):
        parts.append(time.strftime("%Y-%m-%d %H:%M", time.localtime(created)))
    parts += [f"{before}{facts[name]}{after}" for name, before, after in shown if name in facts]
    seconds = seconds_each(facts)
    if seconds > 0:
        parts.append((f"{seconds * 1000:.2f} ms" if seconds < 1 else seconds_text(seconds)) + " an item")
    return ", ".join(parts) + source


def _as_json(one: Explained, label: Callable[[int], str], tags: Mapping[str, str]) -> dict[str, Any]:
    nearest = None
    if one.nearest is not None:
        nearest = {
            "making": one.nearest.body.decode(),
            "image": tags.get(one.nearest.parts.get("run_id", ""), ""),
            "has_record": one.has_record,
            "differences": [
                {"path": part.path, "before": part.before, "after": part.after} for part in one.differences
            ],
        }
    return {
        "where": _where(one, label),
        "index": one.first,
        "count": one.count,
        "key": one.key.hex(),
        "cached": one.is_cached,
        "damaged": one.is_damaged,
        "provenance": dict(one.provenance) if one.is_cached else None,
        "nearest": nearest,
    }
