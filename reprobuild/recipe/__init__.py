"""Recipes, steps, pins, locks and derivations: frozen data and pure functions.

``from reprobuild import recipe`` names the decorator, and this package has the same name: so the
package can be called, and is the decorator when it is.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, **metadata: Any) -> Any:
        from reprobuild.recipe.recipe import recipe

        return recipe(**metadata)


sys.modules[__name__].__class__ = _Callable
