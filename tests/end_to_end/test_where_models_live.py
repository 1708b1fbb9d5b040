"""Where a user's classes may live: each place is a program of its own, run as its user would run it.

What `models_beside.check` asks of every place: arguments and results are instances of the program's own classes, on both
sides; enum members are the same objects; `except Boom` catches; what a class counts in an attribute is never set back. A
program says `ran` when its top level runs: once, since no worker imports a script. Not a word on stderr, either.
"""

import enum
import functools
import importlib.util
import os
import re
import select
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import gibbs
from tests.end_to_end import models_beside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60), pytest.mark.in_turn]  # no loop has a part in it

PATIENCE = 40  # seconds
LOOPS = ["asyncio", "uvloop", "trio"]
on_each_loop = pytest.mark.parametrize("loop", LOOPS)

MODELS = Path(models_beside.__file__).read_text()
RAN = 'print("ran", __name__, flush=True)\n'
DONE = 'print("done")\n'
HERE = MODELS + RAN + "start(check, Model)\n" + DONE
BESIDE = "from beside import *\n" + RAN + "start(check, Model)\n" + DONE
RAN_ONCE = "ran __main__\ndone\n"


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> str:
    """One loop for each test, always the same one: together they try all three."""
    return LOOPS[zlib.crc32(request.node.name.encode()) % len(LOOPS)]


@dataclass
class Home:
    """A folder for a program, and a clean environment to run it in."""

    folder: Path
    loop: str

    def write(self, **files: str) -> None:
        """Names as Python spells modules: `pkg__model` is pkg/model.py."""
        for name, text in files.items():
            path = self.folder / (re.sub(r"(?<=[a-z])__(?=[a-z_])", "/", name) + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if re.match("PATH$|GIBBS_TEST_RUN$|COV", name)}
        return kept | {"HOME": str(self.folder), "GIBBS_TEST_LOOP": self.loop} | more

    def run(
        self,
        *command: str | Path,
        cwd: str | Path = "",
        stdin: str = "",
        python: str | Path = sys.executable,
        silent: bool = True,
        **environment: str,
    ) -> str:
        """What the program printed; it must end well, and in silence."""
        done = subprocess.run(
            [python, *command],
            cwd=self.folder / cwd,
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not silent or not done.stderr, done.stderr
        return done.stdout


@pytest.fixture
def home(tmp_path: Path, loop: str) -> Home:
    if loop != "asyncio" and importlib.util.find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")
    return Home(tmp_path, loop)


# ------------------------------------------------------------------------------------------------------------- scripts


@on_each_loop
def test_a_script_needs_no_guard_and_runs_once(home):
    home.write(script=HERE)
    assert home.run("script.py") == RAN_ONCE


@on_each_loop
def test_a_script_may_have_a_guard(home):
    home.write(script=MODELS + RAN + "if __name__ == '__main__':\n    start(check, Model)\n    print('done')\n")
    assert home.run("script.py") == RAN_ONCE


@on_each_loop
def test_a_module_beside_the_script(home):
    home.write(beside=MODELS, script=BESIDE)
    assert home.run("script.py") == RAN_ONCE


def test_a_script_in_another_directory_with_a_module_beside_it(home):
    home.write(there__beside=MODELS, there__script=BESIDE, here__unrelated="")
    assert home.run("../there/script.py", cwd="here") == RAN_ONCE


def test_a_script_without_a_suffix_that_is_reached_by_a_link(home):
    home.write(there__beside=MODELS, there__script=BESIDE)
    (home.folder / "there" / "script.py").rename(home.folder / "there" / "tool")
    (home.folder / "link").symlink_to(home.folder / "there" / "tool")
    assert home.run("link") == RAN_ONCE


def test_classes_of_the_script_and_of_a_module_in_one_model(home):
    home.write(
        beside=MODELS,
        script="""
import beside
from beside import *
class Point(beside.Point): pass
class Mine(Model):
    def __call__(self, point, colour):
        assert type(point) is Point and isinstance(point, beside.Point)
        plain, *_ = super().__call__(beside.Point(point.x), colour)
        return Point(plain.x, plain.y), plain, colour
async def main():
    async with gibbs.open_hub(Mine, workers=1) as hub:
        for turn in (1, 2):
            point, plain, colour = await hub.request(Point(5), Colour.BLUE)
            assert type(point) is Point and point == Point(5, turn)
            assert type(plain) is beside.Point and colour is beside.Colour.BLUE
start(main)
""",
    )
    home.run("script.py")


def test_a_worker_that_replaces_another_has_the_same_classes(home):
    home.write(
        script=MODELS
        + """
async def main():
    async with gibbs.open_hub(Model, workers=2) as hub:
        for _ in range(3):
            try:
                await hub.method("die").request()
            except gibbs.WorkerCrashed:
                pass
            await hub.wait_ready()
            for _ in range(4):
                point, colour, *_ = await hub.request(Point(1), Colour.BLUE)
                assert type(point) is Point and colour is Colour.RED
                assert type((await hub.method("count").request(Counted()))[1]) is Counted
        assert Counted.seen == 0
start(main)
"""
    )
    home.run("script.py", silent=False)  # a crash is logged


@on_each_loop
@pytest.mark.parametrize("place", ["script", "module"])
def test_a_model_may_open_a_hub_of_its_own(home, place):
    home.write(
        beside=MODELS, script=(MODELS if place == "script" else "from beside import *\n") + "start(check, Model, 0, 2)"
    )
    home.run("script.py")


# ------------------------------------------------------------------------------- programs that are not run by their path


@on_each_loop
def test_a_program_on_the_command_line(home):
    assert home.run("-c", HERE) == RAN_ONCE


def test_a_program_on_the_command_line_with_a_module_in_the_current_directory(home):
    home.write(beside=MODELS)
    assert home.run("-c", BESIDE) == RAN_ONCE


@on_each_loop
def test_a_program_on_standard_input(home):
    assert home.run("-", stdin=HERE) == RAN_ONCE


def test_a_program_on_standard_input_with_a_module_in_the_current_directory(home):
    home.write(beside=MODELS)
    assert home.run(stdin=BESIDE) == RAN_ONCE


RELATIVE = """
class Related(Model):
    def __init__(self):
        from . import relation
        super().__init__(relation.START)
"""


@on_each_loop
@pytest.mark.parametrize("name", ["pkg", "pkg.main", "pkg.deep.main"])
def test_a_program_that_is_run_as_a_module(home, name):
    program = MODELS + RELATIVE + RAN + "start(check, Related, 4)\n" + DONE
    home.write(pkg____init__="", pkg__relation="START = 4", pkg__deep____init__="", pkg__deep__relation="START = 4")
    for path in ("pkg/__main__.py", "pkg/main.py", "pkg/deep/main.py"):
        (home.folder / path).write_text(program)
    assert home.run("-m", name) == RAN_ONCE


def test_a_program_that_is_run_as_a_module_with_its_model_in_another(home):
    home.write(pkg____init__="", pkg__beside=MODELS, pkg__main=BESIDE.replace("beside", ".beside"))
    assert home.run("-m", "pkg.main") == RAN_ONCE


def test_a_module_that_is_run_and_imported_is_two_modules(home):
    """As in any Python program: what `pkg.main` calls Point is another class than the one of `__main__`."""
    home.write(
        pkg____init__="",
        pkg__main=MODELS
        + RAN
        + """
if __name__ == "__main__":
    from pkg import main as imported
    class Both:
        def __call__(self, mine, other):
            return type(mine) is Point, type(other) is imported.Point, Point is imported.Point, mine, other
    async def both():
        async with gibbs.open_hub(Both, workers=1) as hub:
            *facts, mine, other = await hub.request(Point(1), imported.Point(2))
            assert facts == [True, True, False], facts
            assert type(mine) is Point and type(other) is imported.Point
    start(both)
""",
    )
    assert home.run("-m", "pkg.main", silent=False) == "ran __main__\nran pkg.main\n"


def test_a_program_in_a_zip_file(home):
    with zipfile.ZipFile(home.folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", BESIDE)
        archive.writestr("beside.py", MODELS)
    assert home.run("app.zip") == RAN_ONCE


def test_a_program_in_a_zip_file_with_the_model_in_its_main(home):
    with zipfile.ZipFile(home.folder / "app.zip", "w") as archive:
        archive.writestr(
            "__main__.py", MODELS + RELATIVE.replace(" . ", " pkg ") + RAN + "start(check, Related, 4)\n" + DONE
        )
        archive.writestr("pkg/__init__.py", "")
        archive.writestr("pkg/relation.py", "START = 4")
    assert home.run("app.zip") == RAN_ONCE


def test_a_server_that_imports_an_app_by_its_name(home):
    home.write(
        site__server="""
import sys
from importlib import import_module
sys.path.insert(0, "")
module, _, name = sys.argv[1].partition(":")
app = getattr(import_module(module), name)
from pkg.beside import start
start(app)
""",
        pkg____init__="",
        pkg__beside=MODELS,
        pkg__app="from .beside import *\n" + RAN + "async def app():\n    await check(Model)\n    print('done')\n",
    )
    assert home.run("site/server.py", "pkg.app:app") == "ran pkg.app\ndone\n"


@on_each_loop
def test_a_server_that_imports_an_app_which_holds_the_model(home):
    home.write(
        site__server="import sys; sys.path.insert(0, ''); import pkg.app; pkg.app.start(pkg.app.app)",
        pkg____init__="",
        pkg__app=MODELS + "async def app():\n    await check(Model)\n    print('done')\n",
    )
    assert home.run("site/server.py") == "done\n"


def test_an_installed_package_with_a_console_script(home):
    home.run("-m", "venv", "--without-pip", "venv")
    python = home.folder / "venv" / "bin" / "python"
    (packages,) = (home.folder / "venv" / "lib").glob("python*/site-packages")
    # Our own environment lies behind it, .pth files included.
    ours = [entry for entry in sys.path if entry.endswith("-packages")]
    (packages / "ours.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in ours))
    (packages / "installed").mkdir()
    (packages / "installed" / "__init__.py").write_text("")
    (packages / "installed" / "beside.py").write_text(MODELS)
    (packages / "installed" / "cli.py").write_text(
        "from .beside import *\ndef main():\n    start(check, Model)\n    print('done')\n"
    )
    (python.parent / "serve-it").write_text(
        f"#!{python}\nimport sys\nfrom installed.cli import main\nsys.exit(main())\n"
    )
    assert home.run(python.parent / "serve-it", python=python) == "done\n"


def test_a_child_of_multiprocessing_opens_a_hub(home):
    """There the script is the module `__mp_main__`, and has a guard, because multiprocessing demands it."""
    home.write(
        script=MODELS
        + """
if __name__ == "__main__":
    import multiprocessing
    child = multiprocessing.get_context("spawn").Process(target=start, args=(check, Model))
    child.start()
    child.join()
    assert child.exitcode == 0
"""
    )
    home.run("script.py")


# --------------------------------------------------------------------------------------------------------- interactively


def typed(text: str) -> list[str]:
    """A program as one would type it: no empty lines, but one after each block."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip():
            if not line.startswith(" ") and lines and lines[-1].startswith(" "):
                lines.append("")
            lines.append(line)
    return [*lines, ""]


class Terminal:
    """An interpreter at a terminal."""

    def __init__(self, home: Home) -> None:
        self._ours, theirs = os.openpty()
        environment = home.environment(TERM="dumb", PYTHON_BASIC_REPL="1", PYTHONSTARTUP="", LINES="50", COLUMNS="500")
        self._process = subprocess.Popen(
            [sys.executable, "-q"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=home.folder,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def say(self, line: str) -> str:
        """Type a line; what is on the terminal when the interpreter waits for the next one."""
        os.write(self._ours, line.encode() + b"\n")
        return self.wait()

    def wait(self) -> str:
        seen = b""
        until = time.monotonic() + PATIENCE
        while not re.search(rb"(>>> |\.\.\. )$", seen):
            ready, _, _ = select.select([self._ours], [], [], until - time.monotonic())
            assert ready, seen.decode()
            seen += os.read(self._ours, 65536)
        return seen.decode()


@on_each_loop
def test_classes_that_are_typed_at_a_terminal(home):
    with Terminal(home) as terminal:
        terminal.wait()
        for line in typed(MODELS):
            assert "Error" not in (answer := terminal.say(line)) or "Error" in line, answer
        for _ in range(2):
            assert "Error" not in (answer := terminal.say("start(check, Model)")), answer
        # The same name for another class: what is typed last is what is meant.
        for line in typed("class Model:\n    def __call__(self, x):\n        return type(x) is Point, x"):
            terminal.say(line)
        for line in typed(
            "async def again():\n    async with gibbs.open_hub(Model, workers=1) as hub:\n        return await hub.request(Point(3))"
        ):
            terminal.say(line)
        assert "(True, Point(x=3, y=0))" in terminal.say("anyio.run(again)")


NOTEBOOK = """
import sys
from jupyter_client.manager import KernelManager

cells = {cells!r}
manager = KernelManager(kernel_name="python3")
manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
try:
    client.wait_for_ready(timeout=30)
    for cell in cells:
        reply = client.execute_interactive(cell, timeout=30, output_hook=lambda message: print(
            message["content"].get("text", message["content"].get("traceback", "")) if message["msg_type"] in ("stream", "error") else "", end=""))
        assert reply["content"]["status"] == "ok", reply["content"]
finally:
    client.stop_channels()
    manager.shutdown_kernel()
    manager.cleanup_resources()
"""


def test_a_notebook(home):
    pytest.importorskip("ipykernel")
    pytest.importorskip("jupyter_client")
    cells = [
        MODELS,
        "await check(Model)\nprint('first')",
        "await check(Model)\nprint('second')",
        "class Model:\n    def __call__(self, x): return type(x) is Point, x",
        "async with gibbs.open_hub(Model, workers=1) as hub: print(await hub.request(Point(3)))",
    ]
    home.write(driver=NOTEBOOK.format(cells=cells))
    printed = home.run("driver.py", silent=False, JUPYTER_PLATFORM_DIRS="1", IPYTHONDIR=str(home.folder))
    assert printed == "first\nsecond\n(True, Point(x=3, y=0))\n"


# ------------------------------------------------------------------------------------------------- what builds the model

SHELF = """
import abc, functools, logging, threading, typing
T = typing.TypeVar("T")
logger = logging.getLogger(__name__)
class Shelf:
    class Nested(Model):
        @classmethod
        def made(cls, start): return cls(start)
    @staticmethod
    def double(x): return 2 * x
    def __call__(self, x): return 2 * x
def local():
    class Local(Model):
        pass
    return Local
def closure(start): return lambda: Model(start)
def adding(extra): return lambda x: x + x + extra
def multiply(x, by): return x * by
def build(start): return Model(start)
class Locked(Model):
    def __init__(self, start):
        self.lock = threading.Lock()
        super().__init__(start)
class Logging(Model):
    def __init__(self, start):
        logger.debug("not to be seen")
        super().__init__(start)
class Generic(Model, typing.Generic[T]): pass
class Slotted(Model, abc.ABC):
    __slots__ = ("more",)
FACTORIES = {
    "a class": (Model, 7),
    "a nested class": (Shelf.Nested, 7),
    "a class in a function": (local(), 7),
    "a lambda": (lambda: Model(7),),
    "a lambda in a function": (closure(7),),
    "a partial with a keyword": (functools.partial(Model, start=7),),
    "a partial of a class in a function": (functools.partial(local(), start=7),),
    "a partial of a partial": (functools.partial(functools.partial(build), start=7),),
    "a function": (build, 7),
    "a class method": (Shelf.Nested.made, 7),
    "a class whose objects have a lock": (Locked, 7),
    "a class that logs": (Logging, 7),
    "a generic class": (Generic[int], 7),
    "a slotted and abstract class": (Slotted, 7),
}
FUNCTIONS = {
    "a function": double,
    "a closure": adding(0),
    "a lambda": lambda x: 2 * x,
    "a partial with a keyword": functools.partial(multiply, by=2),
    "a static method": Shelf.double,
    "an object": Shelf(),
    "a builtin": (2).__mul__,
}
async def build_each():
    for what, factory in FACTORIES.items():
        async with gibbs.open_hub(*factory, workers=1) as hub:
            for turn in (1, 2):
                point, colour, _, inner = await hub.request(Point(turn), Colour.BLUE)
                assert type(point) is Point and point.x == 7 + turn, (what, point)
                assert colour is Colour.RED and type(inner) is Outer.Inner, what
async def serve_each():
    for what, function in FUNCTIONS.items():
        async with gibbs.open_hub(gibbs.function(function), workers=1) as hub:
            assert [await hub.request(x) for x in (21, -1)] == [42, -2], what
"""


@pytest.mark.parametrize("place", ["script", "module"])
@pytest.mark.parametrize("main", ["build_each", "serve_each"])
def test_every_kind_of_factory_and_of_function(home, main, place):
    if place == "script":
        home.write(script=f"{MODELS}{SHELF}start({main})")
    else:
        home.write(beside=MODELS, shelf=f"from beside import *\n{SHELF}", script=f"from shelf import *\nstart({main})")
    home.run("script.py")


@pytest.mark.parametrize("place", ["script", "module"])
def test_a_function_keeps_its_globals_from_one_request_to_the_next(home, place):
    shelf = """
total = 0
def add(point):
    global total
    total += point.x
    return total, point
async def main():
    async with gibbs.open_hub(gibbs.function(add), workers=1) as hub:
        for expected in (5, 10, 15):
            seen, point = await hub.request(Point(5))
            assert seen == expected and type(point) is Point
    assert total == 0
"""
    home.write(beside=MODELS, shelf="from beside import *\n" + shelf)
    home.write(script=MODELS + shelf + "start(main)" if place == "script" else "from shelf import *\nstart(main)")
    home.run("script.py")


def test_a_class_that_only_requests_bring_is_one_class_in_the_worker(home):
    """The model does not know it, so nothing but the worker itself keeps it from one request to the next."""
    home.write(
        script=MODELS
        + """
class Visitor:
    visits = 0
    def visit(self):
        type(self).visits += 1
        return self, self.visits
def serve(visitor): return visitor.visit()
async def main():
    async with gibbs.open_hub(gibbs.function(serve), workers=1) as hub:
        for turn in (1, 2, 3):
            visitor, visits = await hub.request(Visitor())
            assert type(visitor) is Visitor and visits == turn and Visitor.visits == 0, visits
start(main)
"""
    )
    home.run("script.py")


def test_a_class_that_the_model_makes_is_one_class_in_the_parent(home):
    home.write(
        script=MODELS
        + """
def maker():
    class Made:
        count = 0
    def make():
        Made.count += 1
        return Made()
    return make
async def main():
    async with gibbs.open_hub(lambda: maker(), workers=1) as hub:
        first, second = await hub.request(), await hub.request()
        assert type(first) is type(second)
        assert type(first).count == 1  # as it was when the class came; nothing sets it again
start(main)
"""
    )
    home.run("script.py")


def test_a_group_of_exceptions_of_the_script(home):
    home.write(
        script=MODELS
        + """
def fail(n): raise ExceptionGroup("several", [Boom(Point(i), colour=Colour.RED) for i in range(n)] + [OSError(2, "no")])
async def main():
    async with gibbs.open_hub(gibbs.function(fail), workers=1) as hub:
        caught = []
        try:
            await hub.request(3)
        except* Boom as group:
            caught += group.exceptions
        except* OSError as group:
            caught += group.exceptions
        assert [type(error) for error in caught] == [Boom] * 3 + [FileNotFoundError]
        assert [error.point for error in caught[:3]] == [Point(0), Point(1), Point(2)]
start(main)
"""
    )
    home.run("script.py")


# ------------------------------------------------------------------------------------------ the interpreter and its path


FLAGS = {
    "-I": "sys.flags.isolated, sys.flags.ignore_environment, sys.flags.no_user_site, sys.flags.safe_path",
    "-O": "sys.flags.optimize, __debug__",
    "-OO": "sys.flags.optimize, __doc__",
    "-Werror": "sys.warnoptions",
    "-Xdev": "sys.flags.dev_mode, sys.warnoptions",
    "-Xutf8": "sys.flags.utf8_mode",
    "-B": "sys.flags.dont_write_bytecode",
    "-P": "sys.flags.safe_path",
    "-s": "sys.flags.no_user_site",
    "-bb": "sys.flags.bytes_warning",
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_of_the_interpreter_reaches_the_worker(home, flag):
    home.write(
        script=f"""
import os, sys, anyio, gibbs
class Model:
    def __call__(self):
        return {FLAGS[flag]}
async def main():
    async with gibbs.open_hub(Model, workers=1) as hub:
        print([await hub.request(), Model()()])
anyio.run(main, backend=os.environ["GIBBS_TEST_LOOP"].replace("uvloop", "asyncio"))
"""
    )
    with_flag = home.run(flag, "script.py", silent=flag != "-Xdev")  # then asyncio tells how busy the machine is
    there, here = eval(with_flag)
    assert there == here
    assert with_flag != home.run("script.py")


@pytest.mark.parametrize("flag", ["-I", "-Werror", "-Xdev", "-P", "-bb", "-B"])
def test_everything_works_under_the_flag(home, flag):
    home.loop = "asyncio" if flag in ("-Werror", "-bb") else home.loop  # others may warn
    home.write(script=HERE)
    assert home.run(flag, "script.py", silent=flag != "-Xdev") == RAN_ONCE


def test_a_path_that_the_program_changed(home):
    home.write(lib__beside=MODELS, script="import sys\nsys.path.insert(0, 'lib')\n" + BESIDE)
    assert home.run("script.py") == RAN_ONCE


def test_a_relative_path_whose_meaning_changed(home):
    """The module came from lib/ of the directory of then."""
    program = "import os, sys\nsys.path.insert(0, 'lib')\nimport beside\nos.chdir('/')\n"
    home.write(lib__beside=MODELS, script=program + BESIDE)
    assert home.run("script.py") == RAN_ONCE


def test_a_directory_that_was_left(home):
    home.write(beside=MODELS)
    assert home.run("-c", "import beside, os\nos.chdir('/')\n" + BESIDE) == RAN_ONCE


@pytest.mark.parametrize("place", ["script", "module"])
def test_a_directory_that_was_deleted(home, place):
    program = HERE if place == "script" else BESIDE
    home.write(beside=MODELS, gone__nothing="")
    # What the program needs itself comes first: CPython 3.13.0 cannot import `socket` with '' in a path whose cwd is gone.
    first = "import os, shutil, sys, beside, asyncio, trio, uvloop, gibbs; gibbs.open_hub\n"
    delete = first + "sys.path[:0] = ['', 'lib']\nshutil.rmtree(os.getcwd())\n"
    assert home.run("-c", delete + program, cwd="gone", PYTHONPATH=str(home.folder)) == RAN_ONCE


def test_a_module_on_the_pythonpath(home):
    home.write(lib__beside=MODELS, here__script=BESIDE)
    assert home.run("script.py", cwd="here", PYTHONPATH=str(home.folder / "lib")) == RAN_ONCE


def test_a_module_on_a_relative_pythonpath(home):
    home.write(lib__beside=MODELS, here__script=BESIDE)
    assert home.run("script.py", cwd="here", PYTHONPATH="../lib") == RAN_ONCE


def test_a_module_that_was_loaded_from_its_file(home):
    load = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("beside", "elsewhere/odd name.py")
module = sys.modules["beside"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
    home.write(elsewhere__x=MODELS, script=load + BESIDE)
    (home.folder / "elsewhere" / "x.py").rename(home.folder / "elsewhere" / "odd name.py")
    assert home.run("script.py") == RAN_ONCE


def test_a_package_without_an_init_in_two_places(home):
    home.write(one__pkg__beside=MODELS, two__pkg__other="from pkg.beside import Model")
    home.write(
        script="import sys\nsys.path[:0] = ['one', 'two']\nfrom pkg.other import Model\n"
        + BESIDE.replace("beside", "pkg.beside")
    )
    assert home.run("script.py") == RAN_ONCE


STANDARD = ["struct", "random", "select", "signal", "pickle", "types", "copyreg", "traceback", "fcntl", "mmap", "re"]


def test_files_in_the_current_directory_that_are_called_like_standard_modules_do_no_harm(home):
    """They are not on the program's path, so they must not be on the worker's."""
    home.write(there__script=HERE, **{f"here__{name}": "raise RuntimeError(__file__)" for name in STANDARD})
    assert home.run("../there/script.py", cwd="here") == RAN_ONCE


@pytest.mark.parametrize("name", ["random", "wave", "calendar", "uuid", "platform", "pickle", "graphlib"])
def test_a_module_beside_the_script_that_is_called_like_a_standard_one(home, name):
    """What does not break the program does not break the worker, which finds the same one: it imports less."""
    home.loop = "asyncio"  # Trio needs the true random
    home.write(beside=MODELS, **{name: "from beside import *\nclass Mine(Model): pass\n"})
    home.write(script=f"import {name}\nfrom beside import *\n{RAN}start(check, {name}.Mine)\n{DONE}")
    assert home.run("script.py") == RAN_ONCE


def test_a_gibbs_that_only_the_programs_own_path_leads_to(home):
    """A copy: the worker must run the same one as its hub, although there is another in the environment."""
    shutil.copytree(Path(gibbs.__file__).parent, home.folder / "vendor" / "gibbs")
    program = (
        "import sys\nsys.path.insert(0, 'vendor')\n"
        + MODELS
        + """
class Where(Model):
    def where(self): return gibbs.__file__, sys.modules["gibbs.worker"].__file__
async def main():
    async with gibbs.open_hub(Where, workers=1) as hub:
        for file in await hub.method("where").request():
            assert file.startswith(os.path.dirname(gibbs.__file__)) and "vendor" in file, file
    await check(Where)
start(main)
"""
    )
    home.write(script=program)
    home.run("script.py")
    # Without any site-packages but the ones that the program names.
    ours = [entry for entry in sys.path if entry.endswith("-packages")]
    home.write(script=f"import sys\nsys.path += {ours}\n" + program)
    home.run("-S", "script.py")


# --------------------------------------------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("threading.Lock()", "cannot pickle '_thread.lock' object"),
        ("threading.local()", "cannot pickle '_thread._local' object"),
        ("(i for i in ())", "cannot pickle 'generator' object"),
    ],
)
def test_a_script_whose_model_uses_a_global_that_cannot_travel_gets_the_picklers_own_error(home, what, complaint):
    home.write(
        script=f"""
import os, sys, threading, anyio, gibbs
started = []
sys.addaudithook(lambda event, args: started.append(args) if event == "subprocess.Popen" and args[0] == sys.executable else None)
thing = {what}
class Model:
    def __call__(self): return thing
async def main():
    async with gibbs.open_hub(Model, workers=1): pass
try:
    anyio.run(main, backend=os.environ["GIBBS_TEST_LOOP"].replace("uvloop", "asyncio"))
except Exception as error:
    print(type(error).__name__, error)
assert not started
"""
    )
    assert re.match(f"(TypeError|PicklingError) .*({complaint})", home.run("script.py"))


def test_a_module_that_the_path_of_then_did_not_lead_to_hurts_its_own_request_only(home):
    """The path is the one of the hub's opening: a worker cannot learn it later."""
    home.write(
        beside=MODELS,
        late__latecomer="class Late: pass",
        script="""
from beside import *
import sys
async def main():
    async with gibbs.open_hub(gibbs.function(type), workers=1) as hub:
        sys.path.append("late")
        from latecomer import Late
        try:
            await hub.request(Late())
        except gibbs.RemoteError as error:
            assert error.stage == "arguments" and error.type_name == "ModuleNotFoundError", error
        assert await hub.request(Point(1)) is Point
start(main)
""",
    )
    home.run("script.py")


# ------------------------------------------------------------------------------------------- a program that starts itself

OPENS_AT_IMPORT = """
from beside import *
class Mine(Model):
    pass
async def main():
    async with gibbs.open_hub(Mine, workers=2, name="mine") as hub:
        await hub.method("pid").request()
async def grouped():
    async with anyio.create_task_group() as tg:
        tg.start_soon(main)
"""
IMPORTS_IT = """
import gibbs
def inside(error):
    while error is not None and not isinstance(error, gibbs.WorkerStartFailed):
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__context__
    return error
try:
    import opens
except BaseException as error:
    found = inside(error)
    assert type(found.__cause__) is gibbs.RecursiveStart
    assert "opens.py" in found.__cause__.__notes__[0], found.__cause__.__notes__
    print(found.reason, "|", found)
"""
ADVICE = """recursive | worker N of the hub 'mine' did not become ready: the hub 'mine' is opened by a module that \
a worker is importing. Put the call that opens it under `if __name__ == "__main__":`, or move the model to a module of its own
"""


@on_each_loop
@pytest.mark.parametrize(
    "how",
    ["start(main)", "start(grouped)", "try:\n    start(main)\nexcept Exception:\n    raise SystemExit('it failed')"],
    ids=["plainly", "in a task group", "and exits when that fails"],
)
def test_a_module_that_opens_a_hub_when_it_is_imported_is_told_what_to_do(home, how):
    home.write(beside=MODELS, opens=f"{OPENS_AT_IMPORT}{how}\n", script=IMPORTS_IT)
    assert re.sub(r"worker \d", "worker N", home.run("script.py")) == ADVICE


@on_each_loop
@pytest.mark.parametrize("moment", ["when it is imported", "when the model is built"])
def test_a_script_whose_model_imports_it_back_is_told_what_to_do(home, moment):
    model = "from beside import *\nclass Mine(Model):\n    pass\nimport script\n"
    if moment == "when the model is built":
        model = model.replace("pass\nimport", "def __init__(self): import")
    script = """
from model import *
async def main():
    async with gibbs.open_hub(Mine, workers=1, name="mine"): pass
try:
    start(main)
except gibbs.WorkerStartFailed as error:
    print(error.reason, "|", error)
    raise SystemExit(0)
"""
    home.write(beside=MODELS, model=model, script=script)
    assert re.sub(r"worker \d", "worker N", home.run("script.py")) == ADVICE


def test_a_guard_helps_a_script_whose_model_imports_it_back(home):
    home.write(
        beside=MODELS,
        model="from beside import *\nclass Mine(Model):\n    def __init__(self): import script; self.start = script.START\n",
        script="from model import *\nSTART = 4\nif __name__ == '__main__':\n    start(check, Mine, 4)\n",
    )
    home.run("script.py")


def test_a_call_that_imports_a_module_which_opens_a_hub_raises_what_to_do(home):
    home.write(
        beside=MODELS,
        opens=OPENS_AT_IMPORT + "start(main)\n",
        script=MODELS
        + """
class Late(Model):
    def late(self): import opens
async def main():
    async with gibbs.open_hub(Late, workers=1) as hub:
        pid = await hub.method("pid").request()
        for _ in range(2):
            try:
                await hub.method("late").request()
            except gibbs.RecursiveStart as error:
                assert error.name == "mine" and "__main__" in str(error)
            else:
                raise AssertionError("no error")
        assert await hub.method("pid").request() == pid
start(main)
""",
    )
    home.run("script.py")


# ------------------------------------------------------------------------------------------------- under --import-mode=importlib


class Here(models_beside.Model):
    def __call__(self, point, colour):
        assert isinstance(point, Spot)
        assert type(point) is not models_beside.Point
        *_, inner = super().__call__(models_beside.Point(point.x), models_beside.Colour.BLUE)
        return point, colour, type(colour) is Taste, inner

    def fail(self, point, colour):
        raise Bad(point)


class Spot(models_beside.Point):
    pass


class Taste(enum.Enum):
    SWEET = enum.auto()


class Bad(ValueError):
    pass


async def test_classes_of_a_test_helper_beside_this_file():
    await models_beside.check(models_beside.Model)


async def test_classes_of_this_very_file():
    async with gibbs.open_hub(Here, workers=1) as hub:
        for turn in (1, 2):
            spot, taste, same_there, inner = await hub.method("__call__").request(Spot(turn), Taste.SWEET)
            assert type(spot) is Spot
            assert taste is Taste.SWEET
            assert same_there
            assert type(inner) is models_beside.Outer.Inner
            with pytest.raises(Bad) as caught:
                await hub.method("fail").request(spot, taste)
            assert type(caught.value.args[0]) is Spot


async def test_a_class_in_a_function_of_this_file():
    class Local(Here):
        pass

    async with gibbs.open_hub(functools.partial(Local, start=5), workers=1) as hub:
        spot, *_ = await hub.method("__call__").request(Spot(1), Taste.SWEET)
        assert type(spot) is Spot


def test_a_project_whose_tests_are_run_by_the_bare_command(home):
    """No path leads to its test modules, which lie in a folder that is no package."""
    test = """
from tests.unit import models_beside
from tests.unit.models_beside import *
class Mine(Model): pass
def test(): start(check, Mine)
def test_local():
    class Local(Mine): pass
    start(check, Local, 0, 1)
"""
    home.write(tests__unit__models_beside=MODELS, tests__unit__deep__test_it=test)
    printed = home.run(
        "-P",
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "tests",
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert "2 passed" in printed
