"""``reprobuild predict``: run a predictor over JSON Lines."""

from __future__ import annotations

import re
import sys

import click

from reprobuild.cli.arguments import image_of, pairs, set_option, split_predictor, trust_option
from reprobuild.cli.output import print_json
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, seconds_text
from reprobuild.cli.ui import say
from reprobuild.errors import UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(i?)[bB]?")
_POWERS = "kmgt"


def memory_size(text: str) -> int:
    """Read a number of bytes: ``4G``, ``500 MB`` (powers of 1000), ``4GiB`` (of 1024). Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"--memory {text}: no size in bytes", "for example --memory 4G")
    base = 1024 if match[3] else 1000
    power = _POWERS.index(match[2].lower()) + 1 if match[2] else 0
    size = int(float(match[1]) * base**power)
    if size < 1:
        raise UsageError(f"--memory {text}: at least one byte is needed", "for example --memory 4G")
    return size


@click.command("predict")
@click.argument("name", metavar="NAME[/PREDICTOR]")
@click.option("--input", "source", required=True, metavar="FILE", help="JSON Lines; - is standard input.")
@click.option("--output", "destination", required=True, metavar="FILE", help="- is standard output.")
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the predictor."
)
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, or the number of a GPU.")
@click.option(
    "--cache",
    type=click.Choice(["use", "refresh", "off"]),
    default="use",
    show_default=True,
    help="refresh computes all again; off neither reads nor writes.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="The first N records alone.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds it may take."
)
@click.option("--memory", metavar="M", help="Memory it may take: 4G, 500MB.")
@set_option
@trust_option
@click.pass_obj
def command(
    session: Session,
    name: str,
    source: str,
    destination: str,
    parameters: tuple[str, ...],
    device: str,
    cache: str,
    limit: int | None,
    timeout: float | None,
    memory: str | None,
    sets: tuple[str, ...],
    trust: bool,
) -> int:
    """Run a predictor over a file of records, one JSON object a line; each gives one line of output.

    Answers from the cache what was computed before. Without network. With --json, a summary goes to
    stdout (to stderr where the predictions go to stdout).
    """
    from reprobuild.predict.call import Options
    from reprobuild.predict.files import predict_file
    from reprobuild.predict.parameters import parse_parameters
    from reprobuild.predict.runner import Limits
    from reprobuild.predict.target import make_target

    texts = pairs(parameters, "--param")
    limits = Limits(timeout, None if memory is None else memory_size(memory))
    recipe, predictor = split_predictor(name)
    with session.working() as project:
        target = make_target(project, image_of(project, recipe, sets, trust=trust))
        options = Options(
            parameters=parse_parameters(target.predictor(predictor), texts),
            cache=cache,  # type: ignore[arg-type]  # click has checked it
            device=device,
            limits=limits,
        )
        summary = predict_file(
            target, predictor, source, destination, options=options, limit=limit, tell=project.tell
        )
    if session.json and destination != "-":
        print_json(summary.as_json())
    elif session.json:
        with_stdout_taken(summary.as_json())
    elif not session.quiet:
        say(
            f"{recipe}/{predictor}: {count_text(summary.items, 'item')}, {summary.cached:,} from the cache, "
            f"{summary.computed:,} computed, {seconds_text(summary.seconds)}"
        )
    return 0


def with_stdout_taken(value: dict[str, object]) -> None:
    """Print a document to stderr, since stdout holds the predictions."""
    import json

    print(json.dumps(value, ensure_ascii=False), file=sys.stderr)
