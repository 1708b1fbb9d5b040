"""The greeting of a worker that dials: what proves who both ends are, as text that anybody might have written."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gibbs._wire.greeting import MOST, SEALED, TOKEN_SIZE, Invitation, NotAuthentic, OfHub, OfWorker
from gibbs._wire.hello import Hello

TOKEN = bytes(range(TOKEN_SIZE))
HELLO = Hello("1", "0.4", "3.11.7", 12, "host")


class Hub:
    """A hub that has invited some, and remembers whom it let in."""

    def __init__(self, **tokens):
        self.tokens = tokens
        self.admitted = []

    def admit(self, identity):
        self.admitted.append(identity)
        return self.tokens.pop(identity, None) is not None

    def half(self, **options):
        return OfHub(self.tokens.get, self.admit, **options)


def converse(hub, worker):
    """All that both say; returns it."""
    said = [worker.first]
    answer = hub.feed(worker.first)
    said.append(answer)
    said.append(worker.feed(answer))
    hub.feed(said[-1])
    return said


def test_who_was_invited_is_admitted():
    hub = Hub(w=TOKEN)
    half, worker = hub.half(), OfWorker("w", TOKEN, HELLO)
    converse(half, worker)
    assert worker.done
    assert (half.identity, half.hello.pid, half.hello.python, hub.admitted) == ("w", 12, "3.11.7", ["w"])


def test_the_token_is_never_said():
    said = b"".join(converse(Hub(w=TOKEN).half(), OfWorker("w", TOKEN, HELLO)))
    assert TOKEN not in said
    assert TOKEN.hex().encode() not in said


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_any_split_of_what_is_said_is_understood(first, second):
    hub, worker = Hub(w=TOKEN).half(), OfWorker("w", TOKEN, HELLO)

    def feed(half, data, at):
        at %= len(data) + 1
        return b"".join([half.feed(part) for part in (data[:at], data[at:]) if part])

    answer = feed(hub, worker.first, first)
    feed(hub, feed(worker, answer, second), first)
    assert hub.hello.host == "host"


@pytest.mark.parametrize(
    ("worker", "hub"),
    [
        ({"identity": "w", "token": b"x" * 32}, {"w": TOKEN}),
        ({"identity": "w", "token": TOKEN}, {}),
        ({"identity": "w", "token": TOKEN}, {"v": TOKEN}),
    ],
    ids=["another token", "nobody invited", "somebody else invited"],
)
def test_who_was_not_invited_is_not_admitted(worker, hub):
    hub = Hub(**hub)
    half = hub.half()
    with pytest.raises(NotAuthentic):
        converse(half, OfWorker(worker["identity"], worker["token"], HELLO))
    assert (half.hello, hub.admitted) == (None, [])


def test_a_worker_does_not_believe_who_only_has_its_identity():
    worker = OfWorker("w", TOKEN, HELLO)
    with pytest.raises(NotAuthentic, match="does not know the token"):
        worker.feed(OfHub(lambda _: b"x" * 32, lambda _: True).feed(worker.first))
    assert not worker.done


def test_a_worker_is_not_fooled_by_its_own_words():
    """Whoever asks the hub for a proof and gives it to a worker: it is one of another role, or for another nonce."""
    one, other = OfWorker("w", TOKEN, HELLO), OfWorker("w", TOKEN, HELLO)
    with pytest.raises(NotAuthentic):
        one.feed(Hub(w=TOKEN).half().feed(other.first))


def test_what_was_said_once_is_good_for_nothing_the_next_time():
    said = converse(Hub(w=TOKEN).half(), OfWorker("w", TOKEN, HELLO))
    again = Hub(w=TOKEN)
    half = again.half()
    half.feed(said[0])
    with pytest.raises(NotAuthentic):
        half.feed(said[2])
    assert again.admitted == []


def test_an_invitation_is_good_for_one_of_two_who_come_at_once():
    hub = Hub(w=TOKEN)
    halves = [(hub.half(), OfWorker("w", TOKEN, HELLO)) for _ in range(2)]
    proofs = [worker.feed(half.feed(worker.first)) for half, worker in halves]
    halves[0][0].feed(proofs[0])
    with pytest.raises(NotAuthentic, match="was used"):
        halves[1][0].feed(proofs[1])
    assert halves[1][0].hello is None


def test_a_proof_is_good_for_the_certificate_that_both_have_seen():
    worker = OfWorker("w", TOKEN, HELLO, bound_to=b"one")
    with pytest.raises(NotAuthentic):
        worker.feed(Hub(w=TOKEN).half(bound_to=b"another").feed(worker.first))


def test_what_a_worker_says_of_itself_is_covered_by_the_proof():
    hub = Hub(w=TOKEN)
    half, worker = hub.half(), OfWorker("w", TOKEN, HELLO)
    proof = worker.feed(half.feed(worker.first))
    with pytest.raises(NotAuthentic):
        half.feed(proof.replace(b"pid=12", b"pid=13"))
    assert hub.admitted == []


@given(st.binary(max_size=200))
@example(b"gibbs-dial 1 w \n")
@example(b"gibbs-dial 1 w n n\n")
@example(b"gibbs-dial 2 w n\n")
@example(b"gibbs-dial 1 w \xff\n")
@example(b"gibbs-dial 1 w n\ngibbs-proof x\n\ngibbs-worker-hello \n")
def test_whatever_a_stranger_says_admits_nobody(said):
    hub = Hub(w=TOKEN)
    half = hub.half()
    try:
        half.feed(said)
        half.feed(said)
    except NotAuthentic:
        pass
    assert (half.hello, hub.admitted) == (None, [])


@given(st.binary(max_size=200))
def test_whatever_an_impostor_says_proves_nothing(said):
    worker = OfWorker("w", TOKEN, HELLO)
    try:
        assert worker.feed(said) == b""
    except NotAuthentic:
        pass
    assert not worker.done


@pytest.mark.parametrize(
    "half", [lambda: Hub(w=TOKEN).half(), lambda: OfWorker("w", TOKEN, HELLO)], ids=["hub", "worker"]
)
def test_a_line_without_end_is_not_collected(half):
    half = half()
    with pytest.raises(NotAuthentic, match="more than"):
        for _ in range(MOST):
            half.feed(b"x" * 100)


# ------------------------------------------------------------------------------------------------------------ invitations

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=50)
invitations = st.builds(
    Invitation,
    st.text(min_size=1, max_size=50),
    st.integers(1, 65535),
    words,
    st.binary(min_size=TOKEN_SIZE, max_size=TOKEN_SIZE),
    sealed=st.sampled_from(SEALED),
    certificate=st.text(max_size=100),
    keepalive=st.floats(0.001, 1e5),
)


@given(invitations)
def test_an_invitation_arrives_as_it_was_sent(sent):
    text = sent.text()
    assert "\n" not in text
    got = Invitation.read(text)
    assert {name: getattr(got, name) for name in Invitation.__slots__} == {
        name: getattr(sent, name) for name in Invitation.__slots__
    }


VALID = json.loads(Invitation("host", 1, "w", TOKEN, sealed="by key").text())
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*VALID]), anything)
def test_an_invitation_that_makes_no_sense_is_a_value_error_without_the_secret(name, value):
    text = json.dumps({**VALID, name: value})
    try:
        Invitation.read(text)
    except ValueError as error:
        assert TOKEN.hex() not in str(error)  # noqa: PT017 - either is right


@given(st.text(max_size=50))
@example("[" * 100_000)
@example(json.dumps({**VALID, "more": 1}))
@example(json.dumps({**VALID, "token": "é" * 64}))
def test_what_is_no_invitation_is_a_value_error(text):
    with pytest.raises(ValueError):
        Invitation.read(text)


def test_the_nonces_are_not_the_same_twice():
    assert len({OfWorker("w", os.urandom(32), HELLO).first for _ in range(100)}) == 100
