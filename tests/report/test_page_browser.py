"""The page in a real browser: what a reader sees, clicks and types; and that nothing leaves the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made import make_run

from concord.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install '.[dev]')")
HOSTILE = "<script>alert(1)</script>/../x"
NAMES = ("canyon damsel", "temple tang", "Büro-Stuhl", HOSTILE)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens a page; at the end, no error was written, no dialog came up and nothing was asked for but the file."""
    heard: list[str] = []
    contexts = []

    def open_page(out: Path, width: int = 1200, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        address = (out / "report.html").as_uri()
        page.on("request", lambda r: r.url.split("#")[0] == address or r.url.startswith("data:") or heard.append(r.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of three pairs: only number 0 of the first lacks a detail, only "temple tang" was not helped."""
    out = make_run(tmp_path_factory.mktemp("run"), NAMES, ipc=3)
    details = json.loads((out / "details.json").read_text(encoding="utf-8"))
    for file, rows in details["images"].items():
        variant, folder, _ = file.split("/")
        for row in rows:
            row["percentile"] = 0.9 if (variant == "images") != (folder == "f1") else 0.6
    details["images"]["images/f0/00000.png"][1]["percentile"] = 0.1
    details["images"]["uninformed/f0/00001.png"][1]["percentile"] = 0.1  # or informing would not have helped its class
    (out / "details.json").write_text(json.dumps(details), encoding="utf-8")
    write_report(out)
    return out


def test_a_click_or_the_space_bar_flips_an_image_and_its_marks(opened: Open, run: Path) -> None:
    page = opened(run)
    page.get_by_label("flip").check()
    tile = page.locator("#class-0 .tile").first
    flip = tile.locator(".flip")
    shown = lambda: tile.locator(".flip img.other").evaluate("image => getComputedStyle(image).opacity")  # noqa: E731
    assert tile.locator(".side.after .mark").nth(1).get_attribute("class") == "mark m"
    page.locator("h1").hover()
    flip.click()
    page.locator("h1").hover()
    page.wait_for_timeout(200)
    assert (flip.get_attribute("aria-pressed"), shown(), tile.locator(".side.after .which").inner_text()) == (
        "true",
        "1",
        "uninformed",
    )
    assert tile.locator(".side.after .mark").nth(1).get_attribute("class") == "mark p"
    flip.focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(200)
    assert (flip.get_attribute("aria-pressed"), shown()) == ("false", "0")
    assert flip.get_attribute("aria-label") == "canyon damsel, number 0, informed: 2 present, 0 weak, 1 likely missing"


def test_pointing_at_an_image_shows_its_partner_and_leaving_gives_it_back(opened: Open, run: Path) -> None:
    page = opened(run)
    tile = page.locator("#class-0 .tile").first
    page.locator("h1").hover()
    tile.locator(".flip").hover()
    assert tile.get_attribute("data-side") == "before"
    page.locator("h1").hover()
    assert tile.get_attribute("data-side") == "after"


def test_a_tap_flips(opened: Open, run: Path) -> None:
    page = opened(run, width=375, has_touch=True, is_mobile=True)
    page.locator("#samples").scroll_into_view_if_needed()
    tile = page.locator("#class-0 .tile").first
    tile.locator(".flip").tap()
    assert tile.get_attribute("data-side") == "before"
    tile.locator(".flip").tap()
    assert tile.get_attribute("data-side") == "after"


def test_both_images_of_a_pair_stand_side_by_side(opened: Open, run: Path) -> None:
    page = opened(run)
    first = page.locator("#class-0 .tile").first
    before, after = (first.locator(side).bounding_box() for side in (".side.before img", ".side.after .flip"))
    assert before["x"] + before["width"] <= after["x"] + 1
    assert abs(before["y"] - after["y"]) < 2
    page.get_by_label("flip").check()
    assert not first.locator(".side.before").is_visible()


def test_search_jumps_to_a_class_by_a_part_of_its_name(opened: Open, run: Path) -> None:
    page = opened(run)
    page.keyboard.press("/")
    page.keyboard.type("buro st")
    assert page.locator("#found [role=option]").all_inner_texts() == ["Büro-Stuhl"]
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    assert page.evaluate("document.activeElement.id") == "class-2"
    assert 0 <= page.locator("#class-2").bounding_box()["y"] < 300
    page.fill("#search", "script")
    assert page.locator("#found [role=option]").all_inner_texts() == [HOSTILE]
    page.fill("#search", "nobody")
    assert page.locator("#found").inner_text() == "no such class"
    page.fill("#search", "tan")
    page.locator("#found [role=option]").first.click()
    assert page.evaluate("document.activeElement.id") == "class-1"


def test_arrow_keys_choose_among_the_classes_found(opened: Open, run: Path) -> None:
    page = opened(run)
    page.fill("#search", "t")
    names = page.locator("#found [role=option]").all_inner_texts()
    page.keyboard.press("ArrowDown")
    assert page.locator("#found [aria-selected=true]").inner_text() == names[1]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.querySelector('h3').firstChild.data") == names[1]


def test_filters_keep_what_they_say(opened: Open, run: Path) -> None:
    page = opened(run)
    count = page.locator("#count")
    assert count.inner_text() == "12 images, 4 classes"
    page.get_by_label("only images with likely missing details").check()
    assert count.inner_text() == "1 image, 1 class"
    assert page.locator("#classes .tile:visible .more").all_inner_texts() == ["No. 0"]
    page.get_by_label("only classes that informing did not help").check()
    assert count.inner_text() == "0 images, 0 classes"
    assert page.locator("#nothing").is_visible()
    page.get_by_label("only images with likely missing details").uncheck()
    assert page.locator(".class:visible h3").all_inner_texts() == ["temple tang informing did not help"]
    page.fill("#search", "canyon")
    page.keyboard.press("Enter")  # a class that the filters hide is shown all the same
    assert page.locator("#class-0").is_visible()
    assert count.inner_text() == "12 images, 4 classes"


def test_details_open_by_click_or_enter_hold_the_focus_and_give_it_back(opened: Open, run: Path) -> None:
    page = opened(run)
    flip = page.locator("#class-0 .tile .flip").first
    flip.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#dialog")
    assert dialog.is_visible()
    row = json.loads((run / "images" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[0])
    text = dialog.inner_text()
    for part in (
        str(row["seed"]),
        row["prompt"],
        row["source"],
        *row["negatives"],
        "0.60 → 0.10",
        "images/f0/00000.png",
    ):
        assert part in text
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('#dialog')")
    page.keyboard.press("ArrowRight")
    assert page.locator("#dialog-title").inner_text() == "canyon damsel, number 1"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "flip"
    page.locator("#class-3 .more").nth(2).click()
    assert page.locator("#dialog-title").inner_text() == f"{HOSTILE}, number 2"
    assert page.locator("#next").is_disabled()
    page.locator("#close").click()
    assert not dialog.is_visible()


def test_every_control_is_reached_by_the_tab_key(opened: Open, run: Path) -> None:
    page = opened(run)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert {"search", "theme", "only-missing", "only-failed", "flip", "more", "SUMMARY"} <= reached


def test_colours_follow_the_system_until_the_reader_chooses(opened: Open, run: Path) -> None:
    page = opened(run, color_scheme="dark")
    brightness = lambda: page.evaluate(  # noqa: E731
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)"
    )
    assert brightness() < 150
    page.locator("#theme").click()
    assert (page.locator("#theme").inner_text(), brightness() > 600) == ("light", True)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert (page.locator("#theme").inner_text(), brightness() < 150) == ("auto", True)


@pytest.mark.parametrize("width", [320, 375, 768, 1600])
def test_nothing_scrolls_sideways(opened: Open, run: Path, width: int) -> None:
    page = opened(run, width=width)
    for part in page.locator(".part").all():
        part.scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".more").first.click()
    assert page.evaluate(
        "document.getElementById('dialog').scrollWidth <= document.getElementById('dialog').clientWidth"
    )


def test_parts_fold_and_a_link_unfolds_them(opened: Open, run: Path) -> None:
    page = opened(run)
    page.locator("#samples > summary").click()
    assert not page.locator("#class-0").is_visible()
    page.locator(".contents a[href='#samples']").click()
    assert page.locator("#class-0").is_visible()


def test_paper_gets_every_image(opened: Open, run: Path) -> None:
    page = opened(run)
    page.locator("#extremes > summary").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#classes .side.after img.own:visible").count() == 12
    assert page.locator("#classes .side.before img:visible").count() == 12
    assert not page.locator(".bar").is_visible()


def test_a_thousand_classes_open_in_two_seconds_and_draw_what_is_in_view(
    opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = make_run(tmp_path_factory.mktemp("thousand"), [f"class number {k:04}" for k in range(1000)], ipc=2, side=32)
    write_report(out)
    assert (out / "report.html").stat().st_size < 40e6
    times = []
    for _ in range(3):  # the fastest of three: the machine has other work to do
        page = opened(out)
        page.locator("#class-0 .tile img").first.wait_for(timeout=5000)
        times.append(page.evaluate("performance.now()"))
    assert min(times) < 2000, times
    drawn = page.locator("#classes .tile").count()
    assert 2 <= drawn < 200  # not two thousand
    page.fill("#search", "0873")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert 0 <= page.locator("#class-873").bounding_box()["y"] < 300
    assert page.locator("#class-873 .tile .flip").count() == 2
    assert (
        page.locator("#class-873 .tile img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        == 32
    )
