"""Predicts on a plain call of ``predict`` without importing click, which takes a fifth of one prediction.

Does exactly what click would lead to (``prediction``); what is not plain is left to click by giving None.
"""

from __future__ import annotations

from reprobuild.cli.plain import flags, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def answer(arguments: Sequence[str]) -> int | None:
    """Predict and give the exit code, or do nothing and give None."""
    call = parse(arguments, "predict", ("--input", "--output"))
    if call is None or len(call.names) != 1 or not call.inputs or "output" not in call.options:
        return None
    from reprobuild.cli.ending import ended
    from reprobuild.cli.session import Session

    switches = {switch[2:]: True for switch in call.switches}
    session = Session({**flags(call), **switches})

    def work() -> int:
        from reprobuild.cli.prediction import predict

        return predict(session, call.names[0], tuple(call.inputs), call.options["output"], sets=call.sets)

    return ended(work, session, arguments)
