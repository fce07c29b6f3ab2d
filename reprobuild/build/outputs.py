"""Compare what was built with what the lock says it comes to: every build checks the promise.

Knows nothing of building.
"""

from __future__ import annotations

from reprobuild.build.derive import Derived
from reprobuild.build.image import Realised
from reprobuild.derivation.lockfile import Output
from reprobuild.errors import CheckFailedError
from reprobuild.store.store import Store
from reprobuild.tree import Layer

SHOWN_FILES = 20


def check_outputs(store: Store, derived: Derived, realised: Realised) -> bool:
    """Tell whether the lock speaks of this derivation; raise if it says something else of it.

    Raises CheckFailedError, naming the steps that differ and what is in them.
    """
    output = derived.output
    if output is None:
        return False
    if output.image_id == realised.image_id and _ids(output) == [layer.diff_id for layer in realised.layers]:
        return True
    name = derived.recipe.name
    call = f"{name}{derived.recipe.sets}"
    lines = [f"{name}: what was built is not what recipe.lock says"]
    if output.image_id != realised.image_id:
        lines.append(f"  image: expected {output.image_id}")
        lines.append(f"         got      {realised.image_id}")
    for index in range(max(len(output.layers), len(realised.layers))):
        expected = output.layers[index] if index < len(output.layers) else None
        got = realised.layers[index] if index < len(realised.layers) else None
        if expected is not None and got is not None and expected.diff_id == got.diff_id:
            continue
        title = got.step if got is not None else expected.step if expected is not None else ""
        lines.append(f"  step {title}:")
        lines.append(f"         expected {expected.diff_id if expected is not None else 'no layer'}")
        lines.append(f"         got      {got.diff_id if got is not None else 'no layer'}")
        if got is not None:
            lines.extend(_files(Layer.parse(store.blobs.read(got.listing))))
    raise CheckFailedError(
        "\n".join(lines),
        f"find out whether it builds alike twice: reprobuild realize {call} --check; if recipe.lock was "
        f"edited by mistake, restore it; to accept what was built: reprobuild lock {call}",
    )


def _ids(output: Output) -> list[object]:
    return [layer.diff_id for layer in output.layers]


def _files(layer: Layer) -> list[str]:
    """List what a layer holds: which of it differs cannot be told without the expected layer."""
    paths = [f"/{entry.path}" for entry in layer.entries if entry.kind != "d"]
    paths += [f"/{path} (removed)" for path in layer.whiteouts]
    shown = [f"           {path}" for path in paths[:SHOWN_FILES]]
    more = len(paths) - len(shown)
    return [
        "         the layer that was built holds:",
        *shown,
        *([f"           and {more} more"] if more > 0 else []),
    ]
