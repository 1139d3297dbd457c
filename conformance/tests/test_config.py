"""Options from a file, the frozen set, exclusions, and what failed last time."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from muxwire_conformance import config
from muxwire_conformance.cli import build_parser, main
from muxwire_conformance.config import ConfigError
from muxwire_conformance.frozen import FrozenSet, load_frozen, present, versions
from muxwire_conformance.lastfailed import MOST_TARGETS, LastFailed, cache_path, last_failed
from muxwire_conformance.rules import rules
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Verdict
from report_samples import result
from test_conformance_cli import judge, model_worker


def configured(tmp_path: Path, text: str, *argv: str) -> Any:
    """Return the arguments of ``check`` with a configuration file."""
    path = tmp_path / "conformance.toml"
    path.write_text(text)
    parser = build_parser()
    first = parser.parse_args(["check", *argv])
    config.apply(first.parser, path, config.read(path))
    return parser.parse_args(["check", *argv])


# -- the file ----------------------------------------------------------------------------------


def test_the_file_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    text = """
        target = ["a:1", "b:2"]
        timeout = 5
        strict = true
        exclude = "DOS-*"
        level = "must"
        json = "out/run.json"
        verbose = 2
    """
    found = configured(tmp_path, text)
    assert found.targets == ["a:1", "b:2"]
    assert (found.timeout, found.strict, found.exclude) == (5.0, True, ["DOS-*"])
    assert (found.level, found.verbose) == ("must", 2)
    assert found.json == tmp_path / "out/run.json"
    found = configured(tmp_path, text, "--target", "c:3", "--target", "d:4", "--timeout", "1")
    assert found.targets == ["c:3", "d:4"]
    assert found.timeout == 1.0
    assert found.exclude == ["DOS-*"]


def test_the_environment_stands_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXWIRE_TARGET", "env:1")
    assert configured(tmp_path, "target = 'file:1'").targets is None
    assert configured(tmp_path, "target = 'file:1'", "--target", "c:1").targets == ["c:1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timout = 3", "'timout' is no option, did you mean 'timeout'"),
        ("timeout = 'soon'", "timeout: 'soon' is not a number of seconds"),
        ("timeout = true", "timeout: a text or a number is wanted, not True"),
        ("strict = 'yes'", "strict: true or false is wanted, not 'yes'"),
        ("level = 'some'", "level: 'some' is none of must, should, may"),
        ("area = [{a = 1}]", "area: a text or a number is wanted"),
        ("write-baseline = 'x'", "'write-baseline' is no option"),
        ("config = 'x'", "'config' is no option"),
        ("= 3", "cannot be read"),
    ],
)
def test_a_malformed_file_exits_2(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "conformance.toml"
    path.write_text(text)
    assert main(["check", "--target", "h:1", "--config", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.read(tmp_path / "none.toml")


def test_the_nearest_file_upward_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "conformance.toml").write_text("timeout = 1")
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert config.find(inner) == (tmp_path / "conformance.toml", {"timeout": 1})
    pyproject = tmp_path / "a" / "pyproject.toml"
    pyproject.write_text("[tool.muxwire.conformance]\ntimeout = 2\n")
    assert config.find(inner) == (pyproject, {"timeout": 2})
    assert config.read(pyproject) == {"timeout": 2}


def test_the_command_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conformance.toml").write_text("exclude = ['HSK-003/offers-1-to-2*']")
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--list", "HSK-003"]) == 0
    few = capsys.readouterr().out.splitlines()
    assert main(["check", "--list", "HSK-003", "--no-config"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > len(few)


def test_exclusions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "HSK-003", "--exclude", "HSK-003/offers-1-to-1"]) == 0
    assert "HSK-003/offers-1-to-1 " not in capsys.readouterr().out
    assert main(["list", "HSK", "--exclude", "hsk"]) == 5
    assert main(["list", "--exclude", "HSK-003/ofers-1-to-1"]) == 2
    assert "did you mean HSK-003/offers-1-to-1" in capsys.readouterr().err


# -- the frozen set ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions())
def test_the_frozen_set_and_the_registry_agree_or_the_difference_is_listed(version: str) -> None:
    registry = {id: one.level for id, one in rules().items()}
    assert load_frozen(version).differences(registry) == []


def test_the_present_registry_can_be_frozen() -> None:
    document = tomllib.loads(present())
    assert document["requirements"] == {id: one.level for id, one in rules().items()}
    assert document["spec"] in versions()


def test_differences_are_noticed() -> None:
    frozen = FrozenSet(
        version="1",
        levels={"A": "MUST", "B": "MUST", "C": "MUST", "D": "MUST"},
        changed={"C": "softened", "A": "not so"},
    )
    registry = {"A": "MUST", "B": "SHOULD", "C": "SHOULD", "E": "MAY"}
    assert frozen.differences(registry) == [
        "B: frozen MUST, now SHOULD",
        "D: frozen MUST, now absent",
        "E: frozen absent, now MAY",
        "A: is listed as changed, but does not differ",
    ]


def test_a_version_selects_its_rules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "1" in versions()
    assert main(["list", "--spec", "1", "HSK-003"]) == 0
    all_cases = capsys.readouterr().out
    monkeypatch.setattr(
        "muxwire_conformance.commands.options.load_frozen",
        lambda version: FrozenSet(version=version, levels={"HSK-004": "MUST"}, changed={}),
    )
    assert main(["list", "--spec", "1", "HSK-003"]) == 5
    assert main(["list", "HSK-003"]) == 0
    assert capsys.readouterr().out.endswith(all_cases)


# -- what failed last time ---------------------------------------------------------------------


def remember(path: Path, target: str, *verdicts: tuple[str, Verdict]) -> None:
    report = LastFailed(path)
    report.begin({"target": target})
    for id, verdict in verdicts:
        report.result(result(verdict, id))
    report.finish(Summary(selected=1))
    report.close()


def test_the_cache_remembers_each_target(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.json"
    assert last_failed(["a:1"], None, path) is None
    remember(path, "a:1", ("FRM-001/x", Verdict.FAIL), ("FRM-002/x", Verdict.PASS))
    remember(path, "b:1", ("FRM-003/x", Verdict.ERROR))
    assert last_failed(["a:1"], None, path) == {"FRM-001/x"}
    assert last_failed(["a:1", "b:1"], None, path) == {"FRM-001/x", "FRM-003/x"}
    remember(path, "a:1", ("FRM-004/x", Verdict.FLAKY))
    assert last_failed(["a:1"], None, path) == {"FRM-001/x", "FRM-004/x"}
    remember(path, "a:1", ("FRM-001/x", Verdict.PASS), ("FRM-004/x", Verdict.XFAIL))
    assert last_failed(["a:1"], None, path) == set()


def test_the_cache_has_a_bound_and_survives_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    path.write_text("[")
    for number in range(MOST_TARGETS + 5):
        remember(path, f"t:{number}", ("FRM-001/x", Verdict.FAIL))
    assert len(json.loads(path.read_text())) == MOST_TARGETS
    assert last_failed(["t:0"], None, path) is None
    remember(tmp_path / "cache.json" / "impossible", "a:1", ("FRM-001/x", Verdict.FAIL))


def test_where_the_cache_is() -> None:
    assert cache_path({"XDG_CACHE_HOME": "/c"}).parts[:2] == ("/", "c")
    assert cache_path({"HOME": "/h"}).parts[:3] == ("/", "h", ".cache")


def test_only_what_failed_runs_again(tmp_path: Path) -> None:
    report = tmp_path / "run.json"
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with model_worker("--flaw", "hsk-accepts-second-settings") as address:
        command = ("check", "HSK-003", "HSK-006/second-settings", "--target", address)
        unknown = judge(*command, "--lf", "--list", env=env)
        assert "no earlier run of this target is known" in unknown.stderr
        assert judge(*command, env=env).returncode == 1
        again = judge(*command, "--lf", env=env)
        assert again.returncode == 1
        assert "selected 1 / ran 1 / passed 0 / failed 1" in again.stdout
        # The JSON report knows better than the cache.
        assert judge(*command[:2], *command[3:], "--json", str(report), env=env).returncode == 0
        assert judge(*command, "--lf", "--json", str(report), env=env).returncode == 5
