"""What stands out in a hub: rules that turn its status into sentences for whoever is on call. Pure."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from ._gone import DEATHS, REPLACED
from ._minutes import ENOUGH, RECENT
from ._records import Remark
from ._seat import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._records import EndedWorker, HubStatus, MethodStatus, SeatStatus

_A_WHILE = 600.0  # seconds: what is remarked upon is not older
_LONG = 1.0  # seconds that a request may wait before anybody wonders
_SLOWER = 3.0  # times
_MUCH = 100 << 20  # bytes that a worker may take more than at first
_NAMED = 3  # seats, before the others are only counted


def remarks_on(status: HubStatus) -> tuple[Remark, ...]:
    """What stands out, the worst first."""
    found = [*_on_hub(status), *_on_requests(status), *_on_workers(status)]
    return tuple(sorted(found, key=lambda remark: remark.level != "bad"))


def seconds_in_words(seconds: float) -> str:
    """As a person says it: "0.12 s", "3 min 12 s", "2 h 10 min"."""
    if seconds < 0.0995:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def called(method: str) -> str:
    """A method, as a person says it."""
    return {"__call__": "the model", "": "a lease", "…": "other methods"}.get(method, method)


def _on_hub(status: HubStatus) -> Iterator[Remark]:
    if status.state == "failed":
        yield Remark(level="bad", about="hub", text=f"The hub has failed, and takes no more requests: {status.error}")
    elif status.state == "draining":
        yield Remark(level="odd", about="hub", text="The hub is draining, and takes no more requests.")
    elif status.state == "open" and not any(seat.state in ("serving", "interrupting") for seat in status.seats):
        yield Remark(level="bad", about="hub", text="No worker serves.")


def _on_requests(status: HubStatus) -> Iterator[Remark]:
    serving = [seat for seat in status.seats if seat.state in ("serving", "interrupting")]
    busy = [seat for seat in serving if seat.call is not None or seat.leased is not None]
    overdue = [seat for seat in busy if seat.call is not None and seat.call.overdue]
    for seat in overdue[:_NAMED]:
        yield Remark(level="bad", about="overdue", text=_overdue(status, seat))
    if len(overdue) > _NAMED:
        yield Remark(level="bad", about="overdue", text=f"So are {len(overdue) - _NAMED} more workers.")
    yield from _slow(status, overdue)
    if serving and len(busy) == len(serving) and status.oldest_wait > _LONG:
        many = "The only worker is" if len(busy) == 1 else f"All {len(busy)} workers are"
        wait = "1 request waits" if status.queued == 1 else f"{status.queued} requests wait, the first"
        text = f"{many} busy, and {wait} for {seconds_in_words(status.oldest_wait)}. {_why_busy(status, busy)}"
        yield Remark(level="bad", about="full", text=text)
    if lately := sum(status.minutes.turned_away[-RECENT:]):
        were = "1 request was" if lately == 1 else f"{lately} requests were"
        text = f"{were} turned away in the last minute: as many wait as max_pending allows, or too little time was left for a call."
        yield Remark(level="bad", about="turned away", text=text)


def _why_busy(status: HubStatus, busy: list[SeatStatus]) -> str:
    """Whether calls take longer than they did, or there are more of them."""
    calls = [seat.call for seat in busy if seat.call is not None]
    if not calls:
        return "They are held for leases, whose holders ask nothing."
    method, _ = Counter(call.method for call in calls).most_common(1)[0]
    of_it = [call.seconds for call in calls if call.method == method]
    about = _about(status, method)
    usual = about.usually_took.p50 if about is not None and about.usually_took.count >= ENOUGH else None
    now = max(median(of_it), about.took.p50 or 0.0 if about is not None else 0.0)
    if usual is None:
        return f"Half of the calls of {called(method)} take {seconds_in_words(now)}, or longer; what is usual is not known yet."
    if now > _SLOWER * usual:
        return (
            f"Half of the calls of {called(method)} take {seconds_in_words(now)}, or longer; usually it is {seconds_in_words(usual)}: "
            f"they, or what they wait for, have become slow."
        )
    best = about.best_took if about is not None else None
    if best is not None and now > _SLOWER * best:
        return (
            f"Half of the calls of {called(method)} take {seconds_in_words(now)}, or longer, as they have for a while; they have taken "
            f"{seconds_in_words(best)}: they, or what they wait for, have become slow."
        )
    return f"Calls of {called(method)} take what they usually take, {seconds_in_words(usual)}: more is asked than the workers can do."


def _about(status: HubStatus, method: str) -> MethodStatus | None:
    return next((one for one in status.methods if one.method == method), None)


def _overdue(status: HubStatus, seat: SeatStatus) -> str:
    call = seat.call
    assert call is not None
    text = f"Worker {seat.seat} ({where_it_runs(seat)}) has been in {called(call.method)}, request {call.number}, for {seconds_in_words(call.seconds)}"
    about = _about(status, call.method)
    usual = about and (about.usually_took if about.usually_took.count >= ENOUGH else about.took)
    if usual and usual.p99 is not None:
        text += f"; 99 of 100 such calls take {seconds_in_words(usual.p99)} at most"
    if not call.where:
        return f"{text}."
    return f"{text}; {NOWHERE}." if call.where == NOWHERE else f"{text}. It is at {call.where}"


def _is_told(seat: SeatStatus) -> bool:
    """Whether its call is one of those that were found to be slow lately, and runs on."""
    return seat.call is not None and bool(seat.call.where) and seat.call.seconds < _A_WHILE


def _slow(status: HubStatus, overdue: list[SeatStatus]) -> Iterator[Remark]:
    """Those that are over: a hang that comes and goes is not seen else by who looks in between."""
    many = sum(status.minutes.slow) - sum(_is_told(seat) for seat in overdue)
    last = status.last_slow
    if many <= 0 or last is None:
        return
    were = "1 call that is over" if many == 1 else f"{many} calls that are over"
    text = f"{were} ran for longer than slow_call says, in the last 10 minutes. The last found, {seconds_in_words(last.ago)} ago, was in {called(last.method)}"
    yield Remark(
        level="odd", about="slow", text=f"{text}; {NOWHERE}." if last.where == NOWHERE else f"{text}, at {last.where}"
    )


def where_it_runs(worker: SeatStatus | EndedWorker) -> str:
    """Its process, in words."""
    pid = f"pid {worker.pid}" if worker.pid is not None else "pid unknown"
    return f"{pid} on {worker.host}" if worker.host else pid


def _on_workers(status: HubStatus) -> Iterator[Remark]:
    lately = [worker for worker in status.ended if worker.ago <= _A_WHILE]
    died = [worker for worker in lately if worker.kind == "died"]
    poison = {worker.number: worker for worker in reversed(died) if worker.deaths > 1}
    for worker in [*poison.values()][: -_NAMED - 1 : -1]:
        text = f"Request {worker.number}, of {called(worker.method)}, has killed {worker.deaths} workers: it is poison."
        yield Remark(level="bad", about="poison", text=text)
    if died:
        yield Remark(level="bad", about="deaths", text=f"{_counted(died, 'died')}{_in_common(died)}")
    if unstarted := [worker for worker in lately if worker.kind == "unstarted"]:
        text = f"{_counted(unstarted, 'did not become ready')}. The last: {unstarted[0].why}"
        yield Remark(level="bad", about="starts", text=text)
    if recycled := [worker for worker in lately if worker.kind == "recycled"]:
        about = "memory" if "of memory" in recycled[0].why else "recycled"
        text = f"{_counted(recycled, 'recycled')}. The last, since {recycled[0].why}"
        yield Remark(level="odd", about=about, text=text)
    for seat in status.seats:
        if (
            seat.memory
            and seat.memory_at_first
            and seat.memory > max(2 * seat.memory_at_first, seat.memory_at_first + _MUCH)
        ):
            text = f"Worker {seat.seat} ({where_it_runs(seat)}) takes {_size(seat.memory)}, and took {_size(seat.memory_at_first)} at first"
            since = "" if seat.age is None else f"; it has served for {seconds_in_words(seat.age)}"
            yield Remark(level="odd", about="memory", text=f"{text}{since}.")
    if cancelled := [worker for worker in lately if worker.kind == "cancelled"]:
        text = f"{_counted(cancelled, 'ended')}, since a cancelled call could not be stopped otherwise."
        yield Remark(level="odd", about="cancelled", text=text)


def _size(memory: int) -> str:
    return f"{memory / (1 << 20):.0f} MiB"


def _counted(workers: list[EndedWorker], what: str) -> str:
    were = "" if what.startswith("di") else "was " if len(workers) == 1 else "were "
    many = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
    if len(workers) >= (DEATHS if workers[0].kind in ("died", "unstarted") else REPLACED):
        many += " or more"  # no more are kept
    return f"{many} {were}{what} in the last 10 minutes"


def _in_common(died: list[EndedWorker]) -> str:
    """What the most of them were in; and how and why the last one died."""
    methods = Counter(called(worker.method) for worker in died if worker.number is not None)
    text = ""
    if methods:
        method, many = methods.most_common(1)[0]
        text = f", {'all' if many == len(died) else many} in {method}" if len(died) > 1 else f", in {method}"
    why = f": {died[0].why}" if died[0].why else ""
    return f"{text}. {'It' if len(died) == 1 else 'The last one'} {died[0].how}{why}"
