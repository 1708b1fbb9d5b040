"""Which kind of method a verb asks for, and what is said where it is another.

Used in the caller, and in the worker for what was sent before anybody knew the model.
"""

from __future__ import annotations

PLAIN = "plain"  # what `request` needs: a method that returns its result
GENERATOR = "generator"  # what `stream` needs

_VERBS = {
    PLAIN: ("request", "one that returns its result"),
    GENERATOR: ("stream", "a generator, which yields its items"),
}


def refusal(needed: str, kind: str) -> str:
    """What a method of this kind is, why the verb that needs the other does not fit it, and which one does."""
    verb, words = _VERBS[needed]
    article = "an" if kind[0] in "aeiou" else "a"
    instead = f"; use {_VERBS[kind][0]}()" if kind in _VERBS else ""
    return f"{article} {kind} function: {verb}() needs {words}{instead}"
