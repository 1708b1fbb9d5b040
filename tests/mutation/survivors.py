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
    "_core/placement.py": {
        (
            "Placement.has_room: return self.waiting < max_pending or (not self._queue.count and "
            "self._roster.find(alone=True) is not None)  →  return self.waiting < max_pending or "
            "self._roster.find(alone=True) is not None"
        ): "while a ticket is queued no seat is idle, or it would be there: this saves the look",
    },
    "_core/dispatch.py": {
        "Dispatcher._changed: return orders + self._assign() if self._queue.count else orders  →  return orders + self._assign()": (
            "of an empty queue nothing is assigned; this saves the call"
        ),
        "Dispatcher.begun: break  →  continue": "what is held is in the order of its ids: all behind it are higher too",
        **dict.fromkeys(
            [
                (
                    "Dispatcher.given_back: for link_id, ticket in reversed(tickets.items()):"
                    "  →  for link_id, ticket in tickets.items():"
                ),
                (
                    "Dispatcher.lost: for link_id, ticket in reversed(list(seat.held.items())):"
                    "  →  for link_id, ticket in list(seat.held.items()):"
                ),
            ],
            "the queue sorts when it must, so the queue is the same; the order spares it that. Which of several waiters wakes "
            "first is nobody's promise",
        ),
    },
    "_core/queue.py": {
        "Queue.put_back: if oldest < ticket.number:  →  if oldest <= ticket.number:": (
            "they are equal if the queue was empty, and a queue of one is in order already"
        ),
    },
    "_core/seat.py": {"Seat.unwanted: return None  →  (removed)": "a function that ends returns None"},
    "_core/roster.py": {
        "_find_idle: return None  →  (removed)": "a function that ends returns None",
        "Roster._find_roomy: return None  →  (removed)": "a function that ends returns None",
        "Roster.offer: return  →  (removed)": "taken off the top and put there again it is where it was; this saves the way",
    },
    "_worker/pace.py": {
        "module: TYPE_CHECKING = False  →  TYPE_CHECKING = True": "imports a module that the worker has imported already",
        "Pace.took: if not known or nanoseconds > 4 * known:  →  if nanoseconds > 4 * known:": (
            "what took any time is longer than four times nothing; what took none is made 1 on both roads"
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
