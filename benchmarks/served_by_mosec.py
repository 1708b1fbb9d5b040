"""The tiny model behind mosec, whose front end is written in Rust: `python -m benchmarks.served_by_mosec WHO LOOP PORT`."""

from __future__ import annotations

import sys

import mosec

from benchmarks.models import tiny


class Model(mosec.Worker):  # type: ignore[misc]
    def forward(self, data: dict[str, int]) -> dict[str, int]:
        return {"result": tiny(data["x"])}


if __name__ == "__main__":
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", sys.argv[-1], "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Model, num=2)
    server.run()
