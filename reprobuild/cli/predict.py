"""``reprobuild predict``: run a predictor over files of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.arguments import demand_lock
from reprobuild.cli.options import form_options, param_option, set_option, strict_network_option, trust_option
from reprobuild.cli.prediction import predict
from reprobuild.cli.session import Session

if TYPE_CHECKING:
    from reprobuild.predict.call import CacheMode


class Needed(click.Option):
    """An option that is missed only where the recipe is locked: else there is nothing to predict with."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Read the value, as click does. Raises UnpinnedError in the place of what is missing."""
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            if self.name == "destination" and ctx.params.get("metrics"):
                return None
            if name := ctx.params.get("name"):
                from reprobuild.predict.target import split_name

                demand_lock(ctx.ensure_object(Session).project(), split_name(name)[0])
            raise


@click.command("predict")
@click.argument("name", metavar="NAME[/PREDICTOR]")
@click.option(
    "--input",
    "sources",
    cls=Needed,
    multiple=True,
    required=True,
    metavar="FILE",
    help="Records: .jsonl, .csv, .tsv (with .gz, .bz2, .xz or .zst, too), .parquet, .arrow, or the folder of "
    "a saved dataset; - is standard input. Several are taken in their order.",
)
@click.option(
    "--output",
    "destination",
    cls=Needed,
    required=True,
    metavar="FILE",
    help="By its ending .jsonl, .csv, .tsv or .parquet, compressed likewise; - is standard output.",
)
@form_options
@click.option("--output-format", metavar="F", help="What the output is, whatever its name.")
@click.option(
    "--include-input", is_flag=True, help="Write with each output the record that it is of, as input."
)
@click.option(
    "--metrics",
    metavar="FILE",
    help="Of a metric: write the result over all records and those of each; --output may be left out.",
)
@param_option
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, or a GPU: 0, 1, …")
@click.option(
    "--cache",
    type=click.Choice(["use", "refresh", "off"]),
    default="use",
    show_default=True,
    help="refresh computes all again; off neither reads nor writes.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="The first N records alone.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds a run may take."
)
@click.option("--memory", metavar="M", help="Memory it may take: 4G, 500MB.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Compute so many chunks at once [one a device]."
)
@click.option("--keep-going", is_flag=True, help="Where records fail, compute the others; exit code 1.")
@click.option("--failed", metavar="FILE", help="With --keep-going: list the records that failed.")
@set_option
@strict_network_option
@trust_option
@click.pass_obj
def command(
    session: Session,
    name: str,
    sources: tuple[str, ...],
    destination: str | None,
    input_format: str | None,
    output_format: str | None,
    mapping: tuple[str, ...],
    include_input: bool,
    metrics: str | None,
    parameters: tuple[str, ...],
    device: str,
    cache: CacheMode,
    limit: int | None,
    timeout: float | None,
    memory: str | None,
    jobs: int | None,
    keep_going: bool,
    failed: str | None,
    sets: tuple[str, ...],
    trust: bool,
) -> int:
    """Run a predictor over files of records; each record gives one of the output, in the same order.

    An instance_id goes from input to output; other fields that the predictor does not take are ignored,
    and named once. Answers from the cache what was computed before. Without network. With --json, a summary
    goes to stdout (to stderr where the predictions go to stdout).
    """
    return predict(
        session,
        name,
        sources,
        destination,
        input_format=input_format,
        output_format=output_format,
        mapping=mapping,
        include_input=include_input,
        metrics=metrics,
        parameters=parameters,
        device=device,
        cache=cache,
        limit=limit,
        timeout=timeout,
        memory=memory,
        jobs=jobs,
        keep_going=keep_going,
        failed=failed,
        sets=sets,
        trust=trust,
    )
