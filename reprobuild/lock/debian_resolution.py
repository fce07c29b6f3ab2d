"""Which packages a set of wishes comes to: Debian's relations, solved by ``resolvelib``.

Knows nothing of archives, signatures or files. A pure function of an index and of wishes: the same ones
give the same answer.

How relations become what ``resolvelib`` knows (requirements on named slots, each filled by one
candidate):

- a package is a slot; its candidates are its versions, the highest first, and its absence;
- ``a (>= 1)`` is a requirement on the slot ``a``;
- ``Conflicts: b`` is a requirement that the slot ``b`` be filled by its absence or by a version that is
  not meant;
- ``a | b``, and a name that others provide, is a slot of its own. Its candidates are the packages that
  fulfil it, each requiring the slot of its package, in the order written, real packages before
  providers; before them all stands whichever of them is installed or chosen anyhow. It is filled last,
  when most is known.

``Recommends`` is not followed. An installed package stays in its version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resolvelib import AbstractProvider, BaseReporter, Resolver
from resolvelib.resolvers import RequirementInformation, ResolutionImpossible, ResolutionTooDeep
from resolvelib.structs import State

from reprobuild.debian.index import Index, Package
from reprobuild.debian.relation import Clause, Relation, show_clause
from reprobuild.errors import RecipeError

MOST_ROUNDS = 100_000
SHOWN = 12
"""Reasons that an error gives before it stops."""


class UnresolvableError(RecipeError):
    """Wishes that no set of packages fulfils; the message says who wants what, and what there is."""


@dataclass(frozen=True, slots=True)
class Needed:
    """One of some versions of a package must be there."""

    slot: str
    versions: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A package must not be there in the versions that a relation means."""

    slot: str
    versions: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some packages must be there; the slot is the clause itself."""

    slot: str
    options: tuple[Package, ...]

    @property
    def text(self) -> str:
        """The clause."""
        return self.slot.removeprefix(CLAUSE)


CLAUSE = "| "
"""Begins the slot of a clause: no name of a package does."""

ANYHOW = -1
NOTHING = "!"
"""A slot that nothing fills."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The candidate that leaves a package's slot empty."""

    slot: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate that fulfils a clause by one of its options."""

    slot: str
    options: tuple[Package, ...]
    at: int
    """Which option; ``ANYHOW`` for the first of them that is there anyhow at the moment of choosing."""


Requirement = Needed | Unwanted | Choice
Candidate = Package | Absent | Chosen


def resolve(index: Index, wishes: Sequence[Relation], *, arch: str) -> list[Package]:
    """Give the packages that must be added to what is installed, sorted by name.

    ``wishes``: packages by their own name; what merely provides a name does not fulfil one. Raises
    UnresolvableError.
    """
    wanted: list[Requirement] = [
        Needed(w.name, frozenset(p.version for p in index.named(w.name) if w.accepts(p.version)), str(w))
        for w in wishes
    ]
    wanted.extend(
        Needed(p.name, frozenset((p.version,)), f"{p} of the tree below") for p in index.installed.values()
    )
    rules = _Rules(index, arch)
    solver: Resolver[Requirement, Candidate, str] = Resolver(rules, rules.reporter)
    try:
        result = solver.resolve(wanted, max_rounds=MOST_ROUNDS)
    except ResolutionImpossible as impossible:
        raise UnresolvableError(_explain(index, impossible.causes), _HINT) from None
    except ResolutionTooDeep:
        raise UnresolvableError(f"no answer within {MOST_ROUNDS:,} steps", _HINT) from None
    found = (c for c in result.mapping.values() if isinstance(c, Package) and not c.is_installed)
    return sorted(found, key=lambda package: package.name)


_HINT = "name other packages or versions in apt(…), or take another suite or as_of"


class _Reporter(BaseReporter[Requirement, Candidate, str]):
    """Remembers what is chosen so far: ``resolvelib`` does not say when it asks for candidates."""

    def __init__(self) -> None:
        self.chosen: Mapping[str, Candidate] = {}

    def ending_round(self, index: int, state: State[Requirement, Candidate, str]) -> None:
        self.chosen = state.mapping


class _Rules(AbstractProvider[Requirement, Candidate, str]):
    """Debian's rules, as ``resolvelib`` asks for them."""

    def __init__(self, index: Index, arch: str) -> None:
        self._index = index
        self._arch = arch
        self._requirements: dict[Clause, Requirement] = {}
        self.reporter = _Reporter()

    def requirement(self, clause: Clause) -> Requirement:
        """Give what a clause requires: a package where only one fulfils it, else a choice."""
        found = self._requirements.get(clause)
        if found is None:
            options = self._options(clause)
            text = show_clause(clause)
            if options and len({package.name for package in options}) == 1:
                found = Needed(options[0].name, frozenset(p.version for p in options), text)
            else:
                found = Choice(CLAUSE + text, tuple(options))
            self._requirements[clause] = found
        return found

    def _options(self, clause: Clause) -> list[Package]:
        """Give the packages that fulfil a clause, the best first."""
        options: dict[Package, None] = {}
        for relation in clause:
            if relation.arch not in ("", "any", self._arch):
                continue
            named = (p for p in self._index.named(relation.name) if relation.accepts(p.version))
            options.update(dict.fromkeys(named))
            provided = self._index.providers(relation.name)
            options.update(dict.fromkeys(p for p, version in provided if relation.accepts_provided(version)))
        return list(options)

    def _against(self, package: Package, relation: Relation) -> Iterator[Requirement]:
        """Give what a ``Conflicts`` or ``Breaks`` rules out; a package is never against itself."""
        text = f"not {relation}"
        meant: dict[str, set[str]] = {}
        for other in self._index.named(relation.name):
            if relation.accepts(other.version):
                meant.setdefault(other.name, set()).add(other.version)
        for other, version in self._index.providers(relation.name):
            if relation.accepts_provided(version):
                meant.setdefault(other.name, set()).add(other.version)
        meant.pop(package.name, None)
        for name, versions in sorted(meant.items()):
            yield Unwanted(name, frozenset(versions), text)

    # What resolvelib asks.

    def identify(self, requirement_or_candidate: Requirement | Candidate) -> str:
        if isinstance(requirement_or_candidate, Package):
            return requirement_or_candidate.name
        return requirement_or_candidate.slot

    def narrow_requirement_selection(
        self,
        identifiers: Iterable[str],
        resolutions: Mapping[str, Candidate],
        candidates: Mapping[str, Iterator[Candidate]],
        information: Mapping[str, Iterator[RequirementInformation[Requirement, Candidate]]],
        backtrack_causes: Sequence[RequirementInformation[Requirement, Candidate]],
    ) -> Iterable[str]:
        return [min(identifiers, key=lambda slot: (slot.startswith(CLAUSE), slot))]

    def get_preference(self, identifier: str, *args: Any, **kwargs: Any) -> str:
        return identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Requirement]],
        incompatibilities: Mapping[str, Iterator[Candidate]],
    ) -> list[Candidate]:
        wanted = list(requirements[identifier])
        refused = set(incompatibilities[identifier])
        if identifier.startswith(CLAUSE):
            options = next(r.options for r in wanted if isinstance(r, Choice))
            chosen = [Chosen(identifier, options, at) for at in (ANYHOW, *range(len(options)))]
            return [candidate for candidate in chosen if candidate not in refused] if options else []
        if identifier == NOTHING:
            return []
        slots: list[Candidate] = [*self._index.named(identifier), Absent(identifier)]
        if all(isinstance(requirement, Unwanted) for requirement in wanted):
            slots.reverse()
        fitting = [c for c in slots if c not in refused and all(self.is_satisfied_by(r, c) for r in wanted)]
        return fitting

    def is_satisfied_by(self, requirement: Requirement, candidate: Candidate) -> bool:
        if isinstance(requirement, Choice):
            return isinstance(candidate, Chosen)
        if isinstance(candidate, Package):
            return (candidate.version in requirement.versions) == isinstance(requirement, Needed)
        return isinstance(requirement, Unwanted)

    def get_dependencies(self, candidate: Candidate) -> Iterable[Requirement]:
        if isinstance(candidate, Absent):
            return ()
        if isinstance(candidate, Chosen):
            return (self._needed_for(candidate),)
        needed = [] if candidate.is_installed else [self.requirement(clause) for clause in candidate.depends]
        for relation in candidate.conflicts:
            needed.extend(self._against(candidate, relation))
        return list(dict.fromkeys(needed))

    def _needed_for(self, chosen: Chosen) -> Needed:
        """Give what a choice comes to; ``ANYHOW`` comes to what cannot be while no option is there."""
        chosen_so_far = self.reporter.chosen
        options = chosen.options[chosen.at : chosen.at + 1] if chosen.at != ANYHOW else chosen.options
        for package in options:
            if chosen.at != ANYHOW or chosen_so_far.get(package.name) == package:
                return Needed(package.name, frozenset((package.version,)), chosen.slot.removeprefix(CLAUSE))
        return Needed(NOTHING, frozenset(), chosen.slot.removeprefix(CLAUSE))


def _explain(index: Index, causes: Iterable[RequirementInformation[Requirement, Candidate]]) -> str:
    """Say who wants what, and what there is of it."""
    causes = list(causes)
    lines: dict[str, None] = {}
    for cause in causes:
        if cause.requirement.slot == NOTHING:
            continue
        who = _name(cause.parent)
        lines[f"  {who} {_wish(cause.requirement)}"] = None
    slots = sorted(
        {c.requirement.slot for c in causes if not c.requirement.slot.startswith((CLAUSE, NOTHING))}
    )
    for slot in slots:
        there = ", ".join(p.version for p in index.named(slot)) or "nothing of that name"
        installed = " in the tree below" if slot in index.installed else ""
        lines[f"  there is {slot} {there}{installed}"] = None
    shown = list(lines)[:SHOWN]
    return "no set of packages fulfils all that is wanted:\n" + "\n".join(shown)


def _name(parent: Candidate | None) -> str:
    if parent is None:
        return "the recipe"
    if isinstance(parent, Chosen):
        return f"what was chosen for {parent.slot.removeprefix(CLAUSE)!r}"
    return str(parent) if isinstance(parent, Package) else f"leaving out {parent.slot}"


def _wish(requirement: Requirement) -> str:
    if isinstance(requirement, Unwanted):
        return f"cannot be together with {requirement.text.removeprefix('not ')}"
    if isinstance(requirement, Choice) and not requirement.options:
        return f"needs {requirement.text}, which nothing here fulfils"
    return f"needs {requirement.text}"
