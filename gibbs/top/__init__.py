"""What hubs are doing, for a terminal, and for programs that have no web server. `python -m gibbs top` is its other end: see [the live page](status.md#in-a-terminal).

Nothing of it is open unless it is asked for.
"""

from ._snapshot import snapshot
from ._socket import open_socket
from ._text import as_rich, as_text

__all__ = ["as_rich", "as_text", "open_socket", "snapshot"]
