"""Do something in a moment, whatever the main thread does until then.

Knows time. Promises that what was asked for is done within some milliseconds, once for all that ask in the meantime, unless C code
holds the interpreter's lock so long.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Later:
    """A thread that is started when it is needed first, and sleeps while nothing is wanted of it.

    Invariant: `_asked` from the first that asks until the thread is about to act: what is asked for then is asked anew.
    """

    __slots__ = ("_act", "_asked", "_seconds", "_starts", "_wanted")

    def __init__(self, act: Callable[[], object], seconds: float) -> None:
        self._act = act
        self._seconds = seconds
        self._asked = False
        self._starts = True
        self._wanted = allocate_lock()  # free while there is something to do
        self._wanted.acquire()

    def ask(self) -> bool:
        """Do it soon. From any thread, also from a `__del__`. False if there can be no thread that would."""
        if self._asked:
            return True
        self._asked = True  # before anything at which another thread might come
        if self._starts:
            try:
                start_new_thread(self._run, ())
            except RuntimeError:  # there are too many
                self._asked = False
                return False
            self._starts = False
        self._wanted.release()
        return True

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            sleep(self._seconds)
            self._asked = False
            self._act()
