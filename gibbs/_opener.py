"""What workers sent, opened in the task of whoever asked for it.

Knows bodies, and how far the hub trusts them. Promises that one which cannot be opened is an exception for its own caller, and hurts
nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ._errors import MessageTooLarge, RemoteError
from ._wire import failure, letter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core.ticket import Answer
    from ._errors import Stage
    from ._options import Safe


class Opener:
    """One hub's way of opening what comes."""

    def __init__(self, hub: str, results: Safe | None, longest: float) -> None:
        self._hub = hub
        self._longest = longest
        self._trusted = results is None
        self._loads: Callable[[Any], Any] = letter.loads if results is None else _safely(results)

    def answer(self, answer: Answer) -> Any:
        """The result, or raise the model's exception."""
        if answer.left_behind:
            raise MessageTooLarge(self._hub, "result", int.from_bytes(answer.body, "little"), self._longest)
        if not answer.failed:
            return self.result(answer.body)
        error = failure.load_failure(answer.body, trusted=self._trusted)
        raise _remote(error) if isinstance(error, failure.RemoteFailure) else error

    def result(self, body: Any) -> Any:
        """What the model returned, yielded or reported."""
        try:
            return self._loads(body)
        except BaseException as exc:  # noqa: BLE001 - unpickling runs the user's code, which may raise SystemExit
            error = failure.describe_failure(exc, stage="result")
        raise _remote(error)

    def run(self, count: int, body: Any) -> list[Any]:
        """So many items that share a payload."""
        items = self.result(body)
        if type(items) is not tuple or len(items) != count:
            raise RemoteError("TypeError", f"a run of {count} items is none", "", "result")
        return list(items)


def _remote(told: failure.RemoteFailure) -> RemoteError:
    remote = RemoteError(told.type_name, told.message, told.traceback, cast("Stage", told.stage))
    remote.add_note(told.traceback)
    return remote


def _safely(results: Safe) -> Callable[[bytes], Any]:
    from ._wire import safe

    names = safe.names_of(results.allow)
    return lambda body: safe.loads(body, names)
