"""The page in a real browser. Where there is none these are skipped; `make test` says how to have one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from lrlab.report import write_report
from lrlab.report.style import COLOURS
from lrlab.runs import Run

HOSTILE = '<img src=x onerror="window.pwned=1">%{x}</script>&amp;$x_1$'
WIDTHS = [360, 768, 1280]
NUM_STEPS = 400
GROUPS = ("stem", "linear")
GENERALISATION = {
    "step": 400, "split": "test", "images": 20, "train_images": 20, "accuracy": 0.5, "linear_probe": None,
    "reliability": [{"low": 0.0, "high": 1.0, "count": 20, "confidence": 0.4, "accuracy": 0.5}],
    "corruptions": {"noise": [0.5, 0.4, 0.3, 0.2, 0.1]},
}  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine: apt-get install chromium")


def make_rows(seed: int, level: float) -> list[dict[str, float | None]]:
    random = np.random.default_rng(seed)
    rows = []
    for step in range(1, NUM_STEPS + 1):
        gradients = {
            f"{kind}/{group}": float(random.lognormal()) for kind in ("grad_l2", "grad_out_l2") for group in GROUPS
        }
        loss = level * 2.0 ** (-step / 100) + 0.1 * float(random.random())
        rate = 1e-2 if step < 200 else 1e-3
        rows.append({"step": step, "epoch": 1, "train/loss": loss, "lr/stem": rate, "lr/linear": rate, **gradients})
    return rows


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # the sandbox needs rights that a container's root has not; the page is our own
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def study(
    study_writer: Callable[..., list[Run]],
    evaluation: Any,
    decision: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A study of two arms and three seeds, one of which diverged, with its page."""
    folder: Path = tmp_path_factory.mktemp("browser") / "trials"
    arms: dict[str, list[dict[str, Any]]] = {"slow": [], "fast": []}
    for arm, level in (("slow", 2.0), ("fast", 1.0)):
        for seed in range(3):
            arms[arm].append(
                {
                    "rows": make_rows(seed, level),
                    "evaluations": [
                        evaluation(step, [[4 + seed, 4 - seed], [6 - index, 6 + index]])
                        for index, step in enumerate((100, 200, 300, 400))
                    ],
                    "decisions": [
                        decision(200, "decay", before=1e-2, after=1e-3),
                        decision(380, "decay", before=1e-3, after=1e-3),
                    ],
                }
            )
    arms["fast"][2] |= {"status": "diverged", "evaluations": []}
    study_writer(folder, arms)
    return write_report(folder)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page from disk; at the end nothing may have gone wrong in it, and nothing may have been asked for."""
    contexts, faults, asked = [], [], []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(message.text)

    def on_error(error: Error) -> None:
        faults.append(str(error))

    def open_it(path: Path, *, width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", on_error)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert faults == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)  # the pages themselves


def chart(page: Page, title: str) -> Any:
    """The plot under a title, scrolled to and drawn."""
    plot = page.locator("figure", has=page.get_by_text(title, exact=True)).locator(".plot")
    # out from under the controls, which stay on top
    plot.evaluate("plot => plot.scrollIntoView({ block: 'center', behavior: 'instant' })")
    plot.locator(".main-svg").first.wait_for()
    return plot


def kinds(plot: Any) -> list[tuple[int, str]]:
    """Arm and kind of everything that a chart shows."""
    return [(found["arm"], found["kind"]) for found in plot.evaluate("plot => plot.data.map(trace => trace.meta)")]


def wait_for_range(plot: Any, low: float, high: float) -> None:
    """Wait until a chart shows these updates: charts follow one another, which takes a busy machine a while."""
    shows = (
        """([plot, ...range]) => plot.layout.xaxis.range.every((end, index) => Math.abs(end - range[index]) < 0.01)"""
    )
    plot.page.wait_for_function(shows, arg=[plot.element_handle(), low, high])


def x_range(plot: Any) -> list[float]:
    return [float(end) for end in plot.evaluate("plot => plot.layout.xaxis.range")]


def test_every_chart_is_drawn_when_it_comes_into_sight(study: Path, open_page) -> None:
    page = open_page(study)

    plots = page.locator("[data-chart]")
    assert plots.count() == 3 + 2 * len(GROUPS)
    assert page.locator("[data-chart] .main-svg").count() < 3 * plots.count()  # not all of them at once
    for title in ("Training loss", "Test accuracy", "Learning rate", "linear: gradient through the output"):
        plot = chart(page, title)
        assert kinds(plot)[:2] == [(0, "band"), (0, "single")] or kinds(plot)[0][1] in ("band", "single")
    assert page.get_by_role("heading", level=1).text_content() == "trials"


def test_what_is_drawn_is_what_was_recorded(study: Path, open_page) -> None:
    page = open_page(study)
    plot = chart(page, "Learning rate")

    steps, values, texts = plot.evaluate(
        "plot => { const single = plot.data.find(trace => trace.meta.kind === 'single' && trace.meta.arm === 1);"
        " return [[...single.x], [...single.y], single.text]; }"
    )
    first = [(step, value) for step, value, text in zip(steps, values, texts, strict=True) if text == "slow, seed 0"]

    assert len(first) == NUM_STEPS + 1 and np.isnan(first[-1][1])  # what parts it from the next one
    assert [value for _, value in first[:-1]] == pytest.approx([1e-2] * 199 + [1e-3] * 201, rel=1e-6)
    assert [step for step, _ in first[:-1]] == list(range(1, NUM_STEPS + 1))


def test_an_arm_that_is_unchecked_is_in_no_chart(study: Path, open_page) -> None:
    page = open_page(study)
    loss = chart(page, "Training loss")
    assert {arm for arm, _ in kinds(loss)} == {0, 1}

    page.get_by_role("checkbox", name="fast").uncheck()

    assert {arm for arm, _ in kinds(loss)} == {1}
    assert {arm for arm, _ in kinds(chart(page, "stem: gradient of the parameters"))} == {1}
    page.get_by_role("checkbox", name="fast").check()
    assert {arm for arm, _ in kinds(chart(page, "Training loss"))} == {0, 1}


def test_single_runs_and_decays_can_be_hidden(study: Path, open_page) -> None:
    page = open_page(study)
    loss = chart(page, "Training loss")
    assert {kind for _, kind in kinds(loss)} == {"band", "single", "median", "decay", "diverged"}

    page.get_by_role("checkbox", name="single runs").uncheck()
    page.get_by_role("checkbox", name="decays").uncheck()

    assert {kind for _, kind in kinds(loss)} == {"band", "median", "diverged"}


def test_zoom_by_keyboard_is_followed_by_all_charts_and_undone_by_the_button(study: Path, open_page) -> None:
    page = open_page(study)
    loss = chart(page, "Training loss")
    loss.focus()

    page.keyboard.press("+")
    wait_for_range(loss, 80, 320)
    page.keyboard.press("ArrowRight")
    wait_for_range(loss, 128, 368)
    page.keyboard.press("ArrowRight")
    wait_for_range(loss, 160, 400)  # no further than the last update
    wait_for_range(chart(page, "linear: gradient through the output"), 160, 400)
    page.keyboard.press("-")
    page.locator("#reset").click()
    wait_for_range(chart(page, "Training loss"), 0, 400)


def test_zoom_by_mouse_is_followed_and_undone_by_a_double_click(study: Path, open_page) -> None:
    page = open_page(study)
    loss = chart(page, "Training loss")
    box = loss.locator(".nsewdrag").first.bounding_box()
    middle = box["y"] + box["height"] / 2

    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=5)
    page.mouse.up()

    assert x_range(loss) == pytest.approx([100, 300], abs=3)
    assert x_range(chart(page, "Learning rate")) == pytest.approx(x_range(loss))
    chart(page, "Training loss").locator(".nsewdrag").first.dblclick()
    page.wait_for_function("plot => plot.layout.xaxis.range[0] === 0", arg=loss.element_handle())
    assert x_range(chart(page, "Learning rate")) == [0, 400]


def test_pointing_at_a_decay_shows_what_was_measured(study: Path, open_page) -> None:
    page = open_page(study)
    loss = chart(page, "Training loss")

    loss.locator(".xy2 .points path").last.hover(force=True)

    shown = loss.locator(".hovertext")
    shown.wait_for()
    text = re.sub(r"\s+", " ", shown.text_content())
    assert "update 380" in text and "decay at the floor" in text
    assert "mean_diff = -0.0001234" in text and "threshold 0.0005" in text


def test_pointing_at_a_line_shows_whose_it_is_and_its_value(study: Path, open_page) -> None:
    page = open_page(study)
    rate = chart(page, "Learning rate")
    box = rate.locator(".nsewdrag").first.bounding_box()
    low, high = rate.evaluate("plot => plot.layout.yaxis.range")

    height = box["y"] + box["height"] * (high - np.log10(1e-3)) / (high - low)
    page.mouse.move(box["x"] + box["width"] * 0.75, height)

    shown = rate.locator(".hovertext")
    shown.wait_for()
    assert re.fullmatch(r"(slow|fast), (seed \d|median of the seeds)update 300: 0.001", shown.text_content())


def test_the_slider_goes_through_the_evaluations_and_the_list_through_arms_and_runs(study: Path, open_page) -> None:
    page = open_page(study)
    matrix, slider = chart(page, "Confusion matrix"), page.locator("#matrix-at")
    options = page.locator("#matrix-of option").all_text_contents()
    assert options == [
        "fast, sum of 2 seeds",
        "fast, seed 0",
        "fast, seed 1",
        "slow, sum of 3 seeds",
        "slow, seed 0",
        "slow, seed 1",
        "slow, seed 2",
    ]
    assert page.locator("#matrix-said").text_content().startswith("update 400, evaluation 4 of 4: 67.50 % right")

    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")

    assert page.locator("#matrix-said").text_content().startswith("update 100, evaluation 1 of 4: 52.50 % right")
    shares = matrix.evaluate("plot => plot.data[0].z.map(row => row.map(root => root * root))")
    assert np.allclose(shares, [[9 / 16, 7 / 16], [0.5, 0.5]])  # of both seeds: [[4 + 5, 4 + 3], [6 + 6, 6 + 6]]
    page.locator("#matrix-of").select_option("slow, seed 2")
    assert page.locator("#matrix-said").text_content().startswith("update 400, evaluation 4 of 4: 75.00 % right")
    over_time = chart(page, "Accuracy of each class over the evaluations")
    by_class = over_time.evaluate("plot => plot.data[0].z")
    assert np.allclose(by_class, [[6 / 8] * 4, [6 / 12, 7 / 12, 8 / 12, 9 / 12]])
    assert over_time.evaluate("plot => plot.layout.shapes[0].x0") == 2.5


def test_each_seed_is_a_dot_beside_the_mean_with_its_interval(study: Path, open_page) -> None:
    page = open_page(study)
    plot = page.locator("#accuracy-by-arm")
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()

    fast, fast_mean, slow, slow_mean = plot.evaluate("plot => plot.data.map(trace => [...trace.x])")

    assert fast == pytest.approx([0.65, 0.70]) and fast_mean == pytest.approx([0.675])
    assert slow == pytest.approx([0.65, 0.70, 0.75]) and slow_mean == pytest.approx([0.70])
    interval = plot.evaluate("plot => plot.data[3].error_x.array[0]")
    assert interval == pytest.approx(4.302653 * 0.05 / 3**0.5, rel=1e-5)  # Student's t of 2 degrees of freedom


def test_each_difference_is_a_dot_beside_zero_and_their_mean(study: Path, open_page) -> None:
    page = open_page(study)
    plot = page.locator("#differences-by-pair")
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()

    dots, mean = plot.evaluate("plot => plot.data.map(trace => [...trace.x])")

    assert dots == pytest.approx([0, 0], abs=1e-9) and mean == pytest.approx([0], abs=1e-9)
    assert plot.evaluate("plot => plot.data[0].text") == ["slow - fast, seed 0: +0.00", "slow - fast, seed 1: +0.00"]
    assert plot.evaluate("plot => [plot.layout.shapes[0].x0, plot.layout.xaxis.range[0] < 0]") == [0, True]
    plot.evaluate("plot => Plotly.relayout(plot, { 'xaxis.range': [-0.69, 0.41] })")  # where plotly's zero is -8.9e-17
    ticks = plot.evaluate("plot => [...plot.querySelectorAll('.xtick text')].map(tick => tick.textContent)")
    assert ticks == ["\u22120.6", "\u22120.4", "\u22120.2", "0", "+0.2", "+0.4"]


def luminance(colour: str) -> float:
    """Of a colour as CSS writes it, by WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dots_of_every_arm_stand_out_from_the_ground(
    study_writer, evaluation, open_page, tmp_path: Path, scheme: str
) -> None:
    content = [{"evaluations": [evaluation(10)]}]
    study_writer(tmp_path / "many", {f"arm{index}": content for index in range(len(COLOURS))})
    page = open_page(write_report(tmp_path / "many"), color_scheme=scheme)
    plot = page.locator("#accuracy-by-arm")
    plot.locator(".main-svg").first.wait_for()

    dots = plot.locator(".points path").evaluate_all(
        "dots => dots.map(getComputedStyle).map(({ fill, fillOpacity, opacity, stroke }) => "
        "({ fill, stroke, opacity: fillOpacity * opacity }))"
    )

    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(dots) == len(COLOURS)
    for dot in dots:
        assert (dot["opacity"], dot["stroke"]) == (1, ground)
        low, high = sorted((luminance(dot["fill"]), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3, dot["fill"]


def test_hostile_names_stay_text(study_writer, evaluation, decision, open_page, tmp_path: Path) -> None:
    content = {
        "rows": [{**row, f"grad_l2/{HOSTILE}": 1.0} for row in make_rows(0, 1.0)[:20]],
        "evaluations": [evaluation(20, [[4, 4], [6, 6]])],
        "decisions": [{**decision(10, "decay", before=1e-2, after=1e-3), HOSTILE: HOSTILE}],
        "classes": [HOSTILE, "dog"],
    }
    arm = HOSTILE.replace("/", "")
    study_writer(tmp_path / "a<b>&c", {arm: [content] * 3, "b": [content]})

    page = open_page(write_report(tmp_path / "a<b>&c"))
    loss = chart(page, "Training loss")
    loss.locator(".xy2 .points path").first.hover(force=True)
    loss.locator(".hovertext").wait_for()
    shown = loss.locator(".hovertext").text_content()
    matrix = chart(page, "Confusion matrix")
    chart(page, "Accuracy of each class over the evaluations")
    page.locator("#accuracy-by-arm").scroll_into_view_if_needed()
    page.locator("#accuracy-by-arm .main-svg").first.wait_for()

    assert HOSTILE in shown and arm in shown
    assert HOSTILE[:9] in matrix.locator("g.ytick text").first.text_content()
    assert page.locator("h1").text_content() == "a<b>&c"
    assert page.get_by_role("checkbox", name=arm).count() == 1
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script").count() == 3
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("width", WIDTHS)
def test_at_any_width_the_page_does_not_scroll_sideways(study: Path, open_page, width: int) -> None:
    page = open_page(study, width=width)
    for title in ("Training loss", "Confusion matrix", "Accuracy of each class over the evaluations"):
        box = chart(page, title).bounding_box()
        svg = chart(page, title).locator(".main-svg").first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert svg["width"] == pytest.approx(box["width"], abs=1)

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_follows_dark_and_light(study: Path, open_page) -> None:
    page = open_page(study, color_scheme="dark")
    loss = chart(page, "Training loss")
    background = "getComputedStyle(document.body).backgroundColor"
    colour = "plot => plot.layout.font.color"
    assert (page.evaluate(background), loss.evaluate(colour)) == ("rgb(21, 23, 26)", "#e4e6e8")

    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"plot => ({colour})(plot) !== '#e4e6e8'", arg=loss.element_handle())

    assert (page.evaluate(background), loss.evaluate(colour)) == ("rgb(255, 255, 255)", "#1d1f21")


def test_all_charts_are_drawn_for_print_in_black_on_white(study: Path, open_page, tmp_path: Path) -> None:
    page = open_page(study, color_scheme="dark")
    page.evaluate("addEventListener('afterprint', () => {}, { once: true })")
    page.evaluate(
        "addEventListener('beforeprint', () => { window.inks = [...document.querySelectorAll('.plot')]"
        ".map(plot => plot.layout && plot.layout.font.color); })"
    )

    pdf = page.pdf(path=tmp_path / "report.pdf")

    assert pdf.startswith(b"%PDF")
    inks = page.evaluate("window.inks")
    assert len(inks) == page.locator(".plot").count() == 11
    assert set(inks) == {"#000000"}


def test_in_print_nothing_around_a_figure_is_larger_than_the_text(study: Path, open_page) -> None:
    page = open_page(study)
    page.emulate_media(media="print")
    sizes = "names => names.map(name => parseFloat(getComputedStyle(document.querySelector(name)).fontSize))"

    text, *others = page.evaluate(sizes, ["body", ".caption", "figcaption", ".kind"])

    assert max(others) <= text


def test_on_a_phone_the_generalisation_picture_is_scrolled_and_not_shrunk(study: Path, open_page) -> None:
    run = study.parent / "slow" / "seed0" / "run.json"
    before = run.read_text()
    run.write_text(json.dumps({**json.loads(before), "generalisation": GENERALISATION}))
    page = open_page(write_report(study.parent, directory=study.parent / "generalisation"), width=360)
    run.write_text(before)

    picture = page.get_by_role("region", name="Picture of how well it generalises")

    assert picture.locator("img").bounding_box()["width"] >= 600
    assert picture.bounding_box()["width"] <= 360
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_scripts_the_page_says_where_the_figures_are(study: Path, open_page) -> None:
    page = open_page(study, java_script_enabled=False)

    assert "The same figures lie beside it" in page.locator("noscript").first.inner_text()
    assert page.get_by_role("region", name="Arms").is_visible()
    for dead in ("#charts", "a[href='#charts']", ".plot", "input", "select", "button", "figcaption"):
        assert not any(found.is_visible() for found in page.locator(dead).all()), dead


def test_every_control_is_reached_with_the_tabulator(study: Path, open_page) -> None:
    page = open_page(study)
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(({ id, dataset }) => id || Object.entries(dataset).join())(document.activeElement)")
        )

    wanted = {"arm,0", "arm,1", "show,singles", "show,decays", "reset", "chart,0", "matrix-of", "matrix-at"}
    assert wanted <= reached


def test_a_run_that_has_only_begun_has_a_page_without_faults(study_writer, open_page, tmp_path: Path) -> None:
    (run,) = study_writer(tmp_path / "young", {"a": [{"status": "running"}]})

    page = open_page(write_report(run.directory))

    assert page.get_by_text("Nothing is recorded.").is_visible()
    document = json.loads(page.locator("#data").text_content())
    assert document["charts"] == [] and document["matrices"] == []
