"""For launchers whose workers dial back: where they dial in, and who is let in. `gibbs.worker.connect` is a worker's end of it.

An engine that starts processes elsewhere need not give them a stream: it brings them an invitation, a line of text, and they dial. See the
recipe for Dask in docs/cluster.md, and `gibbs.contrib.ray`.

Example:
    ```python
    async with open_reception("10.0.0.1", (0,), encrypt=True, keepalive=5.0) as reception:
        guest = reception.expect()
        start_somewhere(guest.invitation.text())  # which calls gibbs.worker.connect with it, in its main thread
        arrival = await guest.arrived()
        arrival.stream  # is the worker's
    ```
"""

from __future__ import annotations

from ._launch.reception import Arrival as Arrival
from ._launch.reception import Guest as Guest
from ._launch.reception import Reception as Reception
from ._launch.reception import open_reception as open_reception

__all__ = ["Arrival", "Guest", "Reception", "open_reception"]

for _public in (Arrival, Guest, Reception, open_reception):
    _public.__module__ = "gibbs.dial"
