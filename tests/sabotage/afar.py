"""What is broken on purpose of workers on other machines, and of fleets."""

from __future__ import annotations

from tests.sabotage.parts import Edit, Sabotage

COMMAND = "gibbs/_launch/command_process.py"
COMMANDS = "tests/end_to_end/test_commands.py::"
CONTRACT = "tests/end_to_end/test_contract.py::"
GREETING = "gibbs/_wire/greeting.py"
FLEETS = "tests/hub/test_fleets.py::"

AFAR = (
    Sabotage(
        "try again what may still run",
        "a host that is not heard of for a moment runs an order, and so does the next",
        (Edit("gibbs/_core/ticket.py", "(certain or self.terms.retry_uncertain)", "True"),),
        (FLEETS + "test_what_may_still_run_is_tried_again_only_on_request",),
    ),
    Sabotage(
        "ask the far one as soon as the near one",
        "requests go round the world while the worker beside them has nothing to do",
        (Edit("gibbs/_core/roster.py", "self._far_idle if seat.is_far else self._idle", "self._idle"),),
        (
            "tests/core/test_roster.py::test_of_two_idle_seats_the_near_one_is_found_and_the_far_one_when_there_is_no_other",
        ),
    ),
    Sabotage(
        "let all launchers share the places at the start",
        "workers of this machine wait for a cluster that has no room today",
        (
            Edit(
                "gibbs/_parent/fleet.py",
                "            slots = None if options.start_concurrency is None else anyio.Semaphore(options.start_concurrency)\n",
                "            slots = posts[0].start_slots if posts else None\n"
                "            if slots is None and options.start_concurrency is not None:\n"
                "                slots = anyio.Semaphore(options.start_concurrency)\n",
            ),
        ),
        (FLEETS + "test_workers_that_take_long_to_start_elsewhere_hold_up_nobody_here",),
    ),
    Sabotage(
        "kill what leads to a worker at once",
        "a worker that was killed on purpose is said to run on, perhaps, and its requests are not sent again",
        (
            Edit(
                COMMAND,
                "        if self.hello is None:\n            super().kill()\n        elif",
                "        super().kill()\n        if",
            ),
        ),
        (COMMANDS + "test_a_worker_that_is_killed_is_gone_for_certain",),
    ),
    Sabotage(
        "wait for ever for what leads to a worker",
        "something between hub and worker does not notice that its hub has closed, and is there for ever",
        (Edit(COMMAND, "self._later(_KILL_PATIENCE, super().kill)", "pass"),),
        (COMMANDS + "test_a_command_that_does_not_pass_the_end_on_is_killed",),
        timeout=60,
    ),
    Sabotage(
        "take a command's own exit status for the worker's",
        "a request is sent again while the container that Docker has lost still runs it",
        (Edit(COMMAND, "or code is None or code in self._command.lost:", "or code is None:"),),
        (COMMANDS + "test_an_exit_status_that_is_the_commands_own_proves_nothing",),
    ),
    Sabotage(
        "take whatever worker comes",
        "another version of gibbs, or of Python, is sent what it cannot read, and says so in its own words",
        (Edit(COMMAND, "        if misfit is not None:\n", "        if False:\n"),),
        (COMMANDS + "test_what_no_worker_can_come_of_is_refused_in_words",),
        timeout=120,
    ),
    Sabotage(
        "be the worker without a keeper",
        "a model that holds the interpreter's lock outlives its hub, and everybody who waits for it",
        (Edit("gibbs/worker.py", "    lifeline = fork_worker(stream, out)\n", "    lifeline = -1\n"),),
        (COMMANDS + "test_nothing_is_left_when_the_hub_is_left_in_a_call_that_holds_the_lock",),
        timeout=60,
    ),
    Sabotage(
        "judge the silence without looking",
        "a worker whose model holds the interpreter's lock for long ends itself when it lets go",
        (
            Edit(
                "gibbs/_worker/lifeline.py", "                    heard = monotonic()\n", "                    pass\n"
            ),
            Edit("gibbs/_worker/lifeline.py", " > silence and not _wait(poll, 0):", " > silence:"),
        ),
        (CONTRACT + "test_a_worker_that_could_not_listen_looks_for_signs_of_its_hub_before_it_takes_it_for_gone",),
    ),
    Sabotage(
        "try on what was refused",
        "a key that was taken back is shown again and again, until the account is locked",
        (
            Edit(
                "gibbs/_parent/crew.py",
                "        if isinstance(problem.__cause__, LaunchRefused):\n",
                "        if False:\n",
            ),
        ),
        (FLEETS + "test_a_place_that_is_refused_ends_the_hub_with_that_and_whoever_waits_is_told",),
    ),
    Sabotage(
        "let in whoever knows a name",
        "anybody who reaches the port and has seen an identity is sent the model, and what he answers is unpickled",
        (Edit(GREETING, "        if not _is_proof(self._proof, *known):\n", "        if False:\n"),),
        ("tests/core/test_greeting.py::test_what_a_worker_says_of_itself_is_covered_by_the_proof",),
    ),
    Sabotage(
        "let an invitation be used twice",
        "an engine that starts a worker again by itself has two of them on one seat",
        (Edit(GREETING, "        if not self._admit(self.identity):\n", "        if False:\n"),),
        ("tests/core/test_greeting.py::test_an_invitation_is_good_for_one_of_two_who_come_at_once",),
    ),
    Sabotage(
        "believe any hub",
        "who listens at the hub's address has a worker unpickle whatever he likes",
        (
            Edit(
                GREETING,
                '        if not _is_proof(proof, self._token, "hub", self._identity, self._nonce, nonce, self._bound_to):\n',
                "        if False:\n",
            ),
        ),
        ("tests/core/test_greeting.py::test_a_worker_does_not_believe_who_only_has_its_identity",),
    ),
)
