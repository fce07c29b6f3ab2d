"""What can go wrong, as one tree of exceptions, each with its exit code.

    ReprobuildError                 1
    ├── BuildFailedError            1   a command of a step ended with another code than 0
    ├── PredictionFailedError       1   a predictor failed, or its output does not fit
    │   └── ItemFailedError         1   one record of those that it was given is to blame
    ├── NoProgramError            127   a command that ``run`` or ``shell`` cannot start
    ├── UsageError                  2   arguments, names, settings
    │   ├── RecipeError             2   a recipe that does not evaluate
    │   ├── InputError              2   records that do not fit a predictor's inputs
    │   └── NotBuiltError           2   a part of the design that this release does not have
    ├── UnpinnedError               3   a pin is missing
    ├── RefusedFetchError           3   something reached for the network
    ├── CheckFailedError            4   what is there is not what was promised
    │   ├── DigestMismatchError     4   fetched bytes that are not the pinned ones
    │   └── MissingBlobError        4   bytes that a record of the store needs are not there
    └── OutsideError                5   upstream, disk, device
        ├── UpstreamError           5   a server did not give what it should
        ├── OfflineError            5   needed from the network, and the network may not be used
        └── EngineError             5   no engine, or one that cannot isolate

Knows nothing of how they are shown: that is ``cli``.
"""

from __future__ import annotations


class ReprobuildError(Exception):
    """An error with a plain message (what, where) and a hint (a command or an edit that mends it)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[ReprobuildError], tuple[str, str]]:
        return (type(self), (self.message, self.hint))


class BuildFailedError(ReprobuildError):
    """A command of a step failed; the message carries its exit code and the last lines."""


class PredictionFailedError(ReprobuildError):
    """A predictor failed, or what it gave does not fit its outputs."""


class BatchFailedError(PredictionFailedError):
    """One of several records is to blame, perhaps: fewer of them at once would tell which."""


class ItemFailedError(PredictionFailedError):
    """One record is to blame; ``index``: which one of the batch, or of the call, that raised this."""

    def __init__(self, message: str, hint: str = "", index: int = 0) -> None:
        super().__init__(message, hint)
        self.index = index

    def __reduce__(self) -> tuple[type[ReprobuildError], tuple[str, str, int]]:  # type: ignore[override]
        return (type(self), (self.message, self.hint, self.index))


class NoProgramError(ReprobuildError):
    """A command that cannot start: no such program in the image, as shells say it."""

    exit_code = 127


class UsageError(ReprobuildError):
    """Arguments, names or settings that make no sense."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that does not evaluate; the message names file and line."""


class InputError(UsageError):
    """Records that do not fit a predictor's inputs; the message names file, line and field."""


class NotBuiltError(UsageError):
    """A step, source or verb of the design that this release does not have yet, by name."""


class UnpinnedError(ReprobuildError):
    """A source has no pin; the message names it, its file and line, the hint the ``lock`` call."""

    exit_code = 3


class RefusedFetchError(ReprobuildError):
    """A command reached for the network, which does not exist for it."""

    exit_code = 3


class CheckFailedError(ReprobuildError):
    """Something that is here differs from what was promised."""

    exit_code = 4


class DigestMismatchError(CheckFailedError):
    """Fetched bytes are not the pinned ones; they are kept under their true digest."""


class MissingBlobError(CheckFailedError):
    """Bytes that should be in the store are not; the message names their digest."""


class OutsideError(ReprobuildError):
    """Something outside failed: upstream, registry, engine, device, disk."""

    exit_code = 5


class UpstreamError(OutsideError):
    """A server did not answer, or not with what it should."""


class OfflineError(OutsideError):
    """Bytes are needed from the network, and it is cut or may not be used."""


class EngineError(OutsideError):
    """There is no engine, or one that cannot isolate; the hint says what to do."""


class LostError(EngineError):
    """What was made ready for a command has gone while that was held back: the command has not begun."""
