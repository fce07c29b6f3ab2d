"""Layers as tar streams, images with config and manifest, and the normal form.

``from reprobuild import oci`` names a step, and this package has the same name: so the package can be
called, and is the step when it is.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Callable(type(sys)):  # type: ignore[misc]  # the type of modules, without importing types
    def __call__(self, *arguments: "Any", **named: "Any") -> "Any":
        from reprobuild.recipe.steps import oci

        return oci(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
