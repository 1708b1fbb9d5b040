"""How many seats there are, and other workers in the place of those that serve: one after the other, the new one ready before the old one goes.

Knows seats by what they are doing. Must never know why a worker is to go. Promises that one is replaced at a time; that whoever
asks while one is replaced waits for nothing that he would not have waited for; and that a replacement which cannot be had changes
nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from .._core.seat import Seat, SeatState
from .._errors import HubClosed, WorkerStartFailed
from .supervisor import Supervisor

if TYPE_CHECKING:
    from .crew import Crew
    from .fleet import Post

_WITH_A_MODEL = (SeatState.SPARE, SeatState.SERVING, SeatState.INTERRUPTING)


class Reload:
    """One that was begun. `problem` is set before `done`: why it was undone, or cut short; and `undone`, whether it could be."""

    def __init__(self, recipe: bytes, canary: bytes, shared: list[Any]) -> None:
        self.recipe = recipe
        self.canary = canary
        self.shared = shared
        self.problem: WorkerStartFailed | HubClosed | None = None
        self.undone = True
        self.done = anyio.Event()


class Staffing:
    """Who is to sit where in one hub."""

    def __init__(self, crew: Crew, posts: list[Post]) -> None:
        self.wanted = crew.options.least  # how many are to serve
        self.shared: list[Any] = []  # arrays of the models: freed when no worker is to have them any more
        self._crew = crew
        self._posts = posts
        self._one_at_a_time = anyio.Lock()

    @property
    def is_settled(self) -> bool:
        """Whether as many serve as are wanted, and nobody is left who is too many."""
        leaving = any(seat.dismissed and seat.state is not SeatState.RETIRED for seat in self._crew.dispatcher.seats)
        return self._crew.serving == self.wanted and not leaving

    @property
    def _present(self) -> list[Seat]:
        """The seats that stay."""
        return [one for one in self._crew.dispatcher.seats if not one.dismissed and one.state is not SeatState.RETIRED]

    def resize(self, workers: int) -> None:
        """So many are to serve from now on: who is too many goes when it has nothing to do, who is missing is started."""
        crew = self._crew
        before, self.wanted = self.wanted, workers
        if crew.observers is not None and workers != before:
            crew.observers.resized(before, workers)
        crew.carry_out(crew.dispatcher.resize(workers))
        present = self._present
        places = workers + crew.options.spares
        # Those that are not ready go first, then those that do not serve, then those that have least to do.
        present.sort(
            key=lambda seat: (
                seat.state in _WITH_A_MODEL,
                seat.in_service,
                seat.lease is None,
                len(seat.held),
                -seat.index,
            )
        )
        for seat in present[: max(0, len(present) - places)]:
            self.dismiss(seat)
        for _ in range(places - len(present)):
            self.add(crew.recipe)
        crew.news.announce()
        if crew.scaler is not None:
            crew.scaler.something_waits.ring()  # it goes on from there

    def _settle(self) -> None:
        """Nobody is replaced any more: as many are present as are wanted, whatever was wanted while there was one more, or one less."""
        if not self._crew.is_over:
            self.resize(self.wanted)

    def dismiss(self, seat: Seat) -> None:
        """Its worker is to go, as soon as it has nothing to do."""
        self._crew.carry_out(self._crew.dispatcher.dismiss(seat))

    def add(self, recipe: bytes, *, on_trial: bool = False, like: Supervisor | None = None) -> Supervisor:
        """One seat more: the first that was left, or a new one. On trial its first worker becomes ready, or it goes again.

        `like` is whose place it is to take: it is launched where that was, with the same device.
        """
        crew = self._crew
        seats = crew.dispatcher.seats
        seat = next((one for one in seats if one.state is SeatState.RETIRED), None)
        index = len(seats) if seat is None else seat.index
        while len(self._posts) <= index:
            self._posts.append(self._posts[-1])
        post, place = (self._posts[index], index) if like is None else (like.post, like.place)
        if seat is None:
            seat = Seat(index, is_far=not post.traits.same_host)
        seat.is_far = not post.traits.same_host
        supervisor = Supervisor(seat, post, crew, recipe, place=place)
        crew.supervisors[index : index + 1] = [supervisor]
        supervisor.on_trial = on_trial
        crew.carry_out(crew.dispatcher.add(seat))
        crew.fill(supervisor)
        return supervisor

    async def replace(self, seat: Seat, *, surge: bool = True) -> None:
        """Another worker of the same kind in the seat's place. Raises WorkerStartFailed, and then nothing has changed.

        Without `surge` the old one is gone before the new one is started, where there is no memory for both. If that fails it is tried again
        as after any death, and nobody who wants to replace others need wait for it.
        """
        incarnation = seat.incarnation
        async with self._one_at_a_time:
            crew = self._crew
            if seat.dismissed or crew.closed or seat.incarnation != incarnation:  # it has gone already
                return
            recipe = crew.supervisors[seat.index].recipe
            try:
                if surge:
                    await self._replace(seat, recipe)
                    return
                old = crew.supervisors[seat.index]
                self.dismiss(seat)
                while seat.state is not SeatState.RETIRED and crew.supervisors[seat.index] is old:
                    await crew.news.wait()
                new = self.add(recipe, on_trial=True, like=old)
                while new.on_trial and new.problem is None and not new.seat.dismissed and not crew.is_over:
                    await crew.news.wait()
                if new.problem is not None:
                    raise new.problem
            finally:
                self._settle()

    def begin_reload(self, recipe: bytes, canary: bytes, shared: list[Any]) -> Reload:
        """Replace all, the first of them by what the canary's recipe makes, in a task of the hub's own: it is carried through, or undone."""
        reload = Reload(recipe, canary, shared)
        self._crew.spawn(partial(self._carry_out, reload), "reload")
        return reload

    async def _carry_out(self, reload: Reload) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._reload(reload)
            reload.shared, self.shared = self.shared, reload.shared  # those of the model before are to go
        except (WorkerStartFailed, HubClosed) as problem:
            reload.problem = problem
        finally:
            for arrays in reload.shared:
                if arrays not in self.shared:  # the same may have been given again
                    arrays.close()
            if self._crew.observers is not None:
                self._crew.observers.reloaded(reload.problem)
            reload.done.set()

    async def _reload(self, reload: Reload) -> None:
        """Raises WorkerStartFailed, when all are as they were again, or cannot be."""
        crew = self._crew
        async with self._one_at_a_time:
            # Here: another reload may have come to its end meanwhile.
            before, methods = crew.recipe, crew.repertoire.methods
            try:
                await self._replace_all(reload.recipe, reload.canary)
            except WorkerStartFailed as problem:
                crew.recipe, crew.repertoire.methods = before, methods  # also where nobody is left who was replaced
                try:
                    await self._replace_all(before, before)
                except WorkerStartFailed as again:
                    problem.add_note(f"nor could it be undone: {again}")
                    reload.undone = False
                    for supervisor in crew.supervisors:  # until those of the new one die: they are not started again
                        supervisor.recipe = before
                raise
            finally:
                self._settle()

    async def _replace_all(self, recipe: bytes, first: bytes) -> None:
        """Until none is left that was not made by the recipe; also of those that are added, or restarted, meanwhile."""
        crew = self._crew
        if crew.recipe is not recipe and not self._present:  # one is built to be tried, and goes again
            new = (await self._build(first)).seat
            crew.recipe = recipe
            self._learn(new)
            self.dismiss(new)
        while others := [seat for seat in self._present if crew.supervisors[seat.index].recipe is not recipe]:
            # Spares first: whoever is called in the place of a worker that goes must be a new one.
            new = await self._replace(min(others, key=lambda seat: seat.in_service), first)
            crew.recipe = crew.supervisors[new.index].recipe = first = recipe  # who comes after the canary is none
            self._learn(new)

    async def _replace(self, old: Seat, recipe: bytes) -> Seat:
        new = (await self._build(recipe, like=self._crew.supervisors[old.index])).seat
        # Of the two one goes, also where the old one went for another reason meanwhile.
        self.dismiss(new if old.dismissed or old.state is SeatState.RETIRED else old)
        return new

    def _learn(self, seat: Seat) -> None:
        """Another model is served from now on, which this seat's worker has built."""
        worker, repertoire = self._crew.supervisors[seat.index].worker, self._crew.repertoire
        repertoire.methods = None  # else the next one that becomes ready tells
        if worker is not None and worker.welcome is not None:
            repertoire.learn(worker.welcome[1])

    def _misfit(self, supervisor: Supervisor) -> str | None:
        """Why its worker's model cannot take the place of those that serve, in words; None: it can."""
        worker = supervisor.worker
        if worker is None or worker.welcome is None or self._crew.options.results is not None:
            return None
        return self._crew.repertoire.misfit(worker.welcome[1])

    async def _build(self, recipe: bytes, like: Supervisor | None = None) -> Supervisor:
        """One more, that has a model. Raises WorkerStartFailed or HubClosed."""
        crew = self._crew
        if crew.is_over:
            raise crew.refusal()
        new = self.add(recipe, on_trial=True, like=like)
        while new.seat.state not in _WITH_A_MODEL:
            if new.problem is not None:
                raise new.problem
            if crew.is_over:
                raise crew.refusal()
            if new.seat.dismissed:  # the hub became smaller meanwhile, and this one was too many
                new = self.add(recipe, on_trial=True, like=like)
            await crew.news.wait()
        if (why := self._misfit(new)) is not None:
            self.dismiss(new.seat)
            raise WorkerStartFailed(crew.options.name, new.seat.index, "refused", detail=why)
        return new
