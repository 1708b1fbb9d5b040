"""The inboxes of a worker: what was cancelled or taken back is skipped, and then forgotten."""

from __future__ import annotations

import sys

import pytest

from gibbs._wire.claims import create_claims
from gibbs._wire.messages import CALL, CANCEL
from gibbs._wire.page import private_page
from gibbs._worker.inbox import DirectInbox, InBandInbox

linux = pytest.mark.skipif(sys.platform != "linux", reason="eventfds are Linux's")


class Said:
    """A channel on which the hub has said these messages."""

    def __init__(self, *messages):
        self.messages = [*messages]

    def read_piece(self):
        return [self.messages.pop(0)]

    def receive(self):
        return self.messages.pop(0)

    def wait(self, seconds):
        return bool(self.messages)


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


@pytest.fixture
def direct():
    """An inbox beside a page, the page, and the hub's claims."""
    page, claims = private_page(), create_claims()
    yield DirectInbox(Said(), page, claims), page, claims
    claims.close()


@linux
def test_a_request_begins_with_its_claim_and_the_page_says_so(direct):
    inbox, page, claims = direct
    claims.offer(1)
    assert inbox.begin(1)
    assert page.begun == 1
    assert claims.take_back(1) == 0


@linux
def test_a_request_without_a_claim_was_taken_back_and_never_begins(direct):
    inbox, page, claims = direct
    claims.offer(3)
    assert inbox.begin(1)
    assert claims.take_back(3) == 2
    assert not inbox.begin(2)
    assert not inbox.begin(3)
    assert page.begun == 1
    claims.offer(1)
    assert inbox.begin(4)


@linux
def test_a_request_that_is_aimed_at_uses_its_claim_and_never_begins(direct):
    inbox, page, claims = direct
    claims.offer(2)
    page.target = 1
    assert not inbox.begin(1)
    assert page.begun == 0
    assert claims.take_back(2) == 1, "the other request's is left, and no more"
