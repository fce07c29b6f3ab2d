"""Recipes, steps, pins, locks and derivations: frozen data and pure functions.

``from reprobuild import recipe`` names the decorator, and this package has the same name: so the
package can be called, and is the decorator when it is.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Callable(type(sys)):  # type: ignore[misc]  # the type of modules, without importing types
    def __call__(self, **metadata: "Any") -> "Any":
        from reprobuild.recipe.recipe import recipe

        return recipe(**metadata)


sys.modules[__name__].__class__ = _Callable
