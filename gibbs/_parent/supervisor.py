"""The life of a seat: launch, serve, bury, ask the policy, wait, again. One task per seat, so a slow start holds up nobody.

Knows why a worker failed and says it in words; exceptions about workers are made here. Must never decide who gets which
request, nor when the hub gives up: it asks the dispatcher and the crew.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import anyio

from .._core.pace import DUE_SOON
from .._errors import RemoteError, StartFailure, WorkerStartFailed
from .._records import in_lines, probable_cause
from .._wire import failure
from .._wire.messages import UNFIT
from ..abc import LaunchFailed, WorkerSpec
from .death import Death
from .link import Link
from .logs import levels
from .memory import oom_kills, resident_bytes
from .stacks import crash_of, place_of
from .start_slot import StartSlot
from .usable_cpus import usable_cpus
from .worker import Worker

if TYPE_CHECKING:
    from .._core.seat import Seat
    from .._records import Ending
    from ..abc import WorkerProcess
    from .crew import Crew
    from .fleet import Post


class Supervisor:
    """Keeps one seat occupied until the hub closes."""

    def __init__(self, seat: Seat, post: Post, crew: Crew, recipe: bytes, *, place: int) -> None:
        self.seat = seat
        self.post = post
        self.place = place  # which of the launcher's: what its device and its host go by
        self.recipe = recipe
        self.worker: Worker | None = None
        self.on_trial = False  # its first worker must become ready, or there is no other; written by who wants to know
        self.problem: WorkerStartFailed | None = None  # why a worker on trial did not become ready
        self.recycled = ""  # why its worker is to be replaced though it is well; written by who does so
        self._crew = crew
        self._deadline = math.inf  # of the hub's closing; finite once it closes
        self._launching = anyio.CancelScope()
        self._launched_at = self._ready_at = math.nan
        self._oom_kills: int | None = None  # by the kernel's counter, when this worker was launched
        self.first_link_id = 0  # the last id that was used here before this worker

    @property
    def pid(self) -> int | None:
        """The process id of the seat's worker, if there is one."""
        return self.worker.process.origin.pid if self.worker is not None else None

    def resident_bytes(self) -> int:
        """The memory in use by the seat's worker, if it is on this machine and somebody can tell; else 0."""
        return resident_bytes(self.pid) if self.pid is not None and self.post.traits.same_host else 0

    @property
    def served_since(self) -> float | None:
        """When its worker became ready; None if there is none that is."""
        return None if math.isnan(self._ready_at) or self.worker is None else self._ready_at

    @property
    def closing(self) -> bool:
        return self._deadline < math.inf

    def close(self, deadline: float) -> None:
        """Let the worker go, by this time at the latest, and start no other. Synchronous; may be repeated to hurry."""
        self._deadline = min(self._deadline, deadline)
        self._launching.cancel()
        if self.worker is not None:
            self.worker.close(self._deadline)

    def dismiss(self) -> None:
        """The seat's worker is the last one here, and goes now. Synchronous."""
        self.close(self._crew.loop.now() + self._crew.options.close_timeout)
        self._crew.news.announce()

    async def run(self) -> None:
        """Supervise until `close`, or `dismiss`. Its awaits are shielded: it is told to stop and never cancelled, but natively."""
        with anyio.CancelScope(shield=True):
            while not self.closing:
                pause = await self._one_life()
                with anyio.move_on_after(pause):
                    while not self.closing:
                        await self._crew.news.wait()
                self._crew.restarts += not self.closing
        self._crew.carry_out(self._crew.dispatcher.retire(self.seat))

    async def _one_life(self) -> float:
        """One worker, from launch to grave. Returns how many seconds to wait before the next one."""
        self._crew.carry_out(self._crew.dispatcher.launch(self.seat))
        self._launched_at = anyio.current_time()
        self._ready_at = math.nan
        self.first_link_id = self.seat.last_link_id
        self._oom_kills = oom_kills()
        worker: Worker | None = None
        problem: WorkerStartFailed | None = None
        slot = StartSlot(self.post.start_slots)
        try:
            process, start_deadline = await self._launch(slot)
            worker = self.worker = self._worker(process)
            try:
                await worker.live(self._setup(worker), lambda: self._serve(slot), start_deadline=start_deadline)
            finally:
                await worker.bury()
        except WorkerStartFailed as error:
            problem = error
        finally:
            slot.release()
            self.worker = None
            self._settle(worker)
        observers = self._crew.observers
        if worker is not None and not math.isnan(self._ready_at):
            crash = self._death(worker).error()
            if observers is not None:
                observers.ended(crash, worker, closing=self.closing, recycled=self.recycled)
            if self.closing:
                return math.inf
            return 0.0 if worker.lost_to_a_cancel else self._crew.crashed(self.seat, self._ready_at, crash)
        if self.closing:
            return math.inf
        if worker is not None:
            problem = self._explain(worker)
        assert problem is not None
        if observers is not None:
            observers.start_failed(self.seat, problem)
        if self.on_trial:
            self.problem = problem
            self.dismiss()
            return math.inf
        return await self._crew.start_failed(self.seat, problem)

    async def _launch(self, slot: StartSlot) -> tuple[WorkerProcess, float]:
        """A process, and the time by which its model must be built. Raises WorkerStartFailed."""
        options, post = self._crew.options, self.post
        spec = WorkerSpec(
            name=options.name,
            seat=self.seat.index,
            incarnation=self.seat.incarnation,
            workers=post.seats,
            place=self.place,
        )
        process: WorkerProcess | None = None
        deadline = math.inf
        with anyio.CancelScope() as self._launching:
            await slot.acquire()
            deadline = self._launching.deadline = anyio.current_time() + options.start_timeout
            try:
                process = await post.session.launch(spec)
            except LaunchFailed as error:
                raise self._failed("launch", str(error)) from error
            except OSError as error:
                raise self._failed("resources", f"no process could be made: {error}") from error
        if process is None:
            raise self._too_late()
        return process, deadline

    def _worker(self, process: WorkerProcess) -> Worker:
        crew = self._crew
        worker = Worker(
            process,
            Link(process, crew.turns, max_message=crew.options.max_message),
            self.seat,
            crew.dispatcher,
            crew.carry_out,
            crew.ask,
            crew.records.handle,
            crew.loop.now,
            cancel_grace=crew.options.cancel_grace,
            max_message=crew.options.max_message,
            trusted=crew.options.results is None,
            has_last_words=self.post.traits.last_words,
            lends=self.post.lends,
            cleanups=crew.cleanups,
        )
        if self.closing:
            worker.close(self._deadline)
        return worker

    def _setup(self, worker: Worker) -> dict[str, Any]:
        options = self._crew.options
        return {
            "name": options.name,
            "seat": self.seat.index,
            "incarnation": self.seat.incarnation,
            "device": getattr(worker.process, "device", None),
            "max_message": options.max_message,
            # A worker that waits awake needs a CPU that the hub and the other workers do not.
            "awake_below": DUE_SOON if options.most < usable_cpus() else 0.0,
            "safe": options.results is not None,
            "arenas": worker.shelf.shared,
            "elsewhere": not self.post.traits.same_host,
            "silence": getattr(worker.process, "silence", None),
            "recipe": self.recipe,
            "logs": levels() if options.logs else None,
        }

    def _serve(self, slot: StartSlot) -> None:
        """The worker has built its model."""
        assert self.worker is not None
        assert self.worker.welcome is not None
        slot.release()
        self._ready_at = self._crew.loop.now()
        self.on_trial = False
        if self._crew.observers is not None:
            took = self._ready_at - self._launched_at
            self._crew.observers.ready(self.seat, self.worker.process.origin, took)
        self._crew.became_ready(self.seat, self.worker.welcome[1])

    def _settle(self, worker: Worker | None) -> None:
        """The worker is gone, or never came: what it held is lost or goes back. Synchronous, on every way out."""
        dispatcher = self._crew.dispatcher
        self._crew.carry_out(dispatcher.condemn(self.seat))
        begun: int | None = 0
        certain = True
        if worker is not None:
            certain, begun = worker.ending.certain, worker.begun()
            if certain:
                worker.shelf.clear()
            else:  # it may still write into what it was lent
                self._crew.not_buried.append(worker.shelf)
        death = self._death(worker) if worker is not None else None
        if death is not None and self._crew.crash_records is not None:
            self._crew.crash_records.record(death.error(), self.recipe, self.seat, begun)
        self._crew.carry_out(dispatcher.lost(self.seat, begun, death, certain=certain))
        self._crew.clock.waits.ring()  # some may have gone back
        if self._crew.scaler is not None:
            self._crew.scaler.something_waits.ring()

    # ---- in words

    def _death(self, worker: Worker) -> Death:
        ending = worker.ending
        why = worker.violation
        if why is None and worker.over == "cancel":
            why = "a cancelled call could not be stopped otherwise"
        before, now = self._oom_kills, oom_kills()
        knows = before is not None and now is not None and self.post.traits.same_host
        out_of_memory = now != before if knows else None
        threads = worker.threads or crash_of(ending)
        return Death(
            name=self._crew.options.name,
            pid=worker.process.origin.pid,
            host=worker.process.origin.host,
            seat=self.seat.index,
            incarnation=self.seat.incarnation,
            exit_code=ending.exit_code,
            signal=ending.signal,
            stderr_tail=ending.tail,
            probable_cause=probable_cause(ending, violation=why, out_of_memory=out_of_memory, last=place_of(threads)),
            stack=in_lines(threads),
            may_still_run=not ending.certain,
        )

    def _explain(self, worker: Worker) -> WorkerStartFailed:
        """Why a worker did not become ready."""
        ending = worker.ending
        if worker.welcome is not None and worker.welcome[0] == UNFIT:
            reason, report = worker.welcome[1]
            cause = failure.load_failure(report, trusted=self._crew.options.results is None)
            if isinstance(cause, failure.RemoteFailure):
                cause = RemoteError(cause.type_name, cause.message, cause.traceback, "call")
            words = failure.describe_failure(cause, stage="call")  # its own __str__ may raise
            what = {"import": "its code could not be loaded there", "model": "the model could not be built"}.get(reason)
            text = f"{what}: {words.type_name}: {words.message}" if what else words.message
            error = self._failed(reason, text, ending)
            error.__cause__ = cause
            return error
        if worker.over == "timeout":
            return self._too_late(ending)
        when = "while its model was told to serve" if worker.welcome is not None else "before its model was built"
        if worker.violation is not None:
            return self._failed("exited", worker.violation, ending)
        where = in_lines(crash_of(ending))
        at = f"; it was at, the innermost call last:\n{where}" if where else ""
        return self._failed("exited", f"the process {ending} {when}{at}", ending)

    def _too_late(self, ending: Ending | None = None) -> WorkerStartFailed:
        timeout = self._crew.options.start_timeout
        return self._failed("timeout", f"it was not ready after start_timeout={timeout} seconds", ending)

    def _failed(self, reason: StartFailure, detail: str, ending: Ending | None = None) -> WorkerStartFailed:
        told = reason == "exited"
        return WorkerStartFailed(
            self._crew.options.name,
            self.seat.index,
            reason,
            exit_code=ending.exit_code if ending and told else None,
            signal=ending.signal if ending and told else None,
            stderr_tail=ending.tail if ending else "",
            detail=detail,
        )
