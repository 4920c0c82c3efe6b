"""The build backend: maturin, with two steps before it.

One wheel holds two extension modules made by different tools (`moda._core` by maturin,
`moda._session` by Cython) and the built console. maturin packs
whatever lies in `python/moda` when told to include it, so this wrapper (PEP 517 and PEP 660)
makes the other two parts first and then hands over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import maturin

# maturin calls itself by name; without build isolation its script lies beside this interpreter.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "moda"
CONSOLE = PACKAGE / "console" / "index.html"

get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
build_sdist = maturin.build_sdist


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    return []


get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    build_session()
    build_console()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    build_session()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: dict[str, Any] | None = None
) -> str:
    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_session() -> Path:
    """Compiles cython/_session.pyx into python/moda; skips when the result is newer than its sources."""
    sources = [ROOT / "cython" / "_session.pyx", ROOT / "cython" / "_session.pxd", Path(__file__)]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    target = PACKAGE / f"_session{suffix}"
    if target.exists() and all(target.stat().st_mtime >= s.stat().st_mtime for s in sources):
        return target

    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    # Cython reads the module's full name from where the .pxd lies: give it a package to lie in.
    staged = build / "cython" / "moda"
    staged.mkdir(parents=True, exist_ok=True)
    for source in sources[:2]:
        shutil.copy2(source, staged / source.name)
    (staged / "__init__.py").touch()
    extension = Extension(
        "moda._session", [str(staged / "_session.pyx")], extra_compile_args=["-O3", "-g1"]
    )
    modules = cythonize(
        [extension], include_path=[str(staged.parent)], build_dir=str(build / "c"), quiet=True
    )
    distribution = Distribution({"name": "moda-session", "ext_modules": modules})
    command = build_ext(distribution)
    command.build_lib = str(build / "lib")
    command.build_temp = str(build / "temp")
    command.ensure_finalized()
    command.run()
    made = build / "lib" / "moda" / f"_session{suffix}"
    shutil.copy2(made, target)
    os.utime(target)
    return target


def build_console() -> None:
    """Builds web/ into python/moda/console unless it is there (a source archive brings it along)."""
    if CONSOLE.exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            "the wheel needs the console, which is not built, and npm was not found: install Node 20 or "
            "newer and run `npm ci && npm run build` in web/"
        )
    for command in ([npm, "ci", "--no-audit", "--no-fund"], [npm, "run", "build"]):
        subprocess.run(command, cwd=ROOT / "web", check=True)  # noqa: S603 - our own build


if __name__ == "__main__":
    print(build_session(), file=sys.stderr)
