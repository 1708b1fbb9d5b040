"""The inbox of a worker that is reached by its stream alone: what was cancelled is skipped, and then forgotten."""

from __future__ import annotations

from gibbs._wire.messages import CALL, CANCEL
from gibbs._wire.page import private_page
from gibbs._worker.inbox import InBandInbox


class Said:
    """A channel on which the hub has said these messages."""

    def __init__(self, *messages):
        self.messages = [*messages]

    def read_piece(self):
        return [self.messages.pop(0)]


def inbox_of(*messages):
    inbox = InBandInbox(Said(*messages), private_page())
    for _ in messages:
        inbox.read_ahead()
    return inbox


def test_a_request_that_is_cancelled_before_it_begins_is_skipped_and_the_next_is_not():
    inbox = inbox_of((CALL, 1, b""), (CANCEL, 1, b""), (CALL, 2, b""))
    assert inbox.receive() == (CALL, 1, b"")
    assert not inbox.begin(1)
    assert inbox.receive() == (CALL, 2, b"")
    assert inbox.begin(2)


def test_a_cancel_that_overtakes_its_request_is_kept_for_it():
    inbox = inbox_of((CANCEL, 2, b""), (CALL, 1, b""), (CALL, 2, b""))
    assert inbox.begin(1)
    assert not inbox.begin(2)


def test_cancels_leave_nothing_behind_however_many_there_are():
    inbox = inbox_of(*[(CANCEL, link_id, b"") for link_id in range(1, 1001)])
    for link_id in range(1, 1001):
        assert not inbox.begin(link_id)
    assert inbox.begin(1001)
    assert not inbox._unwanted
