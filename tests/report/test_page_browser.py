"""The page in a real browser: what a reader sees, clicks and types; and that nothing leaves the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made import make_run

from concord.report.page import render, write_report
from concord.runs.directory import open_run

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
    """Opens a page; at the end, no error was written, no dialog came up and nothing was asked for but the file.

    beside: the run's images may be asked for too, whether or not they are there.
    """
    heard: list[str] = []
    contexts = []

    def open_page(out: Path, width: int = 1200, beside: bool = False, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda m: (beside and "ERR_FILE_NOT_FOUND" in m.text) or heard.append(f"console: {m.text}"),
        )
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        address = (out / "report.html").as_uri()
        known = (address, "data:", *([out.as_uri() + "/images/", out.as_uri() + "/uninformed/"] if beside else []))
        page.on("request", lambda r: r.url.startswith(known) or heard.append(r.url))
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
    rows = [json.loads(line) for line in (out / "images" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    for k, row in enumerate(rows):
        row["scores"] = {"uninformed_steps": 0, "objective": (k * 5 % 12) / 10}  # 1.1 for number 1 of the third class
    (out / "images" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of 320 pixels, shrunk to 256 in the page."""
    out = make_run(tmp_path_factory.mktemp("large"), ("a # b", "c"), ipc=1, side=320)
    write_report(out)
    return out


@pytest.mark.parametrize(("width", "height", "share"), [(1280, 800, 0.45), (390, 844, 0.8)])
def test_a_pair_opens_as_large_as_the_window_lets(
    opened: Open, large: Path, width: int, height: int, share: float
) -> None:
    page = opened(large, width, beside=True)
    page.set_viewport_size({"width": width, "height": height})
    flip = page.locator("#class-0 .flip")
    page.locator("#class-0").scroll_into_view_if_needed()
    if width > 1000:
        flip.click()  # side by side there is nothing to flip
    else:
        flip.focus()
        page.keyboard.press("Enter")
    whole = "320 \N{MULTIPLICATION SIGN} 320 pixels"
    page.get_by_text(f"uninformed {whole}", exact=True).wait_for()
    page.get_by_text(f"informed {whole}", exact=True).last.wait_for()
    first, second = (image.bounding_box() for image in page.locator(".shots img").all())
    for box in (first, second):
        assert box["width"] > share * width and box["y"] + box["height"] < height
    along = "x" if width > height else "y"
    assert first[along] + first["width" if along == "x" else "height"] <= second[along]
    page.locator("#next").focus()
    page.keyboard.press("ArrowRight")  # the last: its button is of no use, the focus stays inside
    assert page.locator("#dialog-title").inner_text() == "c, number 0"
    assert page.evaluate("document.activeElement.id") == "close"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert not page.locator("#dialog").is_visible()
    assert page.evaluate("document.activeElement.className") == "flip"


def test_without_the_files_the_pages_own_copy_is_shown_and_named(opened: Open, large: Path, tmp_path: Path) -> None:
    shutil.copy(large / "report.html", tmp_path)
    page = opened(tmp_path, beside=True)
    page.locator("#class-1 .more").click()
    page.locator(".shots").get_by_text("is not beside").last.wait_for()
    said = page.locator(".shots figcaption").last.inner_text()
    assert said.startswith("informed 256") and said.endswith("copy: images/f1/00000.png is not beside the page")
    assert page.locator(".shots img").evaluate_all("images => images.map((image) => image.naturalWidth)") == [256, 256]


def test_images_are_put_in_the_order_of_a_score(opened: Open, run: Path) -> None:
    page = opened(run)
    order, direction, ranked = (page.locator(name) for name in ("#order", "#direction", "#ranked .tile"))
    assert order.locator("option").all_inner_texts() == [
        "class and number",
        "details likely missing",
        "details present",
        "mean percentile",
        "informing loss",
    ]

    def captions() -> list[str]:
        return [" ".join(text.split()) for text in page.locator("#ranked figcaption").all_inner_texts()]

    order.select_option("missing")
    assert (direction.inner_text(), ranked.count(), captions()[0]) == (
        "highest first",
        12,
        "canyon damsel · 0 1 missing",
    )
    assert not page.locator("#classes").is_visible()
    order.select_option("mean")
    assert captions()[:4] == [*(f"temple tang · {k} mean 0.60" for k in range(3)), "canyon damsel · 0 mean 0.63"]
    order.select_option("found")
    assert captions()[:2] == ["canyon damsel · 0 67 % present", "canyon damsel · 1 100 % present"]
    order.select_option("score:objective")
    assert captions()[0] == "Büro-Stuhl · 1 1.1" and captions()[-1] == "canyon damsel · 0 0"
    direction.focus()
    page.keyboard.press("Enter")
    assert (direction.inner_text(), captions()[0], page.evaluate("document.activeElement.id")) == (
        "lowest first",
        "canyon damsel · 0 0",
        "direction",
    )
    titles = []
    ranked.first.locator(".more").click()
    for _ in range(3):  # arrows go along the order
        titles.append(page.locator("#dialog-title").inner_text())
        page.keyboard.press("ArrowRight")
    assert titles == [text.rpartition(" ")[0].replace(" · ", ", number ") for text in captions()[:3]]
    page.keyboard.press("Escape")
    page.get_by_label("only images with likely missing details").check()
    assert captions() == ["canyon damsel · 0 0"]
    page.fill("#search", "temple")
    page.keyboard.press("Enter")  # a class is found in the order of classes
    assert (order.input_value(), page.locator("#class-1").is_visible(), ranked.count()) == ("", True, 0)


def test_without_scripts_each_class_has_its_first_pair(opened: Open, run: Path) -> None:
    page = opened(run, 390, java_script_enabled=False)
    assert page.locator("#classes img").count() == 2 * len(NAMES)
    for image in page.locator("#classes img").all():
        image.scroll_into_view_if_needed()
        assert image.bounding_box()["width"] > 60
    assert page.locator("#class-0 .first").inner_text().strip() == "No. 0: informed, uninformed"
    assert (
        page.locator("[data-list=worst] + noscript li")
        .first.inner_text()
        .startswith("canyon damsel, number 0: images/")
    )
    assert [page.locator(name).is_visible() for name in ("#search", "#theme", ".tools", ".how")] == [False] * 4
    assert page.locator("#samples > noscript .note").is_visible()
    assert page.locator(".compared").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


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
    assert {"search", "theme", "only-missing", "only-failed", "order", "flip", "more", "SUMMARY"} <= reached


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


def test_a_thousand_classes_open_with_what_is_in_view_alone(
    opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = make_run(tmp_path_factory.mktemp("thousand"), [f"class number {k:04}" for k in range(1000)], ipc=2, side=32)
    write_report(out)
    assert (out / "report.html").stat().st_size < 40e6
    page = opened(out)
    page.locator("#class-0 .tile img").first.wait_for()
    count = lambda what: page.locator(what).count()  # noqa: E731
    assert 2 <= count("#classes .tile") < 200  # not two thousand
    assert 2 <= count("img") < 400  # decoded
    assert count("#classes *") < 4 * 1000 + 20 * 200  # a class that is not in view: its heading and a text of pictures
    page.locator("#order").select_option("mean")
    assert 2 <= count("#ranked .tile") < 200
    page.fill("#search", "0873")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert 0 <= page.locator("#class-873").bounding_box()["y"] < 300
    assert page.locator("#class-873 .tile .flip").count() == 2
    assert (
        page.locator("#class-873 .tile img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        == 32
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set too large for its page: the images stay beside it; of the second class, number 1 is gone."""
    out = make_run(tmp_path_factory.mktemp("many set"), NAMES, ipc=30, side=48)
    (out / "images" / "f1" / "00001.png").unlink()
    (out / "report.html").write_text(render(open_run(out), budget=10_000), encoding="utf-8")
    assert (out / "report.html").stat().st_size < 120_000
    return out


def test_a_large_set_is_shown_from_the_files_beside_its_page(opened: Open, many: Path) -> None:
    page = opened(many, beside=True)
    width = "image => image.decode().then(() => image.naturalWidth)"
    assert page.locator("#class-0 .tile img").first.evaluate(width) == 48
    assert page.locator("#class-0 .tile img").nth(1).evaluate(width) == 48  # its uninformed partner
    assert page.locator("#class-0 .tile").count() == 30
    page.fill("#search", "temple")
    page.keyboard.press("Enter")
    page.locator("#class-1 .tile .gone").first.wait_for()
    assert page.locator("#class-1 .tile .gone").count() == 1
    assert page.locator("#class-1 .tile .gone").inner_text() == "image missing"
    page.locator("#class-1 .tile .more").first.click()
    assert page.locator("#dialog-body .shots img").nth(1).evaluate(width) == 48
    assert "48 \N{MULTIPLICATION SIGN} 48 pixels" in page.locator("#dialog-body .shots").inner_text()
    page.keyboard.press("Escape")
    page.locator("#order").select_option("missing")
    assert page.locator("#ranked .tile img").first.evaluate(width) == 48


def test_a_large_set_is_printed_with_its_images(opened: Open, many: Path) -> None:
    page = opened(many, beside=True)
    page.locator("#class-0 .tile img").first.wait_for()
    page.evaluate("() => { print = () => (document.title = 'printing'); }")  # a function alone would be called
    page.keyboard.press("Control+P")
    page.wait_for_function("() => document.title === 'printing'")
    assert page.pdf().count(b"/Subtype /Image") == 2 * len(NAMES) * 30 - 1  # each file once, but the one that is gone
    assert not page.evaluate("document.body.classList.contains('unloaded')")


def test_without_scripts_a_large_set_has_its_first_pairs(opened: Open, many: Path) -> None:
    page = opened(many, beside=True, java_script_enabled=False)
    assert page.locator("#classes img").count() == 2 * len(NAMES)
    first = page.locator("#class-0 img").first
    first.scroll_into_view_if_needed()
    assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 48
