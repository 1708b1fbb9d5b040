"""What must be true of one request, of one seat, and of what its worker has said: as plain as can be.

Knows no dispatcher. Each stands beside a real thing, and is compared with it after every step.
"""

import math
from dataclasses import dataclass, field

from gibbs._core.group import Group
from gibbs._core.lease import Lease
from gibbs._core.pace import AHEAD, UNKNOWN, WINDOW
from gibbs._core.seat import Seat
from gibbs._core.terms import PLAIN, Terms
from gibbs._core.ticket import Ticket
from gibbs._wire.frames import HEADER_SIZE, FrameError, FrameReader, encode
from gibbs._wire.messages import TO_HUB

LONGEST_BODY = 64


def seconds_for(window: int) -> float:
    """A service time with which a seat may hold so many requests, and that is far from those with which it may hold others."""
    assert 1 <= window <= WINDOW
    return AHEAD / (window + 0.5)


@dataclass
class Request:
    """What must be true of one ticket."""

    number: int
    on_cancel: str | None
    ticket: Ticket
    payload: bytes = b"payload"
    state: str = "queued"
    outcome: object = None
    may_not_wait: bool = False  # as many waited as may, when it came
    sent: int = 0  # how often
    came_back: bool = False  # a worker died that had it
    tried: int = 0  # how often it was sent again after a worker died that may have begun it
    kills: int = 0  # workers that died while they ran it alone
    deaths: tuple[object, ...] = ()  # those after which it was tried again
    begun: bool = False
    forgotten: bool = False  # the dispatcher knows that it has begun, and keeps its payload no longer
    cleanable: bool = False  # somebody wants to know when it has left its seat
    wakes: int = 0  # counted by the ticket's callbacks
    releases: int = 0
    wakes_due: int = 0
    releases_due: int = 0
    window: int = 0  # of a stream; 0: it is a request
    credit: int = 0  # items that its worker may still send
    here: int = 0  # items that came and were not taken
    taken: int = 0  # items that were taken and not granted again
    came: bool = False  # whether any item has
    tracked: bool = False  # whether its caller wants to know how it is getting on
    word: bytes | None = None  # what it was told last, and has not looked at
    company: "Company | None" = None  # those that it may run together with
    terms: Terms = PLAIN
    created: float = 0.0
    lease: "PlainLease | None" = None  # that it asks for, or on which it was asked
    asks: bool = False  # for a lease: it is never sent
    stood_aside: bool = False

    @property
    def turn(self) -> tuple[float, int]:
        """Its place in the queue: a level of priority is worth ten seconds."""
        return self.created - 10 * self.terms.priority, self.number

    @property
    def give_up_at(self) -> float:
        """When a worker must have taken it."""
        return math.inf if self.came_back else self.created + self.terms.max_wait

    @property
    def live(self) -> bool:
        return self.state in ("queued", "sent")

    @property
    def needs_an_empty_seat(self) -> bool:
        return self.came_back or (self.may_not_wait and not self.sent) or self.company is not None or self.asks


@dataclass(eq=False)
class Company:
    """The requests of one method that runs many in one call."""

    group: Group
    most: int
    patience: float  # seconds for which the first waits for others
    gathering: list[Request] = field(default_factory=list)


@dataclass(eq=False)
class PlainLease:
    """What must be true of one lease."""

    lease: Lease
    state: str = "waiting"
    place: "Place | None" = None
    incarnation: int = 0
    line: list[Request] = field(default_factory=list)
    death: object = None

    def has_room(self, most: float) -> bool:
        """Whether one more may be asked on it."""
        idle = self.place.state == "serving" and not self.place.held and not self.place.recalled
        return len(self.line) < most or (idle and not self.line)


@dataclass
class Piece:
    """Some bytes that a worker wrote in one go."""

    length: int
    known_at: int  # as soon as so many bytes of the stream are there, the hub knows what it is
    message: tuple[int, int, bytes] | None  # None: what is no message


class Stream:
    """What a worker has written and the hub has not read, with the hub's own reader at the end of it."""

    def __init__(self) -> None:
        self.reader = FrameReader(TO_HUB, limit=LONGEST_BODY)
        self.broken = False  # the hub has seen what is no message
        self.unread = b""
        self._pieces: list[Piece] = []
        self._written = 0
        self._read = 0
        self._whole = 0  # where the last message ended that the hub was given

    def write(self, kind: int, link_id: int, body: bytes = b"") -> None:
        data = encode(kind, link_id, body)
        self._write(data, Piece(len(data), self._written + len(data), (kind, link_id, body)))

    def write_nonsense(self, data: bytes) -> None:
        """The worker writes what is no message. Its header is enough to know."""
        assert len(data) >= HEADER_SIZE
        self._write(data, Piece(len(data), self._written + HEADER_SIZE, None))

    def _write(self, data: bytes, piece: Piece) -> None:
        self.unread += data
        self._written += len(data)
        self._pieces.append(piece)

    def cut(self, missing: int) -> None:
        """The worker died over the last thing that it wrote: so many bytes at the end never left it."""
        if self._pieces:
            self.unread = self.unread[: max(0, len(self.unread) - min(missing, self._pieces[-1].length))]

    def read(self, size: int) -> list[tuple[int, int, bytes]]:
        """The hub reads so many bytes more: all that is whole by then comes out, and nothing else."""
        data, self.unread = self.unread[:size], self.unread[size:]
        self._read += len(data)
        expected = []
        while self._pieces and self._pieces[0].known_at <= self._read and not self.broken:
            piece = self._pieces.pop(0)
            if piece.message is None:
                self.broken = True
            else:
                expected.append(piece.message)
                self._whole = piece.known_at
        try:
            messages = self.reader.feed(data)
        except FrameError:
            messages = []
            assert self.broken, "a message was taken for nonsense"
        assert messages == expected
        assert self.broken == (self.reader.broken is not None)
        assert self.broken or (not self.reader._buffer) == (self._read == self._whole)
        return messages


@dataclass
class Place:
    """What must be true of one seat."""

    seat: Seat
    in_band: bool = False  # its workers have no page: what has begun is not known before their death
    state: str = "vacant"
    dismissed: bool = False  # its worker is to go, and no other comes
    let_go: bool = False  # and that was ordered
    in_service: bool = False  # it is one of those that serve, and its worker is not sure to be killed
    held: dict[int, Request] = field(default_factory=dict)
    recalled: set[int] = field(default_factory=set)  # taken back, and this worker has not said yet that it skips them
    together: bool = False  # what it holds is one call
    lease: PlainLease | None = None  # that has it for itself
    window: int = 1
    service_time: float = UNKNOWN
    seen_at_its_head: int = 0  # at the last tick
    on_cancel: str = "kill"
    target: int = 0  # what is being cleaned up
    begun: int = 0  # the last id that this worker began
    known_begun: int = 0  # as the dispatcher was told while the worker lived
    claimed: int = 0  # the last id of which this worker has the claim, whether it has begun it or is about to
    ids: list[int] = field(default_factory=list)  # all that were ever used here
    incarnation: int = 0
    stream: Stream = field(default_factory=Stream)  # of this worker
    dead: bool = False  # it writes no more
    distrusted: bool = False  # this worker spoke of what it does not hold, or wrote nonsense: it is not listened to
    ready_at: float | None = None  # when this worker became ready
    excused: bool = False  # this worker goes because of a cancel, which is no fault of its model's
    launch_at: float = -math.inf  # the next worker is not started earlier

    @property
    def to_clean_up(self) -> int | None:
        """The id at the head, if it is abandoned and must not just run out."""
        if self.together and any(request.live for request in self.held.values()):
            return None
        for link_id, head in self.held.items():
            if self.together:
                return max(self.held) if self.cleaning_of(head) != "finish" else None
            runs_out = not head.window and (head.on_cancel or self.on_cancel) == "finish"
            return link_id if not head.live and not runs_out else None
        return None

    def cleaning_of(self, request: Request) -> str:
        """What happens to it, when it runs and its caller leaves."""
        if self.together:  # what would hurt somebody is not done
            hows = [one.on_cancel or self.on_cancel for one in self.held.values()]
            return "finish" if "finish" in hows else "kill" if "kill" in hows else "interrupt"
        how = request.on_cancel or self.on_cancel
        return "close" if request.window and how == "kill" else how

    @property
    def can_be_had_back(self) -> list[int]:
        """What this worker has neither begun nor claimed."""
        return [link_id for link_id in self.held if link_id > max(self.begun, self.claimed)]

    @property
    def ahead(self) -> int:
        """How many requests it holds behind another."""
        return 0 if self.together else self.others

    @property
    def others(self) -> int:
        """How many requests it holds beside the first."""
        return max(0, len(self.held) - 1)

    def could_take(self, request: Request | None) -> bool:
        """None: one that must find the seat empty."""
        room = self.window if request is not None and not request.needs_an_empty_seat else 1
        free = self.to_clean_up is None and not self.recalled and not self.together and self.lease is None
        return self.state == "serving" and self.in_service and free and len(self.held) < room
