"""Predictions from file to file, in whatever form each is, all of it or none.

Knows nothing of how a call is answered, nor of how forms are read and written.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from reprobuild.errors import UsageError
from reprobuild.events import Note, Tell, ignore
from reprobuild.predict.apart import demand_apart
from reprobuild.predict.beside import Beside
from reprobuild.predict.call import Call, Options, Summary
from reprobuild.predict.fields import Fields
from reprobuild.predict.forms import STANDARD, Form, form_of
from reprobuild.predict.intake import SHOWN, Intake
from reprobuild.predict.places import Write, written
from reprobuild.predict.sinks import Sink, make_sink
from reprobuild.predict.sources import Sources
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target
from reprobuild.value import NOTHING, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.predict.embedded import EmbeddedFiles


class Shape(Value, kw_only=True):
    """How records are taken from inputs, and what is written of them."""

    input_form: Form | None = None
    """Of all inputs; None: as the ending of each says."""
    output_form: Form | None = None
    mapping: Mapping[str, str] = NOTHING
    """Field → its name in the inputs."""
    include_input: bool = False
    """Whether outputs hold the records that they are of."""
    metrics: str = ""
    """Where the result over all records and those of each are written, too."""
    failed: str = ""
    """Where the records that failed are listed, too."""


def predict_file(
    target: Target,
    predictor: str,
    source: str | Sequence[str],
    destination: str | None,
    *,
    options: Options | None = None,
    limit: int | None = None,
    tell: Tell = ignore,
    shape: Shape | None = None,
) -> Summary:
    """Predict each record of a file, or of several in their order; ``-`` is standard input or output.

    ``destination``: None for nowhere; ``limit``: the first so many records alone. A file is written under
    another name and then renamed: it is there whole, or as it was. An ``instance_id`` of a record that is no
    field of the predictor goes into its output; other such fields are ignored, and told. Raises InputError
    for a record that does not fit, before anything is started; UsageError, also for an output that is an
    input; what ``Call.answer`` raises; OutsideError where the output can't be written.
    """
    started = time.perf_counter()
    shape = shape or Shape()
    options = options or Options()
    inputs = [source] if isinstance(source, str) else source
    demand_apart(inputs, {"--output": destination, "--metrics": shape.metrics, "--failed": shape.failed})
    call = Call(target, predictor, options, tell)
    tag = f"{target.recipe}/{predictor}"
    places = _places(inputs, shape.input_form)
    form = _output_form(destination, shape.output_form)
    has_columns = form.format != "jsonl"
    if shape.metrics and options.keep_going:
        raise UsageError(
            "--metrics and --keep-going exclude each other: the result would be that of some records alone",
            "leave --metrics out, and --output has those that did not fail",
        )
    fields = Fields(call.predictor.inputs)
    folder = str(target.store / "tmp") if (target.store / "tmp").is_dir() else None
    with contextlib.ExitStack() as stack:
        beside = Beside(folder, has_columns=has_columns)
        stack.callback(beside.close)
        intake = Intake(
            fields,
            call.predictor.outputs,
            shape.mapping,
            keeps_input=shape.include_input,
            keep=beside.add,
        )
        kinds = ", ".join(f"{name} ({kind})" for name, kind in fields.types.items())
        sources = Sources(
            places,
            intake,
            staged=(staged := StagedFiles(fields) if fields.files else None),
            folder=folder,
            hint=f"{tag} takes {kinds}",
            embedded=_embedded(stack, folder) if fields.files else None,
        )
        metrics = stack.enter_context(_metrics(shape.metrics, call, tag, options, folder))
        list_failed = stack.enter_context(written(shape.failed)) if shape.failed else _nowhere
        write = _nowhere if destination is None else stack.enter_context(_packed(destination, form))

        def sink() -> Sink:
            outputs = call.predictor.outputs
            return make_sink(form, outputs, beside, write, has_failures=bool(call.failures))

        made: Sink | None = None
        stack.push(lambda kind, *_: made.abandon() if made is not None and kind is not None else None)
        answers = call.answer(_told(sources.chunks(limit), intake, tag, tell), sources.label, staged)
        for block in _whole_lines(answers):
            made = made or sink()
            made.write(block)
            metrics(block)
        (made or sink()).finish()
        for failure in call.failures:
            list_failed(
                json.dumps(failure.as_json(), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
            )
    return call.summary(time.perf_counter() - started)


def _places(paths: Sequence[str], said: Form | None) -> list[tuple[str, Form]]:
    if not paths:
        raise UsageError("an input is needed", "name a file of records, or - for standard input")
    if list(paths).count(STANDARD) > 1:
        raise UsageError("standard input is named twice", "name it once: --input -")
    found = []
    for path in paths:
        by_name = form_of(path, "--format")
        found.append((path, by_name if said is None or by_name.format == "dataset" else said))
    return found


def _output_form(destination: str | None, said: Form | None) -> Form:
    form = said or form_of(destination or STANDARD, "--output-format")
    shown = destination if said is None else "--output-format"
    if form.format == "dataset":
        raise UsageError(f"the output {destination} is a folder", "name a file")
    if form.format == "arrow":
        raise UsageError(f"{shown}: Arrow files are read, and not written", "write Parquet: .parquet")
    if form.format == "parquet":
        from reprobuild.predict.columns import demand_arrow

        demand_arrow(shown or "")
    return form


def _told(chunks: Iterator[list[bytes]], intake: Intake, tag: str, tell: Tell) -> Iterator[list[bytes]]:
    """Pass chunks on; at their end, say what nothing was taken from."""
    yield from chunks
    if intake.ignored:
        names = [ascii(name)[1:-1][:60] for name in intake.ignored]
        more = ", …" if len(names) > SHOWN else ""
        tell(Note(f"ignored, since {tag} does not take it: {', '.join(names[:SHOWN])}{more}"))


def _embedded(stack: contextlib.ExitStack, folder: str | None) -> EmbeddedFiles:
    from reprobuild.predict.embedded import EmbeddedFiles

    files = EmbeddedFiles(folder)
    stack.callback(files.close)
    return files


def _whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut blocks anew, so that each holds whole lines."""
    parts: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*parts, block[:end]]) if parts or end < len(block) else block
            parts = []
        if end < len(block):
            parts.append(block[end:])


def _nowhere(data: bytes) -> None:
    """Write nothing."""


@contextlib.contextmanager
def _packed(destination: str, form: Form) -> Iterator[Write]:
    with written(destination) as write:
        if not form.packing:
            yield write
            return
        from reprobuild.predict.packing import Packed

        packed = Packed(form.packing, write)
        yield packed.write
        packed.finish()


@contextlib.contextmanager
def _metrics(
    path: str, call: Call, tag: str, options: Options, folder: str | None
) -> Iterator[Callable[[bytes], None]]:
    """Give what takes the outputs of a metric; writes its result at the end."""
    if not path:
        yield _nowhere
        return
    kind = call.predictor.macro
    if not kind:
        raise UsageError(
            f"{tag} is no metric: it does not say how its result over all records comes about",
            'leave --metrics out, or declare predictor(…, macro="mean")',
        )
    from reprobuild.predict.macro import Mean
    from reprobuild.predict.metrics import Evaluation
    from reprobuild.predict.spool import Spool

    mean = Mean(tag)
    with written(path) as write, Spool(folder) as items:

        def take(block: bytes) -> None:
            items.write(block)
            if kind == "mean":
                for line in block.split(b"\n")[:-1]:
                    mean.add(json.loads(line))

        yield take
        head = Evaluation(
            name=tag,
            kind=kind,
            count=call.count,
            macro=(mean.value() if kind == "mean" else call.macro or {}),
            signature=call.summary(0.0).signature,
            parameters=dict(options.parameters),
        ).as_json(with_items=False)
        write(json.dumps(head, ensure_ascii=False, indent=1).encode()[:-2] + b',\n "items": [')
        items.seek(0)
        separator = b"\n  "
        for line in items:
            write(separator + line.removesuffix(b"\n"))
            separator = b",\n  "
        write(b"\n ]\n}\n")
