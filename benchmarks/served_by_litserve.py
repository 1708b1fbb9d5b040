"""The tiny model behind LitServe: `python -m benchmarks.served_by_litserve WHO LOOP PORT`; its loop is its own choice."""

from __future__ import annotations

import sys

import litserve

from benchmarks.models import tiny


class Api(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        pass

    def predict(self, request: dict[str, int]) -> dict[str, int]:
        return {"result": tiny(request["x"])}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=2, fast_queue=True)
    port = int(sys.argv[-1])
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
