"""What the last minutes of a hub were: an observer that folds [events](#gibbsevents) into what a person on call would look at.

It asks nobody, and has no clock: `event.at` is the time, and who looks gives it too. The [live page](status.md) and `python -m gibbs top` show what it knows.

Example:
    ```python
    from gibbs.history import History

    history = History()
    async with gibbs.open_hub(Model, workers=4, name="m", observers=[history]) as hub:
        ...
        for remark in history.of("m", anyio.current_time()).remarks:
            print(remark.text)
    ```
"""

from ._history import History
from ._records import (
    EndedWorker,
    HubStatus,
    MethodStatus,
    Minutes,
    Quantiles,
    Remark,
    RunningCall,
    SeatStatus,
    SlowCall,
    as_data,
)
from ._remarks import called as called
from ._remarks import seconds_in_words as seconds_in_words

__all__ = [
    "EndedWorker",
    "History",
    "HubStatus",
    "MethodStatus",
    "Minutes",
    "Quantiles",
    "Remark",
    "RunningCall",
    "SeatStatus",
    "SlowCall",
    "as_data",
]
