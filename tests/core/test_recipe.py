"""A factory on its way to a worker: written in one process, followed in another."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType

import pytest

import gibbs
from gibbs._wire import recipe
from gibbs._wire.recipe import Recipe, write_recipe

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gibbs.__file__).parents[1])}

CHILD = """if True:
    import sys
    from gibbs._wire.recipe import Recipe
    recipe = Recipe(sys.stdin.buffer.read())
    before = set(sys.modules)
    recipe.install()
    assert set(sys.modules) == before
    factory, args, _ = recipe.load()
    print(factory(*args)(), end="")
"""

PROGRAM = f"""
import subprocess, sys
from gibbs._wire.recipe import write_recipe

def answer(factory, *args, cwd="/"):
    child = [sys.executable, "-c", {CHILD!r}]
    return subprocess.run(child, input=write_recipe(factory, args), stdout=-1, check=True, cwd=cwd).stdout.decode()
"""


class Model:
    def __init__(self, text="ready"):
        self.text = text

    def __call__(self):
        return self.text


def follow(body: bytes) -> str:
    child = [sys.executable, "-c", CHILD]
    done = subprocess.run(child, env=ENVIRONMENT, input=body, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def run_program(script: Path, text: str, *, cwd: Path | None = None, command: tuple[str, ...] = ()) -> None:
    write(script, PROGRAM + textwrap.dedent(text))
    command = command or (str(script),)
    run = [sys.executable, *command]
    done = subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, cwd=cwd)
    assert done.returncode == 0, done.stderr


MODULE = """
class Model:
    def __init__(self, text="built"): self.text = text
    def __call__(self): return f"{self.text} in {__name__}"
"""


@pytest.fixture
def load_under(monkeypatch):
    """Load a file under a name that leads to it only here, as pytest's importlib mode does."""
    from importlib.util import module_from_spec, spec_from_file_location

    def load(name: str, file: Path):
        spec = spec_from_file_location(name, file)
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_class_of_this_test_module_is_built_in_a_worker():
    assert follow(write_recipe(Model, ("hello",))) == "hello"


def test_a_local_class_is_built_in_a_worker():
    class Local(Model):
        pass

    assert follow(write_recipe(Local, ("local",))) == "local"


def test_what_cannot_be_pickled_raises_the_picklers_own_error():
    with pytest.raises(TypeError, match="lock"):
        write_recipe(Model, (threading.Lock(),))


def test_the_path_of_the_parent_is_a_copy(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, "/somewhere"])
    body = write_recipe(Model, ())
    sys.path.append("/later")
    assert Recipe(body)._path[-1] == "/somewhere"


def test_relative_entries_of_the_path_mean_the_directory_of_now(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "sub", *sys.path, Path("ignored")])
    assert Recipe(write_recipe(Model, ()))._path[:2] == [str(tmp_path), str(tmp_path / "sub")]
    assert all(isinstance(entry, str) for entry in Recipe(write_recipe(Model, ()))._path)


def test_a_directory_of_now_that_was_deleted_leads_nowhere(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["", "sub", *sys.path])
    assert Recipe(write_recipe(Model, ()))._path[:2] == ["", "sub"]


def test_a_module_that_only_the_parents_path_leads_to_is_found(monkeypatch, tmp_path):
    write(tmp_path / "gibbs_beside.py", MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "gibbs_beside", None)  # so that it is gone after the test
    del sys.modules["gibbs_beside"]
    module = __import__("gibbs_beside")
    body = write_recipe(module.Model, ())
    assert "gibbs_beside" not in Recipe(body)._missing
    assert follow(body) == "built in gibbs_beside"


def test_a_module_that_no_path_leads_to_is_loaded_under_its_name(load_under, tmp_path):
    write(tmp_path / "some-file.py", MODULE)
    module = load_under("gibbs_nowhere", tmp_path / "some-file.py")
    assert follow(write_recipe(module.Model, ())) == "built in gibbs_nowhere"


def test_a_module_in_packages_that_exist_nowhere_is_loaded(load_under, tmp_path, monkeypatch):
    write(tmp_path / "one.py", MODULE)
    for name in ("gibbs_no", "gibbs_no.such"):  # as pytest makes them
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = load_under("gibbs_no.such.package", tmp_path / "one.py")
    assert follow(write_recipe(module.Model, ())) == "built in gibbs_no.such.package"


def test_a_file_without_suffix_is_loaded(load_under, tmp_path, monkeypatch):
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    write(tmp_path / "tool", MODULE)
    loader = SourceFileLoader("gibbs_tool", str(tmp_path / "tool"))
    module = module_from_spec(spec_from_loader("gibbs_tool", loader))
    monkeypatch.setitem(sys.modules, "gibbs_tool", module)
    loader.exec_module(module)
    assert follow(write_recipe(module.Model, ())) == "built in gibbs_tool"


def test_a_package_with_a_submodule_that_nobody_imported_yet_is_loaded(load_under, tmp_path):
    write(
        tmp_path / "pkg" / "__init__.py",
        """
        class Model:
            def __call__(self):
                from . import helper
                return helper.text
        """,
    )
    write(tmp_path / "pkg" / "helper.py", "text = __name__")
    module = load_under("gibbs_pkg", tmp_path / "pkg" / "__init__.py")
    assert follow(write_recipe(module.Model, ())) == "gibbs_pkg.helper"


def test_a_module_with_a_namesake_in_the_standard_library_is_the_parents_one(load_under, tmp_path):
    write(tmp_path / "colorsys.py", MODULE)
    module = load_under("colorsys", tmp_path / "colorsys.py")
    assert follow(write_recipe(module.Model, ())) == "built in colorsys"


def test_a_module_that_is_found_is_not_in_the_table(monkeypatch):
    missing, shadowed = recipe._homeless_modules(sys.path)
    assert not {"gibbs", "gibbs._wire", "pytest", "os", "__main__"} & {*missing, *shadowed}


def test_odd_things_among_the_modules_do_no_harm(monkeypatch):
    class Lazy:
        def __getattribute__(self, name):
            raise RuntimeError("do not wake me")

    class Slotted:
        __slots__ = ()

    for name, odd in {"gibbs_lazy": Lazy(), "gibbs_none": None, "gibbs_int": 3, "gibbs_slotted": Slotted()}.items():
        monkeypatch.setitem(sys.modules, name, odd)
    missing, shadowed = recipe._homeless_modules(sys.path)
    assert not any(name.startswith("gibbs_") for name in [*missing, *shadowed])


def test_a_path_hook_that_raises_does_no_harm(monkeypatch, load_under, tmp_path):
    write(tmp_path / "hooked.py", MODULE)

    def hook(entry):
        if entry == "odd://":
            raise RuntimeError("odd")
        raise ImportError

    monkeypatch.setattr(sys, "path_hooks", [hook, *sys.path_hooks])
    monkeypatch.setattr(sys, "path", ["odd://", *sys.path])
    load_under("gibbs_hooked", tmp_path / "hooked.py")
    assert "gibbs_hooked" in recipe._homeless_modules(sys.path)[0]


def test_an_error_of_the_users_module_comes_from_load_alone(load_under, tmp_path):
    write(tmp_path / "fussy.py", MODULE)
    module = load_under("gibbs_fussy", tmp_path / "fussy.py")
    body = write_recipe(module.Model, ())
    write(tmp_path / "fussy.py", "raise ValueError('at import')")
    child = CHILD.replace(
        "recipe.load()", "None, None, None\n    try: recipe.load()\n    except ValueError: sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", child], env=ENVIRONMENT, input=body, capture_output=True)
    assert done.returncode == 7, done.stderr.decode()


def test_a_script_is_not_run_again_in_the_worker(tmp_path):
    run_program(
        tmp_path / "script.py",
        """
        import os
        assert "GIBBS_RAN" not in os.environ
        os.environ["GIBBS_RAN"] = "1"
        class Model:
            def __call__(self): return __name__
        assert answer(Model) == "__main__"
        """,
    )


def test_a_script_uses_the_module_beside_it(tmp_path):
    write(tmp_path / "beside.py", MODULE)
    run_program(
        tmp_path / "script.py",
        """
        import beside
        class Model(beside.Model): pass
        assert answer(Model, "a") == "a in beside"
        """,
    )


def test_a_program_run_by_its_module_name_works_from_another_directory(tmp_path):
    write(tmp_path / "pkg" / "__init__.py")
    write(tmp_path / "pkg" / "model.py", MODULE)
    run_program(
        tmp_path / "pkg" / "__main__.py",
        """
        from .model import Model
        assert answer(Model, "a") == "a in pkg.model"
        """,
        cwd=tmp_path,
        command=("-m", "pkg"),
    )


def test_the_bare_pytest_command_in_importlib_mode_works(tmp_path):
    write(tmp_path / "pytest.ini", "[pytest]\naddopts = --import-mode=importlib")
    write(tmp_path / "tests" / "helpers.py", MODULE)
    text = (
        "\nfrom . import helpers\nclass Model(helpers.Model): pass\ndef test(): assert answer(Model, 'a') == 'a in {}'"
    )
    write(tmp_path / "tests" / "test_flat.py", PROGRAM + text.format("tests.helpers").replace("from . ", "from tests "))
    write(tmp_path / "unit" / "__init__.py")
    write(tmp_path / "unit" / "helpers.py", MODULE)
    write(tmp_path / "unit" / "deep" / "test_deep.py", PROGRAM + MODULE + "\ndef test(): assert answer(Model, 'a')")
    write(tmp_path / "unit" / "test_unit.py", PROGRAM + text.format("unit.helpers"))
    program = "import sys, pytest; sys.path.remove(''); sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '.']))"
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
