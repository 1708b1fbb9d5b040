"""The child: what runs in a worker process. Imports `_wire` and `_model` only; never anyio."""
