"""Run notebooks, each cell after the other in one worker, which remembers the names; many notebooks at once.

    printf 'x = 20\n\nx + 1\n\nx * 2\n' > sums.txt
    python examples/notebook.py sums.txt

Cells are parted by empty lines; what the last line of a cell comes to is printed. A cell may do what it likes: one that kills its process, or takes
too long, costs its own notebook the rest of its cells, and nobody else anything. The next notebook has that place, with a new worker.
"""

import argparse
import ast
from pathlib import Path

import anyio

import gibbs


class Kernel:
    """Not for strangers' code: a worker may do what your program may."""

    interruptible = True  # a cell that takes too long is interrupted; only if that does not help its worker is replaced

    def clear(self) -> None:
        self.names: dict[str, object] = {}  # the notebook before has left its own

    def run(self, cell: str) -> str:
        *lines, last = ast.parse(cell).body
        if not isinstance(last, ast.Expr):
            lines.append(last)
        exec(compile(ast.Module(lines, []), "<cell>", "exec"), self.names)  # that is what a kernel is for
        if not isinstance(last, ast.Expr):
            return ""
        return repr(eval(compile(ast.Expression(last.value), "<cell>", "eval"), self.names))


async def run_notebook(hub: gibbs.Hub[Kernel], path: Path, seconds: float) -> None:
    cells = [cell for cell in path.read_text().split("\n\n") if cell.strip()]
    number = 0
    try:
        async with hub.lease() as worker:
            await worker.method(Kernel.clear).request()
            for number, cell in enumerate(cells, 1):
                with anyio.fail_after(seconds):
                    result = await worker.method(Kernel.run).request(cell)
                print(f"{path.name}[{number}] {result}")
    except (gibbs.WorkerCrashed, gibbs.LeaseBroken):
        print(f"{path.name}[{number}] has lost its worker, and all names")
    except TimeoutError:
        print(f"{path.name}[{number}] takes longer than {seconds:g} s")
    except Exception as error:  # noqa: BLE001 - the cell's own
        print(f"{path.name}[{number}] {type(error).__name__}: {error}")


async def main(paths: list[Path], workers: int, seconds: float) -> None:
    async with gibbs.open_hub(Kernel, workers=workers) as hub, anyio.create_task_group() as tg:
        for path in paths:
            tg.start_soon(run_notebook, hub, path, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--workers", type=int, default=3, help="one of them more than notebooks at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each cell")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    anyio.run(main, options.notebooks, options.workers, options.seconds, backend=options.backend)
