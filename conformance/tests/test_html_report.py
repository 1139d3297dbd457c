"""The HTML report in a real browser: filters, keys, themes, hostile text, and no network."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from muxwire_conformance.report import html as module
from muxwire_conformance.report.collect import Run
from muxwire_conformance.report.html import HtmlReport, embed, page_data
from muxwire_conformance.verdict import Result, Verdict
from report_samples import ALL, COUNTS, HEAD, result, transcript
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

HOSTILE = "</script><script>document.title='owned'</script><b>&amp; \x00\x1b[31m \u202e \ud800"
PASSED = Result(
    id="HSK-003/passes",
    title="It passes.",
    requirement="HSK-003",
    level="MUST",
    verdict=Verdict.PASS,
    seconds=0.1,
)
RESULTS = [
    *ALL,
    replace(PASSED, id="FAI-001/passes", requirement="FAI-001"),
    result(Verdict.FAIL, "FRM-003/hostile", actual=HOSTILE, title=HOSTILE, reason=HOSTILE),
]
RED = ("FAIL", "FLAKY", "XPASS", "INCONCLUSIVE", "ERROR")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


def browser_programs() -> tuple[str, str]:
    """Return where Chromium and its driver are; without them CI fails and others skip."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] is None or found[1] is None:
        text = "chromium and chromedriver are not installed: the HTML report is NOT TESTED"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return found[0], found[1]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser, driver = browser_programs()
    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()


class Page:
    """A report opened in the browser."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self.driver = driver
        self.path = path

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get(self.path.as_uri() + fragment)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def choose(self, selector: str, value: str) -> None:
        Select(self.find(selector)).select_by_value(value)

    def shown(self) -> list[str]:
        """Return the ids of the cases that the filters let through, in order."""
        return [str(row.get_attribute("id")) for row in self.all(".case") if row.is_displayed()]

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def focused(self) -> str:
        """Return the id of the case in which the focus is, or of the focused element."""
        script = (
            "const a = document.activeElement; return a.closest('.case')?.id || a.id || a.tagName"
        )
        return str(self.driver.execute_script(script))

    def style(self, selector: str, name: str) -> str:
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        return str(self.driver.execute_script(script, selector, name))

    def prefer(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def complaints(self) -> list[Any]:
        return list(self.driver.get_log("browser"))

    def requests(self) -> list[str]:
        events = [
            json.loads(line["message"])["message"] for line in self.driver.get_log("performance")
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


def write(path: Path, *heads: dict[str, Any], results: list[Result] = RESULTS) -> Path:
    report = HtmlReport(path)
    for head in heads:
        report.begin(head)
        for one in results:
            report.result(one)
        report.finish(COUNTS)
    report.close()
    return path


@pytest.fixture
def page(chromium: webdriver.Chrome, tmp_path: Path) -> Page:
    made = Page(chromium, write(tmp_path / "run.html", HEAD))
    made.prefer("light")
    made.open()
    chromium.execute_script("localStorage.clear()")
    made.open()
    return made


# -- the file ----------------------------------------------------------------------------------


def test_embedded_json_cannot_end_its_element() -> None:
    text = embed({"a": HOSTILE, "b": "<!--", "c": "]]>"})
    assert not re.search("[<>&\x00-\x1f]", text)
    assert json.loads(text)["a"] == HOSTILE


def test_the_file_names_nothing_outside_itself(tmp_path: Path) -> None:
    text = write(tmp_path / "run.html", HEAD).read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)|@import|url\(|https?://", text)
    assert "default-src 'none'" in text
    assert "unsafe-inline" not in text
    assert not re.search("@[A-Z]+@", text)


def test_the_first_transcripts_to_go_are_the_least_important(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed, late = result(Verdict.FAIL, "HSK-001/a"), result(Verdict.INCONCLUSIVE, "ADM-001/a")
    one = len(json.dumps(page_data([Run(head=HEAD, results=[failed])])["runs"][0]["results"]))
    monkeypatch.setattr(module, "MOST_TRANSCRIPTS", one)
    results = page_data([Run(head=HEAD, results=[late, failed])])["runs"][0]["results"]
    assert "connections" in results["HSK-001/a"]
    assert "connections" not in results["ADM-001/a"]
    assert results["ADM-001/a"]["left_out"] == module.LEFT_OUT


def test_only_what_is_near_the_fault_is_decoded() -> None:
    made = transcript()
    for number in range(30):
        made.sent(made.first[0].raw, 11.0 + number)
    failed = result(Verdict.FAIL, transcripts=[made])
    data = page_data([Run(head=HEAD, results=[failed])])
    entries = data["runs"][0]["results"][failed.id]["connections"][0]["entries"]
    marked = next(index for index, entry in enumerate(entries) if entry.get("marked"))
    assert "fields" in entries[marked]
    assert entries[-1]["far"] is True
    assert "fields" not in entries[-1]


# -- in the browser ----------------------------------------------------------------------------


def test_the_page_works_without_network_and_without_complaint(page: Page) -> None:
    page.open("#FRM-003/hostile")
    asked = [url.partition("#")[0] for url in page.requests()]
    assert set(asked) == {page.path.as_uri()}
    assert page.complaints() == []
    assert "x`y 1.2" in page.find("h1").text
    assert page.find(".conclusion").text.startswith("Not conformant: ")


def test_hostile_text_is_shown_and_not_obeyed(page: Page) -> None:
    page.open("#FRM-003/hostile")
    shown = HOSTILE.replace("\x00", "\\x00").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    shown = shown.replace("\ud800", "\\ud800")
    panel = page.find("[id='panel-FRM-003/hostile']")
    assert panel.find_element(By.CSS_SELECTOR, ".actual").get_property("textContent") == shown
    assert page.find("[id='FRM-003/hostile'] .title").get_property("textContent") == shown
    assert page.driver.title.startswith("WMX/1 conformance: 127.0.0.1:1")
    assert page.all(".panel b") == []


def test_at_first_what_is_wrong_is_shown_the_worst_first(page: Page) -> None:
    expected = [one.id for one in RESULTS if one.verdict.value in RED]
    assert set(page.shown()) == set(expected)
    assert page.find("#count").text == f"{len(expected)} of {len(RESULTS)} cases"
    verdicts = [row.text for row in page.all(".case .verdict") if row.is_displayed()]
    assert verdicts[0] == "ERROR"
    assert verdicts[1:3] == ["FAIL", "FAIL"]


def test_the_filters(page: Page) -> None:
    page.find("button[type=reset]").click()
    page.driver.execute_async_script("setTimeout(arguments[0])")
    assert len(page.shown()) == len(RESULTS)
    page.find("[data-verdict=PASS]").click()
    assert page.find("[data-verdict=PASS]").get_attribute("aria-pressed") == "true"
    passed = {one.id for one in RESULTS if one.verdict is Verdict.PASS}
    assert set(page.shown()) == passed
    page.choose("#area", "HSK")
    assert page.shown() == ["HSK-003/y"]
    page.choose("#area", "")
    page.choose("#level", "should")
    should = {one.id for one in RESULTS if module.rule(one.requirement).level.startswith("SHOULD")}
    assert set(page.shown()) == passed & should
    page.choose("#level", "")
    page.find("[data-verdict=PASS]").click()
    page.find("#text").send_keys("hostile OWNED")
    assert page.shown() == ["FRM-003/hostile"]
    page.find("#text").send_keys(" nothing-has-this")
    assert page.shown() == []
    assert page.find(".empty").is_displayed()


def test_an_area_of_the_matrix_is_a_filter(page: Page) -> None:
    page.find("[data-area=HSK]").click()
    assert page.shown() == ["HSK-003/y"]
    assert page.find("[data-area=HSK]").get_attribute("aria-pressed") == "true"
    page.find("[data-area=HSK]").click()
    assert len(page.shown()) == len(RESULTS)


def test_a_square_opens_its_case(page: Page) -> None:
    page.find("[data-case='FAI-001/passes']").click()
    assert page.find("[id='panel-FAI-001/passes']").is_displayed()
    assert page.focused() == "FAI-001/passes"


def test_a_case_can_be_read_by_keyboard_alone(page: Page) -> None:
    ids = page.shown()
    page.press("j")
    assert page.focused() == ids[0]
    page.press("j", Keys.ARROW_DOWN, "k")
    assert page.focused() == ids[1]
    page.press(Keys.ARROW_UP, "k")
    assert page.focused() == ids[0]
    button = page.find(f"[id='{ids[0]}'] button")
    page.press(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "true"
    page.press(Keys.TAB)
    assert page.focused() == ids[0]
    page.press(Keys.ESCAPE)
    assert button.get_attribute("aria-expanded") == "false"
    assert page.driver.switch_to.active_element == button
    page.press("/")
    assert page.focused() == "text"
    page.press("j", "?")
    assert page.find("#text").get_property("value") == "j?"
    page.press(Keys.ESCAPE)
    assert page.find("#text").get_property("value") == ""
    page.press(Keys.ESCAPE)
    assert page.focused() == ids[0]
    page.press("?")
    assert page.find("#help").is_displayed()
    page.press(Keys.ESCAPE)
    assert not page.find("#help").is_displayed()


def test_the_focus_goes_from_top_to_bottom(page: Page) -> None:
    seen = []
    for _ in range(4):
        page.press(Keys.TAB)
        seen.append(page.driver.switch_to.active_element.get_property("textContent"))
    assert seen[0] == "Skip to the cases"
    assert str(seen[1]).startswith("Keys")
    assert str(seen[2]).startswith("Theme")


def test_the_offending_field_is_marked(page: Page) -> None:
    page.open("#FRM-002/x")
    panel = page.find("[id='panel-FRM-002/x']")
    assert "FRM-002 MUST" in panel.find_element(By.CSS_SELECTOR, ".rule").text
    assert len(panel.find_elements(By.CSS_SELECTOR, ".marked details[open]")) == 1
    row = panel.find_element(By.CSS_SELECTOR, "tr.faulty")
    assert row.text.split()[:3] == ["00", "f6", "marker"]
    assert "FRM-002 PROTOCOL_ERROR" in panel.find_element(By.CSS_SELECTOR, "tr.fault").text
    assert "check FRM-002/x --target 127.0.0.1:1" in panel.text


def test_other_frames_are_decoded_when_they_are_opened(page: Page) -> None:
    page.open("#FRM-002/x")
    summary = page.find("[id='panel-FRM-002/x'] .entries details:not([open]) > summary")
    summary.click()
    details = page.driver.execute_script("return arguments[0].parentElement", summary)
    page.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
    assert details.find_element(By.CSS_SELECTOR, "td.offset").text == "00"


@pytest.mark.parametrize(
    ("scheme", "clicks", "dark"),
    [("light", 0, False), ("dark", 0, True), ("dark", 1, False), ("light", 2, True)],
)
def test_light_and_dark(page: Page, scheme: str, clicks: int, dark: bool) -> None:
    page.prefer(scheme)
    for _ in range(clicks):
        page.find("#theme").click()
    colour = [int(part) for part in re.findall(r"\d+", page.style("body", "backgroundColor"))]
    assert (sum(colour) < 300) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(page: Page, scheme: str) -> None:
    page.open("#FRM-002/x")
    page.prefer(scheme)
    assert page.driver.execute_script(_LOW_CONTRAST) == []


def test_a_phone_needs_no_sideways_scrolling(page: Page) -> None:
    metrics = {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open("#FRM-002/x")
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_landmarks_and_names(page: Page) -> None:
    for selector in ("header", "main", "footer", "[role=search]", "[role=status]", "h1"):
        assert len(page.all(selector)) == 1, selector
    controls = [one for one in page.all("button, input, select") if one.is_displayed()]
    assert len(controls) > 10
    for control in controls:
        assert control.accessible_name, control.get_attribute("outerHTML")
    ids = page.driver.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_several_targets_stand_side_by_side(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    report = HtmlReport(path)
    other = {**HEAD, "target": "other:2", "info": {}}
    for head, verdict in ((HEAD, Verdict.FAIL), (other, Verdict.PASS)):
        report.begin(head)
        report.result(result(verdict))
        report.finish(COUNTS)
    report.begin({**HEAD, "target": "gone:3", "trouble": "nothing listens at gone:3"})
    report.finish(None)
    report.close()
    page = Page(chromium, path)
    page.open("#FRM-002/bad-marker")
    assert [one.text for one in page.all(".conclusion")] == [
        "Not conformant: 1 failed",
        "Conformant in every case that applies",
        "Not judged: nothing listens at gone:3",
    ]
    assert [one.text for one in page.all(".case .badges .verdict")] == ["FAIL", "PASS", "·"]
    assert [one.text for one in page.all(".side > h4")] == ["127.0.0.1:1", "other:2", "gone:3"]
    assert page.complaints() == []


def test_paper_shows_what_the_filters_show(page: Page) -> None:
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert printed["data"].startswith("JVBER")  # %PDF
    opened = page.all(".case.open")
    assert len(opened) == len(page.shown())


_LOW_CONTRAST = """
const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => {
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
const low = [];
for (const e of document.body.querySelectorAll("*")) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  if (!e.checkVisibility() || e.closest("script, dialog, noscript")) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) low.push(`${e.className} ${e.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
}
return low;
"""
