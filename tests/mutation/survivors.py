"""Mutants that no test can notice, each with its reason: most say the same in other words. `__main__.py` reads this.

A reason must say why nothing that a user or another module sees is different. "Not worth a test" is no reason.
"""

EXPLAINED: dict[str, dict[str, str]] = {
    "_core/restarts.py": {
        "RestartPolicy.__post_init__: continue  →  break": "max_crashes is the last name of the loop: nothing is left to be skipped",
        **dict.fromkeys(
            [
                "_wait: return min(longest, first * 2.0 ** min(doublings, 60)) * (1 - 0.2 * chance)"
                f"  →  return min(longest, first * 2.0 ** min(doublings, {cap})) * (1 - 0.2 * chance)"
                for cap in (59, 61)
            ],
            "the cap keeps the power finite; the longest wait is reached after 9 doublings, and far from either",
        ),
    },
    "_core/dispatch.py": {
        "Dispatcher._find_seat: return None  →  (removed)  (2)": "a function that ends returns None",
        "Dispatcher._offer: if len(seat.held) < self.window:  →  if len(seat.held) <= self.window:": (
            "the stacks forget lazily: a full seat on one is passed over, and gets its new place when it has room again"
        ),
        "Dispatcher._requeue: if oldest < ticket.number:  →  if oldest <= ticket.number:": (
            "they are equal if the queue was empty, and a queue of one is in order already"
        ),
        **dict.fromkeys(
            [
                "Dispatcher.given_back: for ticket in reversed(tickets.values()):  →  for ticket in tickets.values():",
                (
                    "Dispatcher.lost: for link_id, ticket in reversed(list(seat.held.items())):"
                    "  →  for link_id, ticket in list(seat.held.items()):"
                ),
            ],
            "_requeue sorts when it must, so the queue is the same; the order spares it that. Which of several waiters wakes "
            "first is nobody's promise",
        ),
    },
    "_wire/frames.py": dict.fromkeys(
        [
            f"module: _NO_LIMIT = (1 << 64) - 1  →  _NO_LIMIT = {more}"
            for more in ("(2 << 64) - 1", "(1 << 65) - 1", "(1 << 64) + 1", "(1 << 64) - 0")
        ],
        "a header has eight bytes for the length, and cannot say more than what is no limit already",
    ),
}
