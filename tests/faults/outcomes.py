"""How a cell may end: a small vocabulary. Each word knows what it promises of the caller, of the worker and of the books, and checks it.

Knows gibbs's public exceptions and statistics. Must never know a row or a phase: what the right answer is, the phase says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gibbs

# The promise is a tenth of the watchdog or less; a machine with more to do than cores may stand still for some seconds.
PATIENCE = 10
LEAST_WATCHDOG = 10.0


@dataclass(frozen=True)
class Outcome:
    """What all have in common.

    `worker`: whether the seat has the same process afterwards. `exits`: how the last worker of the cell leaves when the hub closes: by
    itself, its exit handlers run ("itself"); by the close timeout ("killed"); or however it likes ("anyhow"). `bound`: seconds that the
    caller may wait from the fault on, as promised.
    """

    worker: Literal["kept", "replaced"] = "kept"
    exits: Literal["itself", "killed", "anyhow"] = "itself"
    bound: float = 1.0

    counts: ClassVar[str | None] = None  # which number of the statistics the caller's call is in
    gives_up: ClassVar[bool] = False  # whether the caller must cancel: no answer comes
    cleaned_up: ClassVar[str | None] = None  # which of "interrupted" and "killed" its cancelled call is in

    @property
    def restarts(self) -> int:
        return int(self.worker == "replaced")

    @property
    def watchdog(self) -> float:
        return max(PATIENCE * self.bound, LEAST_WATCHDOG)

    def check(self, call: Any, right: Any) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Answer(Outcome):
    """The caller is answered: by the right value, or by `value`."""

    value: Any = None

    counts: ClassVar[str] = "done"

    def check(self, call: Any, right: Any) -> None:
        assert call.error is None, repr(call.error)
        assert not call.cancelled
        assert call.result == (right if self.value is None else self.value)


@dataclass(frozen=True)
class Crash(Outcome):
    """The caller gets WorkerCrashed, which says how; the worker is replaced."""

    worker: Literal["kept", "replaced"] = "replaced"
    bound: float = 0.1
    signal: str | None = None
    exit_code: int | None = None
    cause: str = ""

    counts: ClassVar[str] = "crashed"

    def check(self, call: Any, right: Any) -> None:
        error = call.error
        assert type(error) is gibbs.WorkerCrashed, repr(error)
        assert (error.signal, error.exit_code) == (self.signal, self.exit_code), str(error)
        assert self.cause in error.probable_cause
        assert error.may_have_run
        assert not error.may_still_run


@dataclass(frozen=True)
class Itself(Outcome):
    """The model's exception as what it is, with the worker's traceback in a note."""

    type: type[BaseException] | str = Exception  # a name, for a class that was made in the call
    said: str = ""

    counts: ClassVar[str] = "failed"

    def check(self, call: Any, right: Any) -> None:
        error = call.error
        assert self.type in (type(error), type(error).__name__), type(error)
        assert isinstance(error, Exception)
        notes = "\n".join(error.__notes__)
        assert "Raised in" in notes
        assert "Traceback" in notes
        assert self.said in notes


@dataclass(frozen=True)
class Remote(Outcome):
    """RemoteError: what cannot travel, or must not be raised in a task. `here`: it was the hub's side that could not open the result."""

    type_name: str = ""
    stage: str = "call"
    said: str = ""
    here: bool = False

    @property
    def counts(self) -> str:  # type: ignore[override]
        return "done" if self.here else "failed"

    def check(self, call: Any, right: Any) -> None:
        error = call.error
        assert type(error) is gibbs.RemoteError, repr(error)
        assert error.stage == self.stage, str(error)
        assert not self.type_name or error.type_name.rpartition(".")[2] == self.type_name, str(error)
        assert self.said in f"{error.message}\n{error.traceback}"


@dataclass(frozen=True)
class CallerGivesUp(Outcome):
    """No answer comes and nobody else can know: the caller's own scope frees it at once; then the worker is cleaned up.

    `by_grace`: a worker that is replaced goes by the end of `cancel_grace`, and by nothing that is quicker.
    """

    bound: float = 0.01
    by_grace: bool = True

    counts: ClassVar[str] = "cancelled"
    gives_up: ClassVar[bool] = True

    @property
    def cleaned_up(self) -> str:  # type: ignore[override]
        return "interrupted" if self.worker == "kept" else "killed"

    def check(self, call: Any, right: Any) -> None:
        assert call.cancelled


@dataclass(frozen=True)
class CallerLeaves(CallerGivesUp):
    """The caller was cancelled before the fault: what became of the worker. `honest`: it said that the call was over before it went."""

    by_grace: bool = False
    honest: bool = False

    @property
    def cleaned_up(self) -> str:  # type: ignore[override]
        return "interrupted" if self.worker == "kept" or self.honest else "killed"


@dataclass(frozen=True)
class Nobody(Outcome):
    """No request is concerned and nobody notices, but for a worker that may be another."""

    def check(self, call: Any, right: Any) -> None:
        raise AssertionError("no call was made")


@dataclass(frozen=True)
class NextCall(Outcome):
    """Nobody can know before the next request of this worker, which ends so."""

    ends: Outcome = Outcome()

    @property
    def counts(self) -> str | None:  # type: ignore[override]
        return self.ends.counts

    @property
    def cleaned_up(self) -> str | None:  # type: ignore[override]
        return self.ends.cleaned_up

    @property
    def restarts(self) -> int:
        return self.ends.restarts

    def check(self, call: Any, right: Any) -> None:
        self.ends.check(call, right)


@dataclass(frozen=True)
class StartFails(Outcome):
    """WorkerStartFailed, out of `open_hub`; in an open hub the seat is filled by the next worker. `cause`: the model's own exception."""

    worker: Literal["kept", "replaced"] = "replaced"
    bound: float = 1.0
    reason: str = "exited"
    signal: str | None = None
    exit_code: int | None = None
    cause: type[BaseException] | str | None = None
    said: str = ""

    @property
    def hangs(self) -> bool:
        return self.reason == "timeout"

    def check(self, call: Any, right: Any) -> None:
        error = call.error
        assert type(error) is gibbs.WorkerStartFailed, repr(error)
        assert (error.reason, error.signal, error.exit_code) == (self.reason, self.signal, self.exit_code), str(error)
        assert self.said in str(error)
        if isinstance(self.cause, str):  # a RemoteError of this type
            assert type(error.__cause__) is gibbs.RemoteError
            assert error.__cause__.type_name.rpartition(".")[2] == self.cause
        elif self.cause is not None:
            assert type(error.__cause__) is self.cause
            assert "Traceback" in "\n".join(error.__cause__.__notes__)


@dataclass(frozen=True)
class Closes(Outcome):
    """The hub closes. `by`: the worker leaves by itself after the fault, or the fault ends it, or `close_timeout` does."""

    by: Literal["itself", "death", "deadline"] = "itself"

    def check(self, call: Any, right: Any) -> None:
        raise AssertionError("no call was made")
