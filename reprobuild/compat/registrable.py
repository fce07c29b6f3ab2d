"""Classes that are found by the names that they were registered under.

Knows nothing of what the classes are for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from reprobuild.errors import UsageError

Kind = TypeVar("Kind", bound=type)


class ConfigurationError(UsageError):
    """A name that is not registered, or is so already."""


class Registrable:
    """A base class whose subclasses are registered by ``@Base.register("name")``, each base for itself."""

    default_implementation: ClassVar[str | None] = None
    """The name that ``list_available`` gives first."""
    _registry: ClassVar[dict[type, dict[str, tuple[type, str | None]]]] = {}

    @classmethod
    def register(
        cls, name: str, constructor: str | None = None, exist_ok: bool = False
    ) -> Callable[[Kind], Kind]:
        """Register a class under a name.

        ``constructor``: a class method that makes its objects; ``exist_ok``: a class that has the name
        already gives way. Raises ConfigurationError where it does not.
        """
        known = Registrable._registry.setdefault(cls, {})

        def add(subclass: Kind) -> Kind:
            if name in known and not exist_ok:
                raise ConfigurationError(
                    f"{subclass.__name__} can't be {cls.__name__} {name!r}: {known[name][0].__name__} is",
                    "take another name, or exist_ok=True",
                )
            known[name] = (subclass, constructor)
            return subclass

        return add

    @classmethod
    def by_name(cls, name: str) -> Callable[..., Any]:
        """Give what makes objects of the class with a name: the class, or its constructor.

        A name with dots that is not registered is a path: ``package.module.Class``. Raises
        ConfigurationError.
        """
        made, constructor = cls.resolve_class_name(name)
        found: Callable[..., Any] = getattr(made, constructor) if constructor else made
        return found

    @classmethod
    def resolve_class_name(cls, name: str) -> tuple[type, str | None]:
        """Give the class with a name, and the name of its constructor, if it has one."""
        known = Registrable._registry.get(cls, {})
        if name in known:
            return known[name]
        module, _, last = name.rpartition(".")
        if not module:
            there = ", ".join(known) or "none"
            raise ConfigurationError(f"no {cls.__name__} is called {name!r}", f"there are: {there}")
        try:
            return getattr(importlib.import_module(module), last), None
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"{name}: {error.msg}") from error
        except AttributeError:
            raise ConfigurationError(f"{name}: the module {module} has no {last}") from None

    @classmethod
    def list_available(cls) -> list[str]:
        """Give the names that are registered, the default one first.

        Raises ConfigurationError where that is not registered.
        """
        names = list(Registrable._registry.get(cls, {}))
        default = cls.default_implementation
        if default is None:
            return names
        if default not in names:
            raise ConfigurationError(f"the default {cls.__name__} {default!r} is not registered")
        return [default, *(name for name in names if name != default)]
