"""What ``audit --predictions`` and ``audit --purity`` do: predictors are put to the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprobuild.cli.arguments import image_of, pairs
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.records import Records, read
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text
from reprobuild.cli.ui import say
from reprobuild.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from reprobuild.build.image import Realised
    from reprobuild.build.project import Project
    from reprobuild.predict.makings import Making
    from reprobuild.predict.purity import Purity
    from reprobuild.predict.target import Target


def audit_sample(session: Session, names: Sequence[str], count: int) -> int:
    """Compute some kept predictions again and compare; give the exit code."""
    from reprobuild.cli.cache import demand_known, opened
    from reprobuild.predict.recompute import recompute
    from reprobuild.publish.predictions import is_of

    with session.working() as project, opened(project) as cache:
        demand_known(cache, names)
        target_of = _target_finder(project)
        done = recompute(cache, count, target_of, project.tell, chosen=lambda tag: is_of(tag, names))
    if session.json:
        findings = [
            {"predictor": one.tag, "key": one.key.hex(), "problem": one.problem} for one in done.differing
        ]
        fields = {"sampled": done.sampled, "equal": done.equal, "within_tolerance": done.close}
        print_json(document(**fields, findings=findings, skipped=dict(done.skipped)))
    else:
        for one in done.differing:
            print_text(f"prediction {one.key.hex()[:16]} of {one.tag}: {one.problem}")
        if not session.quiet:
            for name, reason in done.skipped.items():
                say(f"note: {name} can't be computed again here: {reason}")
            close = f", {done.close:,} within tolerance" if done.close else ""
            told = f"{done.equal:,} equal{close}, {len(done.differing):,} differ"
            none = "no prediction that can be computed again here has its input kept"
            again = f"{count_text(done.sampled, 'prediction')} computed again: {told}"
            say(f"audit: {again if done.sampled else none}")
    return CheckFailedError.exit_code if done.differing else 0


def audit_purity(
    session: Session, names: Sequence[str], given: Records | None, parameters: Sequence[str], device: str
) -> int:
    """Give predictors the same records in other arrangements; give the exit code."""
    from reprobuild.build.find import is_reference
    from reprobuild.predict.target import make_target, split_name

    if not names:
        raise UsageError("--purity of which predictors?", "name a recipe or a predictor")
    texts = pairs(parameters, "--param")
    found: list[tuple[str, Purity]] = []
    for name in names:
        recipe, predictor = split_name(name)
        is_one = name != recipe or given is not None
        with session.working() as project:
            image = image_of(project, recipe, (), trust=False)
            folder = Path() if is_reference(project, recipe) else project.recipe_folder(recipe)
            target = make_target(project, image)
            common: Mapping[str, Any] = {"device": device, "tell": project.tell}
            chosen = predictor if is_one else ""
            for shown, check in _checks(target, chosen, given, texts, folder, common):
                found.append((shown, check))
    if session.json:
        told = [
            {
                "predictor": shown,
                "records": one.records,
                "runs": one.runs,
                "findings": [
                    {"where": bad.where, "arrangement": bad.arrangement, "problem": bad.problem}
                    for bad in one.differing
                ],
            }
            for shown, one in found
        ]
        print_json(document(predictors=told))
    else:
        for shown, one in found:
            for bad in one.differing:
                print_text(f"{shown}, {bad.where}: {bad.arrangement}, {bad.problem}")
            if not session.quiet:
                few = ": too few to be put in another order" if one.records == 1 else ""
                say(
                    f"{shown}: {count_text(one.records, 'record')}{few}, {one.runs} runs: "
                    + (f"{len(one.differing):,} differ" if one.differing else "each output as it was")
                )
    return CheckFailedError.exit_code if any(one.differing for _, one in found) else 0


def _checks(
    target: Target,
    predictor: str,
    source: Records | None,
    parameters: Mapping[str, str],
    folder: Path,
    common: Mapping[str, Any],
) -> Iterator[tuple[str, Purity]]:
    """Check a predictor, or all of item scope that have examples; once for each set of parameters.

    ``folder``: what files in examples are relative to.
    """
    from reprobuild.predict.parameters import parse_parameters
    from reprobuild.predict.purity import check_purity

    chosen = [predictor] if predictor else [n for n, one in target.predictors.items() if one.scope == "item"]
    if not chosen:
        raise UsageError(f"{target.recipe} has no predictor of item scope", "purity is for those")
    for name in chosen:
        shown = f"{target.recipe}/{name}"
        if source is not None:
            filled = parse_parameters(target.predictor(name), parameters)
            given = read(source, target.predictor(name), shown)
            records = [record for chunk in given.chunks for record in chunk]
            staged = given.staged
            yield (
                shown,
                check_purity(target, name, records, given.label, parameters=filled, staged=staged, **common),
            )
            continue
        if not target.predictor(name).examples:
            if predictor:
                raise UsageError(f"{shown} has no examples", "give it records: --input FILE")
            continue
        yield from _check_examples(target, name, folder, common)


def _check_examples(
    target: Target, name: str, folder: Path, common: Mapping[str, Any]
) -> Iterator[tuple[str, Purity]]:
    """Check a predictor with its examples; those with equal parameters together."""
    from reprobuild.canonical import canonical
    from reprobuild.errors import InputError
    from reprobuild.predict.fields import Fields
    from reprobuild.predict.purity import check_purity
    from reprobuild.predict.records import encode_records
    from reprobuild.predict.staging import StagedFiles

    shown = f"{target.recipe}/{name}"
    fields = Fields(target.predictor(name).inputs)

    def refuse(index: int, reason: str) -> InputError:
        return InputError(f"{shown}, record {index + 1} of its examples: {reason}")

    alike: dict[bytes, tuple[Mapping[str, Any], list[Any]]] = {}
    for example in target.predictor(name).examples:
        _, items = alike.setdefault(canonical(dict(example.parameters)), (example.parameters, []))
        items += [dict(given) for given, _ in example.items]
    for parameters, items in alike.values():
        staged = StagedFiles(fields, folder, refuse) if fields.files else None
        rewrite = staged.rewrite if staged is not None else None
        chunks = encode_records(items, fields, refuse, rewrite=rewrite)
        records = [record for chunk in chunks for record in chunk]
        label = "record {} of its examples".format
        yield (
            shown,
            check_purity(
                target,
                name,
                records,
                lambda index, label=label: label(index + 1),  # type: ignore[misc]
                parameters=parameters,
                staged=staged,
                **common,
            ),
        )


def _target_finder(project: Project) -> Callable[[Making], Target | None]:
    """Give what finds the image of the store that a making was made with."""
    from reprobuild.build.find import images
    from reprobuild.predict.key import run_id
    from reprobuild.predict.target import make_target

    found: dict[tuple[str, str], Realised] = {}
    for image in images(project.store):
        run = run_id([layer.diff_id for layer in image.layers], image.env, image.workdir)
        found[str(run), image.recipe] = image

    def target_of(making: Making) -> Target | None:
        run, recipe = str(making.parts.get("run_id")), making.tag.rpartition("/")[0]
        # An image that equals another in all that a command sees may have other predictors.
        image = found.get((run, recipe))
        return None if image is None else make_target(project, image)

    return target_of
