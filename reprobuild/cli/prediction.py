"""What ``predict`` does once its arguments have been read, by click or without it.

Knows nothing of how arguments are written.
"""

from __future__ import annotations

import sys

from reprobuild.cli.arguments import image_of, pairs
from reprobuild.cli.output import print_json
from reprobuild.cli.text import count_text, seconds_text
from reprobuild.cli.ui import say
from reprobuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from reprobuild.cli.session import Session
    from reprobuild.predict.call import CacheMode, Failure, Summary

FAILURES_SHOWN = 10
"""Records that failed, named on the screen."""


def predict(
    session: Session,
    name: str,
    sources: Sequence[str],
    destination: str | None,
    *,
    input_format: str | None = None,
    output_format: str | None = None,
    mapping: Sequence[str] = (),
    include_input: bool = False,
    metrics: str | None = None,
    parameters: Sequence[str] = (),
    device: str = "cpu",
    cache: CacheMode = "use",
    limit: int | None = None,
    timeout: float | None = None,
    memory: str | None = None,
    jobs: int | None = None,
    keep_going: bool = False,
    failed: str | None = None,
    sets: Sequence[str] = (),
    trust: bool = False,
) -> int:
    """Predict from file to file and say what was done; give the exit code."""
    from reprobuild import events
    from reprobuild.predict.apart import demand_apart
    from reprobuild.predict.call import Options
    from reprobuild.predict.chosen import memory_limit
    from reprobuild.predict.files import Shape, predict_file
    from reprobuild.predict.forms import said_form
    from reprobuild.predict.parameters import parse_parameters
    from reprobuild.predict.target import make_target, split_name
    from reprobuild.predict.worker import Limits

    if failed is not None and not keep_going:
        raise UsageError("--failed lists the records that --keep-going goes past", "add --keep-going")
    texts = pairs(parameters, "--param")
    shape = Shape(
        input_form=None if input_format is None else said_form(input_format, "--format"),
        output_form=None if output_format is None else said_form(output_format, "--output-format"),
        mapping=pairs(mapping, "--map"),
        include_input=include_input,
        metrics=metrics or "",
        failed=failed or "",
    )
    # Here too, since an image may have to be built first.
    demand_apart(sources, {"--output": destination, "--metrics": metrics, "--failed": failed})
    limits = Limits(timeout, None if memory is None else memory_limit(memory, "--memory "))
    recipe, predictor = split_name(name)
    with session.working() as project:
        target = make_target(project, image_of(project, recipe, sets, trust=trust))
        options = Options(
            parameters=parse_parameters(target.predictor(predictor), texts),
            cache=cache,
            device=device,
            limits=limits,
            jobs=jobs or 0,
            keep_going=keep_going,
        )
        is_taken = destination == "-" and sys.stdout.isatty()

        def tell(event: events.Event) -> None:
            # A terminal that gets the predictions themselves has no place for bars.
            if not (is_taken and isinstance(event, events.ItemsProgressed | events.OutputLine)):
                project.tell(event)

        summary = predict_file(
            target, predictor, sources, destination, options=options, limit=limit, tell=tell, shape=shape
        )
    say_failures(summary.failed)
    if session.json and "-" not in (destination, metrics, failed):
        print_json(summary.as_json())
    elif session.json:
        with_stdout_taken(summary.as_json())
    elif not session.quiet:
        say(f"{recipe}/{predictor}: {what_was_done(summary)}")
    return 1 if summary.failed else 0


def what_was_done(summary: Summary) -> str:
    """Sum a call up in a line: how many items, where from, in what time."""
    saved = f", which saved {seconds_text(summary.saved_seconds)}" if summary.saved_seconds >= 1 else ""
    failed = f", {len(summary.failed):,} failed" if summary.failed else ""
    return (
        f"{count_text(summary.items, 'item')}, {summary.cached:,} from the cache{saved}, "
        f"{summary.computed:,} computed{failed}, {seconds_text(summary.seconds)}"
    )


def say_failures(failures: Sequence[Failure]) -> None:
    """Name the records that failed, the first of them, on stderr."""
    for failure in failures[:FAILURES_SHOWN]:
        say(f"failed: {failure}")
    if len(failures) > FAILURES_SHOWN:
        say(f"failed: {len(failures) - FAILURES_SHOWN:,} more; --failed FILE lists them all")


def with_stdout_taken(value: dict[str, object]) -> None:
    """Print a document to stderr, since stdout holds the predictions."""
    import json

    print(json.dumps(value, ensure_ascii=False), file=sys.stderr)
