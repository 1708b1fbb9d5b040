"""The kinds of message, by direction: what a hub may say to a worker, and a worker to its hub.

A message is a kind, the link id of the request that it speaks of (0: none) and a body. Link ids grow with each sending on
one link and are never used twice there, so a late or forged reply cannot be taken for another request's.
"""

from struct import Struct

# hub → worker
SETUP = 1  # how to find the model and how to be reached while in a call; the first message
CALL = 2  # run one request; the body is `(method, args, kwargs)` as a payload, or a letter
CANCEL = 3  # in band only: the caller is gone; the body is INTERRUPT, or empty for "skip it if it has not begun"
LEAVE = 4  # no more requests come: leave the loop and exit as a program does
STREAM = 6  # as CALL, of a generator; nothing may be sent of it before CREDIT
CREDIT = 7  # so many more items of that stream may be sent; the body is a little-endian number
BATCH = 9  # the so many CALLs that follow are one call of a method that takes a list; the first has this link id; a little-endian number
DEADLINE = 10  # so many SECONDS are left to the caller of that request: it follows, or the worker has asked
CALL_OF_MANY = 12  # as CALL, of a caller who asks for many at once: its answer may wait a moment for the next ones
TRACK = 11  # as CALL, whose caller wants to know how it is getting on
PING = 13  # in band only: the hub lives, and can be reached; else the worker would end itself, see `silence` in SETUP
RECALL = 14  # in band only: skip what has not begun of all that came before this; GIVEN_BACK tells what that is
WHERE = 15  # in band only: where is the worker? STACKS tells
CLOSE = 8  # the reader of that stream is gone: close its generator where it yields
FREED_RESULT = 5  # no view is left of what that request's result had in the worker's arena

# worker → hub
READY = 16  # the model is built; the body says what it offers
UNFIT = 17  # the model could not be built; the body says why
ANSWER = 18  # the request's result
FAILURE = 19  # the request's exception
SKIPPED = 20  # the request was interrupted, or never begun: nothing is to be delivered
TOO_LARGE = 21  # the request's result is longer than the hub takes; the body says how long, a little-endian number
FREED_ARGUMENTS = 22  # no view is left of what that request's arguments have in the hub's arena
ITEMS = (
    23  # some items of that stream, as `items` packs them; its end is an ANSWER without a body, or what ends a request
)
ASKS = 24  # how long will the caller of that request wait? DEADLINE tells
REPORT = 25  # how far that request has come, which was a TRACK; the body is a payload
LOG = 26  # a record of `logging`, made while that request ran; the body is a dict of plain data
GIVEN_BACK = 27  # in band only: up to this request all will be skipped that is behind the one in the body, a little-endian number
PACED = 28  # in band only: a request takes so many nanoseconds, as the number that is a link id elsewhere
STACKS = 29  # in band only: the nanoseconds for which what it began last has run, a little-endian number, and where it is, in words

TO_WORKER = frozenset(
    {
        SETUP,
        CALL,
        CANCEL,
        LEAVE,
        STREAM,
        CREDIT,
        CLOSE,
        BATCH,
        DEADLINE,
        TRACK,
        CALL_OF_MANY,
        PING,
        RECALL,
        WHERE,
        FREED_RESULT,
    }
)
TO_HUB = frozenset(
    {
        READY,
        UNFIT,
        ANSWER,
        FAILURE,
        SKIPPED,
        TOO_LARGE,
        FREED_ARGUMENTS,
        ITEMS,
        ASKS,
        REPORT,
        LOG,
        GIVEN_BACK,
        PACED,
        STACKS,
    }
)

REQUESTS = frozenset({CALL, STREAM, TRACK, CALL_OF_MANY})  # what a worker claims and begins
TO_STREAM = frozenset({CREDIT, CLOSE})  # about one that it has begun, or that is over

OUTCOMES = frozenset({ANSWER, FAILURE})  # what nearly all messages of a worker are

INTERRUPT = b"!"
SECONDS = Struct("<d")
SIZE = 8  # bytes of a number that is a body
