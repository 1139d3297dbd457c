"""The pytest plugin: each case of the suite as a test, for implementers who work in Python.

Rules of this file:

* It changes nothing for a run that does not ask for it: until ``--wmx-target`` is given or a test
  asks for ``wmx_case``, nothing of the suite is imported.
* Everything is called ``wmx``-something, so that it clashes with no other plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from muxwire_conformance.pytest_cases import CaseOutcome


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("wmx", "conformance with WMX/1")
    group.addoption(
        "--wmx-target",
        metavar="HOST:PORT",
        help="judge the worker there: one test for each case; self is the bundled worker",
    )
    group.addoption("--wmx-baseline", metavar="FILE", help="TOML file of known failures: xfail")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for each case, before -k and -m choose among all tests."""
    target = config.getoption("wmx_target")
    if target is None or any("wmx_case" in getattr(item, "fixturenames", ()) for item in items):
        return
    from muxwire_conformance.pytest_cases import case_items

    cases = list(case_items(session, target))
    items += cases
    # What collectors do: without it pytest counts none of them.
    found = pytest.CollectReport("wmx", "passed", None, list[pytest.Item | pytest.Collector](cases))
    session.ihook.pytest_collectreport(report=found)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``wmx_case`` once for each case."""
    if "wmx_case" in metafunc.fixturenames:
        from muxwire_conformance.pytest_cases import case_parameters

        metafunc.parametrize("wmx_case", case_parameters(metafunc.config), indirect=True)


@pytest.fixture(scope="session")
def wmx_target(request: pytest.FixtureRequest) -> str:
    """Return the address of the worker; override this fixture to start your own."""
    target = request.config.getoption("wmx_target")
    if target is None:
        pytest.fail("define a session fixture wmx_target that yields HOST:PORT, or --wmx-target")
    return str(target)


@pytest.fixture
def wmx_case(request: pytest.FixtureRequest, wmx_target: str) -> CaseOutcome:
    """Return what one case came to; call its ``check`` in the test."""
    from muxwire_conformance.pytest_cases import outcome

    return outcome(request.node, wmx_target, request.param)
