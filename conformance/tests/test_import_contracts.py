"""The import contracts of pyproject.toml: each can fail, and the two lists that they cannot say.

The failures are tried on a small tree of empty modules with the real contracts, one forbidden
import at a time. That the real tree keeps the contracts is for `tox -e imports` to say.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
LINTER = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract for contract in LINTER["contracts"]}
LAYERS = [layer.strip("()") for row in CONTRACTS["layers"]["layers"] for layer in row.split(" | ")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The four packages and all layers of the reference, empty, under the real contracts."""
    for package in LINTER["root_packages"]:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for layer in LAYERS:
        (tmp_path / "muxwire" / f"{layer}.py").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.read_text())
    return tmp_path


def broken_contracts(tree: Path) -> set[str]:
    """Run import-linter in a tree and return the ids of the contracts that it finds broken."""
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    ran = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said_broken = (f"{contract['name']} BROKEN" in ran.stdout for contract in CONTRACTS.values())
    broken = {name for name, is_broken in zip(CONTRACTS, said_broken, strict=True) if is_broken}
    assert f"{len(CONTRACTS) - len(broken)} kept, {len(broken)} broken" in ran.stdout, ran.stdout
    assert ran.returncode == bool(broken)
    return broken


def test_an_innocent_tree_keeps_every_contract(tree: Path) -> None:
    (tree / "muxwire_conformance" / "wire.py").write_text("import asyncio, muxwire_spec, construct")
    (tree / "muxwire_fuzz" / "targets.py").write_text("import atheris, muxwire, muxwire_spec")
    (tree / "muxwire" / "tcp.py").write_text("import asyncio, socket, time, muxwire.core")
    assert broken_contracts(tree) == set()


@pytest.mark.parametrize(
    ("contract", "module", "line"),
    [
        ("judge", "muxwire_conformance/wire.py", "import muxwire"),
        ("judge", "muxwire_conformance/wire.py", "from muxwire._generated import codec"),
        ("judge", "muxwire_conformance/wire.py", "def late():\n    import muxwire.core"),
        ("reference", "muxwire/cli.py", "import muxwire_spec"),
        ("reference", "muxwire/cli.py", "from construct import Int8ub"),
        ("reference", "muxwire/cli.py", "import muxwire_conformance"),
        ("spec", "muxwire_spec/emit.py", "import muxwire"),
        ("fuzz", "muxwire/cli.py", "import muxwire_fuzz"),
        ("sans-io", "muxwire/core.py", "import time"),
        ("sans-io", "muxwire/core.py", "from os.path import join"),
        ("sans-io", "muxwire/_generated.py", "import asyncio"),
        ("sans-io", "muxwire/errors.py", "import logging"),
        ("layers", "muxwire/errors.py", "import muxwire._generated"),
        ("layers", "muxwire/core.py", "import muxwire.tcp"),
        ("layers", "muxwire/stray.py", ""),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    tree: Path, contract: str, module: str, line: str
) -> None:
    (tree / module).write_text(line)
    assert contract in broken_contracts(tree)


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("muxwire_spec", {"construct"}),
        (
            "muxwire",
            {
                *("aiohttp", "click", "granian", "h2", "prometheus_client"),
                *("sse_starlette", "starlette", "uvloop", "yarl"),
            },
        ),
        ("muxwire_conformance", {"construct", "hpack", "muxwire_spec", "pytest"}),
        (
            "muxwire_fuzz",
            {"atheris", "click", "coverage", "muxwire", "muxwire_conformance", "muxwire_spec"},
        ),
    ],
)
def test_a_package_imports_only_what_is_listed(package: str, allowed: set[str]) -> None:
    graph = grimp.build_graph(package, include_external_packages=True, cache_dir=None)
    outside = {module.partition(".")[0] for module in graph.modules} - {package}
    assert outside - sys.stdlib_module_names <= allowed


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("aiohttp", {"muxwire.callhome", "muxwire.http"}),
        ("yarl", {"muxwire.callhome", "muxwire.http"}),
        ("granian", {"muxwire.http"}),
        ("h2", {"muxwire.http"}),
        ("sse_starlette", {"muxwire.http"}),
        ("starlette", {"muxwire.http"}),
    ],
)
def test_only_the_paths_over_http_import_libraries_of_http(name: str, packages: set[str]) -> None:
    graph = grimp.build_graph("muxwire", include_external_packages=True, cache_dir=None)
    if name not in graph.modules:
        return
    users = graph.find_modules_that_directly_import(name)
    assert {".".join(user.split(".")[:2]) for user in users} <= packages


@pytest.mark.parametrize(
    "module", ["overhttp", "http.fields", "http.negotiation", "http.response", "http.writers"]
)
def test_what_is_plain_beside_the_core_has_no_clock_and_no_loop(module: str) -> None:
    graph = grimp.build_graph("muxwire", include_external_packages=True, cache_dir=None)
    forbidden = set(CONTRACTS["sans-io"]["forbidden_modules"])
    assert not graph.find_modules_directly_imported_by(f"muxwire.{module}") & forbidden


def test_only_the_pytest_plugin_imports_pytest() -> None:
    graph = grimp.build_graph("muxwire_conformance", include_external_packages=True, cache_dir=None)
    assert graph.find_modules_that_directly_import("pytest") == {
        "muxwire_conformance.pytest_plugin",
        "muxwire_conformance.pytest_cases",
    }
    users = graph.find_modules_that_directly_import("muxwire_conformance.pytest_cases")
    assert users == {"muxwire_conformance.pytest_plugin"}
