"""Every example in a docstring runs, every public name is explained, and the README's code works."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import moda

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(moda.__path__, "moda.")
    if not module.name.endswith("__main__")
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FINDER = doctest.DocTestFinder(exclude_empty=True)


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in FINDER.find(module, module.__name__) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_a_modules_docstrings_run_as_written(name):
    module = importlib.import_module(name)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in examples(module):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_there_are_examples_to_run():
    found = sum(len(examples(importlib.import_module(name))) for name in MODULES)
    assert found >= 20, f"only {found} docstrings with examples were found"


@pytest.mark.parametrize("name", [name for name in moda.__all__ if not name.startswith("__")])
def test_a_public_name_and_its_public_methods_say_what_they_do(name):
    thing: Any = getattr(moda, name)
    assert inspect.getdoc(thing), name
    for method, value in vars(thing).items():
        if not method.startswith("_") and (
            inspect.isfunction(value) or isinstance(value, property)
        ):
            assert inspect.getdoc(value), f"{name}.{method}"


@pytest.mark.parametrize("name", MODULES)
def test_a_file_opens_with_what_it_is_for(name):
    module = importlib.import_module(name)
    if module.__file__ and module.__file__.endswith(".py"):
        assert module.__doc__, f"{name} has no docstring"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_python_in_a_page_is_python(page):
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            ast.parse(textwrap.dedent(code), f"{page.name} block")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


async def test_the_readmes_room_is_a_room(serve, connect):
    """The first Python of the README, served and joined by a client."""
    readme = (ROOT / "README.md").read_text()
    (code,) = [code for language, code in BLOCK.findall(readme) if language == "python"][:1]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    running = await serve(names["gateway"])
    client = await connect(running)
    refused = await client.ask("1", "1", "room:lobby", "phx_join", {})
    assert refused == {"status": "error", "response": {"reason": "a name, please"}}
    await client.join("room:lobby", {"name": "Ann"}, ref="2")
    await client.send("2", "3", "room:lobby", "say", {"text": "hi"})
    await client.expect(None, None, "room:lobby", "said", {"by": "Ann", "text": "hi"})
    await client.expect("2", "3", "room:lobby", "phx_reply", {"status": "ok", "response": {}})
    running.gateway.broadcast("room:lobby", "said", {"by": "the house", "text": "welcome"})
    await client.expect(None, None, "room:lobby", "said", {"by": "the house", "text": "welcome"})
