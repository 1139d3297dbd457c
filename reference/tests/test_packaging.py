"""What users get: the contents of the wheel, and a client that needs no construct."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
SOURCES = {
    "muxwire_spec": ROOT / "spec",
    "muxwire": ROOT / "reference",
    "muxwire_conformance": ROOT / "conformance",
    "muxwire_fuzz": ROOT / "fuzz",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"])
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_four_packages_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(source).as_posix()
        for package, source in SOURCES.items()
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == sources
    assert {f"{package}/py.typed" for package in SOURCES} <= packed


def test_the_bare_install_depends_on_click_alone(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line.partition(">")[0] for line in needed] == ["click"]
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def test_the_client_imports_without_the_spec_and_construct() -> None:
    # None in sys.modules makes an import fail, as if the package were not installed.
    program = """
import sys
for absent in ("construct", "muxwire_spec", "muxwire_conformance", "uvloop"):
    sys.modules[absent] = None
import muxwire
import muxwire.cli
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
