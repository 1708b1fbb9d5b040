"""The worker's life: receive the recipe, build the model, answer requests one at a time, leave.

Knows what a process is made of: descriptors, signals, its parent. `live` is the part that is the same where a worker is a thread; the road
of a request is the service's.
"""

from __future__ import annotations

import os

from .._model import CurrentWorker, here
from .._wire import payload, plain
from .._wire.claims import Claims
from .._wire.messages import (
    READY,
    SETUP,
    UNFIT,
)
from .._wire.page import map_page, private_page
from .._wire.recipe import Recipe
from . import lifeline
from .build import Unfit, build
from .channel import Channel
from .context import Contexts
from .ear import Ear
from .health import Process
from .hooks import open_model
from .inbox import DirectInbox, InBandInbox
from .interrupt import Interrupter, disregard_sigterm
from .logs import send_logs
from .pace import InBandPace, Pace
from .service import Service
from .stacks import answer_signals
from .voice import Voice


def serve(
    stream: int,
    *,
    out: int = -1,
    page: int = -1,
    claims: int = -1,
    arguments: int = -1,
    results: int = -1,
    inquiry: int = -1,
    lifeline_fd: int = -1,
    parent: int | None = None,
) -> None:
    """Serve one hub over a descriptor until it says LEAVE. Called once, in the main thread of a fresh process.

    `out` is what is written to, -1 where it is the same descriptor.
    `page` and `claims` are descriptors made by the hub, -1 when there are none: then cancels come in the stream.
    `arguments` and `results` are those of arenas, -1 when there are none: then what is large comes in the stream too. On `inquiry` the hub asks
    where the worker is, -1 where it does in the stream.
    """
    for fd in (arguments, results, inquiry):
        if fd >= 0:
            os.set_inheritable(fd, False)
    guard = lifeline.Guard(os.getppid() if parent is None else parent)
    for fd in (stream, out):  # none of them is the business of the model's subprocesses
        if fd >= 0:
            os.set_inheritable(fd, False)
    if lifeline_fd >= 0:
        os.set_inheritable(lifeline_fd, False)
        lifeline.arm(lifeline_fd)
    converse(
        Channel(stream, out), guard, page=page, claims=claims, arguments=arguments, results=results, inquiry=inquiry
    )


def converse(
    channel: Channel,
    guard: lifeline.Guard,
    *,
    page: int = -1,
    claims: int = -1,
    arguments: int = -1,
    results: int = -1,
    inquiry: int = -1,
) -> None:
    """What `serve` does once there is a stream, whatever it is made of."""
    disregard_sigterm()
    kind, _, body = channel.receive()
    if kind != SETUP:
        raise RuntimeError(f"the first message must be SETUP, not {kind}")
    setup = payload.loads(body)
    here.worker = CurrentWorker(setup["name"], setup["seat"], setup["incarnation"], setup["device"])
    shared = map_page(page) if page >= 0 else private_page()
    if page >= 0:
        os.close(page)
    pace = InBandPace(shared, channel) if setup["in_band"] else Pace(shared)
    interrupter = Interrupter(shared)
    interrupter.install()
    if inquiry >= 0:
        answer_signals(inquiry)
    inbox: DirectInbox | InBandInbox
    if setup["in_band"]:
        inbox = InBandInbox(channel, shared)
        guard.watch(channel.fd, inbox.read_ahead, silence=setup["silence"])
    else:
        os.set_inheritable(claims, False)
        inbox = DirectInbox(channel, shared, Claims(claims))
        guard.watch(channel.fd, inquiry=inquiry)
        if setup["awake_below"]:
            channel.stay_awake(pace, setup["awake_below"])
    if setup["logs"] is not None:
        send_logs(channel, interrupter, *setup["logs"])
    ear = Ear(setup, arguments)
    voice = Voice(setup, results)
    recipe = Recipe(setup["recipe"])
    recipe.install(elsewhere=setup["elsewhere"])
    live(recipe, channel, inbox, interrupter, ear, voice, pace, Process())


def live(
    recipe: Recipe,
    channel: Channel,
    inbox: DirectInbox | InBandInbox,
    interrupter: Interrupter,
    ear: Ear,
    voice: Voice,
    pace: Pace,
    process: Process,
) -> None:
    """What is the same wherever a worker lives: build the model, answer requests until the hub says LEAVE, close the model."""
    try:
        model, propagated = build(recipe)
        hooks, about = open_model(model)
    except Unfit as unfit:
        channel.send(UNFIT, 0, plain.dumps((unfit.reason, voice.failure(unfit.error, "call"))))
        return
    told = {**about, "hooks": hooks.found, "sees_arguments": ear.sees_arguments}
    channel.send(READY, 0, plain.dumps(told))
    Service(hooks, about["methods"], Contexts(propagated), channel, inbox, interrupter, ear, voice, pace, process).run()
    hooks.leave()
