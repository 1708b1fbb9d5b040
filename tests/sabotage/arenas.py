"""Sabotages of what is shared for large arguments and results: `python -m tests.sabotage --more`."""

from __future__ import annotations

from tests.sabotage.parts import Edit, Sabotage

ARENA = "gibbs/_wire/arena.py"
BORROWER = "gibbs/_wire/borrower.py"
EAR = "gibbs/_worker/ear.py"
LENDER = "gibbs/_wire/lender.py"
LETTER = "gibbs/_wire/letter.py"
SHELF = "gibbs/_parent/arena.py"

LENDING = "tests/core/test_arena.py::"
ARENAS = "tests/end_to_end/test_arenas.py::"

OF_ARENAS = (
    Sabotage(
        "tie a slot to a memoryview",
        "the next result is written over an array that its caller still has",
        (
            Edit(LETTER, "self.buffers = [PickleBuffer(view).raw() for view in views]", "self.buffers = views"),
            Edit(
                BORROWER,
                "views = [self._arena.view(*place) for place in places]",
                "views = [memoryview(self._arena._map)[o : o + n] for o, n in places]",
            ),
        ),
        (
            LENDING + "test_a_slot_lives_as_long_as_an_array_that_was_made_of_it",
            ARENAS + "test_results_that_are_kept_are_never_written_over",
        ),
    ),
    Sabotage(
        "do not check where a result lies",
        "a worker makes the hub read what is not there, or fail in the task that reads for all",
        (Edit(LETTER, "if not length or offset + length > size:", "if False:"),),
        (
            LENDING + "test_no_table_leads_beyond_the_arena",
            LENDING + "test_of_a_forged_letter_nothing_is_borrowed",
        ),
    ),
    Sabotage(
        "make an arena without seals",
        "a worker that shrinks its arena ends the whole program by SIGBUS at the hub's next look",
        (
            Edit(
                ARENA,
                "        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)\n",
                "",
            ),
        ),
        (LENDING + "test_nobody_can_make_it_larger_or_smaller",),
    ),
    Sabotage(
        "free arguments with the answer although the model keeps them",
        "what a model remembers of one request becomes the arguments of another",
        (
            Edit(
                EAR,
                "        return self._borrower.open(link_id, body)\n",
                "        self._borrower.leave(link_id)\n        return self._borrower.open(link_id, body)\n",
            ),
        ),
        (ARENAS + "test_an_argument_that_the_model_keeps_stays_as_it_is",),
    ),
    Sabotage(
        "keep the arguments of a request that was cancelled",
        "each cancelled request takes some of the shared memory for ever, until nothing is left to share",
        (
            Edit(
                LENDER,
                "        self._parcels[ref(parcel, self._note)] = [offset for offset, _ in self._places]\n",
                "        self._parcels[ref(parcel, self._note)] = []\n",
            ),
        ),
        (
            ARENAS + "test_a_cancelled_call_leaves_nothing_lent",
            ARENAS + "test_a_refused_call_leaves_nothing_lent",
        ),
    ),
    Sabotage(
        "take back what was not lent",
        "a worker that gives back what another still reads has it written over",
        (
            Edit(
                SHELF,
                "        if self._lent.pop(link_id, None) is None:\n"
                '            raise Violation(f"it gave back arguments of request {link_id}, which it was not lent")\n',
                "        self._lent.pop(link_id, None)\n",
            ),
        ),
        (ARENAS + "test_a_worker_that_gives_back_what_it_was_not_lent_dies",),
    ),
    Sabotage(
        "do not ask for memory before a copy",
        "where memory is used up, the program dies by SIGBUS in the middle of a request",
        (
            Edit(
                ARENA,
                "            os.posix_fallocate(self.fd, start * _GRAIN, (end - start) * _GRAIN)\n",
                "",
            ),
        ),
        (LENDING + "test_memory_that_cannot_be_had_is_an_error_before_anything_is_written",),
    ),
)
