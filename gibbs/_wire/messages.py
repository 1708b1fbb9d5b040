"""The kinds of message, by direction: what a hub may say to a worker, and a worker to its hub.

A message is a kind, the link id of the request that it speaks of (0: none) and a body. Link ids grow with each sending on
one link and are never used twice there, so a late or forged reply cannot be taken for another request's.
"""

# hub → worker
SETUP = 1  # how to find the model and how to be reached while in a call; the first message
CALL = 2  # run one request; the body is `(method, args, kwargs)` as a payload, or a letter
CANCEL = 3  # in band only: the caller is gone; the body is INTERRUPT, or empty for "skip it if it has not begun"
LEAVE = 4  # no more requests come: leave the loop and exit as a program does
FREED_RESULT = 5  # no view is left of what that request's result had in the worker's arena

# worker → hub
READY = 16  # the model is built; the body says what it offers
UNFIT = 17  # the model could not be built; the body says why
ANSWER = 18  # the request's result
FAILURE = 19  # the request's exception
SKIPPED = 20  # the request was interrupted, or never begun: nothing is to be delivered
TOO_LARGE = 21  # the request's result is longer than the hub takes; the body says how long, a little-endian number
FREED_ARGUMENTS = 22  # no view is left of what that request's arguments have in the hub's arena

TO_WORKER = frozenset({SETUP, CALL, CANCEL, LEAVE, FREED_RESULT})
TO_HUB = frozenset({READY, UNFIT, ANSWER, FAILURE, SKIPPED, TOO_LARGE, FREED_ARGUMENTS})

OUTCOMES = frozenset({ANSWER, FAILURE})  # what nearly all messages of a worker are

INTERRUPT = b"!"
SIZE = 8  # bytes of the body of TOO_LARGE
