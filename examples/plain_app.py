"""The initial app: one model, called on the event loop, so that clients wait in line.

Serve it, and ask it ten times at once from another terminal:

    python examples/plain_app.py
    python examples/load.py             # 10 requests took 2.532 s
"""

import uvicorn
from fastapi import FastAPI
from model import MyAwesomeModel

app = FastAPI()
model = MyAwesomeModel()


@app.get("/request")
async def simple_request(x: int) -> dict[str, int]:
    return {"result": model(x)}


if __name__ == "__main__":
    uvicorn.run(app)
