"""The report of a synthetic study, as text and in a real browser."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, Page

from lora_core import metrics
from lora_core.errors import DataError
from lora_core.files import write_json
from lora_core.images import write_png
from lora_core.judging import Judgement, Outcome, write_judgement
from lora_core.report import write_report
from lora_core.report.data import load_study
from lora_core.report.words import inference_phrase
from lora_core.tuning.importance import Importances
from tests.browser import headless_chromium, visit
from tests.report_study import HOSTILE, PRUNED, Study, make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Study:
    made = make_study(tmp_path_factory.mktemp("study"), photos, pruned=1)
    (made.root / "round-004" / "training").mkdir(parents=True)
    write_report(made.workspace, made.experiment)
    return made


@pytest.fixture(scope="module")
def page(study: Study) -> Path:
    return study.workspace.study("study").report


@pytest.fixture(scope="module")
def browser(browser_required: bool) -> Iterator[Browser]:
    with headless_chromium(required=browser_required) as opened:
        yield opened


def words_of(path: Path) -> str:
    """The page's text as a reader sees it."""
    body = re.sub(r"<(script|style)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_headline_has_the_winners_numbers_and_settings(study: Study, page: Path) -> None:
    results = [json.loads((study.root / f"round-00{number}" / "result.json").read_text()) for number in range(3)]
    best = max(results, key=lambda result: result["winner"]["composite"])
    winner, text = best["winner"], words_of(page)
    assert "It works." in text
    assert f"PSNR-Y rises by {winner['gain_psnr_y']:.2f} dB" in text
    assert f"the GMSD distance falls by {winner['gain_perceptual']:.0%}".replace("%", " %") in text
    assert f"output/study/round-00{best['round']}/checkpoints/study-0000{winner['epoch']}.safetensors" in text
    assert f"{winner['steps']} denoiser evaluation set {winner['num_inference_steps']} sampling steps" in text
    assert "Round 4 has no result yet" in text
    assert metrics.CONVENTIONS["ssim_y"] in text


@pytest.mark.parametrize(
    ("quality", "title", "sentence"),
    [
        (-0.5, "No LoRA beat the input.", "points below the degraded input itself: PSNR-Y falls by"),
        (0.1, "It helps, but something simpler does better.", "The best classical filter (non-local means, +"),
    ],
)
def test_honest_where_the_lora_is_not_the_answer(
    tmp_path: Path, photos: Path, quality: float, title: str, sentence: str
) -> None:
    made = make_study(tmp_path, photos, quality=quality, rounds=1, limit=2)
    text = words_of(write_report(made.workspace, made.experiment))
    head = text.partition("Next")[0]
    assert title in head and sentence in head
    assert ("not recommended" in head) == (quality < 0)


def test_equal_studies_give_equal_pages_without_a_place_of_this_machine(study: Study, page: Path) -> None:
    before = page.read_bytes()
    write_report(study.workspace, study.experiment)
    assert page.read_bytes() == before
    assert str(study.workspace.root) not in before.decode()
    assert not re.search(r"https?://", before.decode())


def test_at_most_twenty_photographs_of_512_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(22):
        write_png(tmp_path / "photos" / f"{number}.png", rng.integers(0, 256, (14, 16, 3)).astype(np.uint8))
    write_png(tmp_path / "photos" / "large.png", rng.integers(0, 256, (40, 530, 3)).astype(np.uint8))
    made = make_study(tmp_path, tmp_path / "photos", rounds=1, limit=23)
    text = write_report(made.workspace, made.experiment).read_text(encoding="utf-8")
    sizes = [tuple(map(int, size)) for size in re.findall(r"--w:(\d+);--h:(\d+)", text)]
    assert len(sizes) == 20 and max(map(max, sizes)) <= 512
    assert len(text) < 15e6


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda root: [path.unlink() for path in root.glob("*/result.json")],
            "no round of study has finished in .*tune",
        ),
        (lambda root: (root / "round-000" / "scores.parquet").write_bytes(b"PAR1"), "cannot read .*scores.parquet"),
        (lambda root: (root / "round-000" / "training" / "done.json").unlink(), "cannot read .*done.json"),
        (
            lambda root: write_json(root / "round-000" / "result.json", {"round": 0, "pruned": False}),
            r"round-000/result\.json: round 0 .*older version .*another name",
        ),
    ],
)
def test_missing_or_broken_files_are_named(tmp_path: Path, photos: Path, break_it: Any, message: str) -> None:
    made = make_study(tmp_path, photos, rounds=1, limit=2)
    break_it(made.root)
    with pytest.raises(DataError, match=message):
        write_report(made.workspace, made.experiment)


def test_rounds_that_cannot_be_compared_are_said_to_be_so(tmp_path: Path, photos: Path) -> None:
    made = make_study(tmp_path, photos, rounds=2, limit=2)
    manifest = made.root / "round-001" / "result.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"test_digest": "e1" * 32})
    assert "different test photographs: their composites cannot be compared" in words_of(
        write_report(made.workspace, made.experiment)
    )


def test_the_race_is_told_with_what_it_dropped_and_saved(study: Study, page: Path) -> None:
    text = words_of(page)
    assert "45 of 72 settings restored all 6 photographs; 27 left earlier." in text
    assert "351 of 432 denoiser evaluations, 81\u00a0%: 19\u00a0% are saved" in page.read_text(encoding="utf-8")
    assert "3 photographs 72 26 1 45 p = 0.015" in text
    assert text.count("surely worse after 3 photographs") + text.count("outranked after 3 photographs") == 12
    first = page.read_text(encoding="utf-8").partition('class="map"')[2].partition("</svg>")[0]
    assert first.count("out · 3") == 3
    dropped = [row for row in _scores(study) if row["dropped_after"]]
    assert all(f">{row['composite']:+.2f}</text>" not in first for row in dropped if row["strength"] == 0.05)
    front = page.read_text(encoding="utf-8").partition('id="front"')[2].partition("</svg>")[0]
    titles = {row["id"]: f"{inference_phrase(row)}: PSNR-Y" for row in _scores(study) if row["kind"] == "lora"}
    assert len(dropped) == 27 and not any(titles[row["id"]] in front for row in dropped)
    assert sum(title in front for title in titles.values()) == 27


def test_without_a_race_every_setting_saw_every_photograph(tmp_path: Path, photos: Path) -> None:
    made = make_study(tmp_path, photos, rounds=1, limit=2)
    text = words_of(write_report(made.workspace, made.experiment))
    assert "every setting saw every photograph" in text and "out · " not in text


def test_rivals_stand_beside_the_winner_where_they_differ_most(study: Study, page: Path) -> None:
    best = study.root / "round-001"
    rows = pl.read_parquet(best / "scores_by_photo.parquet")
    scores = [row for row in _scores(study) if row["dropped_after"] is None]
    lora = [row for row in scores if row["kind"] == "lora"]
    rivals = [
        lora[0],
        next(row for row in lora if row["epoch"] != lora[0]["epoch"]),
        next(row for row in lora[1:] if row["epoch"] == lora[0]["epoch"]),
        next(row for row in scores if row["kind"] == "base"),
        next(row for row in scores if row["name"] == "non-local means"),
    ]
    shown = rows.filter(pl.col("id").is_in([row["id"] for row in rivals])).group_by("photo")
    spread = shown.agg(size=pl.col("composite").max() - pl.col("composite").min()).sort("size", descending=True)
    section = page.read_text(encoding="utf-8").partition('id="rivals"')[2].partition("</section>")[0]
    headings = [html.unescape(name) for name in re.findall(r"<h3>(.*?) <span", section)]
    assert headings == spread["photo"].to_list()[:4]
    points = [float(value.replace("−", "-")) for value in re.findall(r"<dt>Points</dt><dd>(.*?)</dd>", section)]
    first = rows.filter(pl.col("photo") == headings[0])
    expected = [first.filter(pl.col("id") == row["id"])["composite"][0] for row in rivals]
    assert points[:6] == pytest.approx([0.0, *expected], abs=0.005)


def test_worst_cases_are_shown_first_class(tmp_path: Path, photos: Path, page: Path) -> None:
    assert "makes none of 6 photographs worse than the degraded input. It gains least on this one." in words_of(page)
    harm = make_study(tmp_path, photos, quality=-0.5, rounds=1, limit=5)
    report = write_report(harm.workspace, harm.experiment)
    assert "makes 5 of 5 photographs worse than the degraded input. The worst of them, the worst first." in words_of(
        report
    )
    section = report.read_text(encoding="utf-8").partition('id="worst"')[2].partition("</section>")[0]
    points = [float(value.replace("−", "-")) for value in re.findall(r"<dt>Points</dt><dd>(.*?)</dd>", section)]
    assert len(points) == 8 and points[1::2] == sorted(points[1::2]) and max(points[1::2]) < 0


def test_certainty_stands_in_words(study: Study, page: Path) -> None:
    best = _scores(study)[1]  # the autoencoder is first
    text = words_of(page)
    assert "By the composite it is better than the input on 6 of 6 photographs, p = 0.016." in text
    assert f"95 % interval +{best['composite_low']:.2f} to +{best['composite_high']:.2f}; the input has 0" in text
    assert "Against the best LoRA before, that of round 0, it gains" in text
    assert "The best LoRA gains most with blur (" in text and "gains least with downsampling (" in text


def test_rounds_that_were_stopped_have_their_reason_and_no_score(study: Study, page: Path, tmp_path: Path) -> None:
    assert f"Why it was stopped {PRUNED}" in words_of(page)
    assert "4 rounds of at most 4 are finished. 1 round of them was stopped early." in words_of(page)
    pruned = make_study(tmp_path, Path(), rounds=0, limit=0, pruned=2)
    text = words_of(write_report(pruned.workspace, pruned.experiment))
    assert "No round has been scored." in text and text.count(PRUNED) == 2 and "learning_rate 0.05" in text
    with pytest.raises(DataError, match="no round of study has been scored: After 960 images"):
        load_study(pruned.workspace, pruned.experiment)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Importances(1), "Needs 4 finished rounds with scores; there is 1."),
        (Importances(5), "Nothing to tell: the 5 rounds searched nothing, or scored all the same."),
        (Importances(6, [("adapter.rank", 0.25), ("a<b", 0.75)]), "from 6 rounds (PED-ANOVA). With so few rounds"),
    ],
)
def test_importance_is_shown_with_its_n(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, found: Importances, sentence: str
) -> None:
    made = make_study(tmp_path, photos, rounds=1, limit=2)
    (made.root / "study.log").touch()
    monkeypatch.setattr("lora_core.tuning.importance.importance", lambda *_: found)
    page = write_report(made.workspace, made.experiment)
    assert sentence in words_of(page)
    shares = re.findall(r'<code>(.*?)</code></dt><dd><span class="bar" style="--share:(.*?)">', page.read_text("utf-8"))
    assert shares == [("a&lt;b", "0.7500"), ("adapter.rank", "0.2500")][: 2 if found.shares else 0]


def test_unmet_constraints_and_judgements_stand_at_the_top(tmp_path: Path, photos: Path) -> None:
    made = make_study(tmp_path, photos, rounds=1, limit=2)
    manifest = made.root / "round-000" / "result.json"
    result = json.loads(manifest.read_text())
    write_json(manifest, result | {"constraints": ["No LoRA cell meets scoring.min_gain_psnr_y = 9."]})
    outcomes: dict[str, Outcome] = {f"photo {at}": "win" for at in range(9)} | {"a": "loss", "b": "tie"}
    judgement = Judgement("page", "ab" * 8, 0, result["winner"]["id"], "base", "b", "the base model", 11, outcomes)
    write_judgement(made.workspace.study("study"), judgement)
    head, _, rest = words_of(write_report(made.workspace, made.experiment)).partition("Next")
    assert "What people saw People preferred the best LoRA to the base model in 9 of 11" in rest
    assert "No LoRA cell meets scoring.min_gain_psnr_y = 9." in head
    assert (
        "People preferred the best LoRA to the base model in 9 of 11 comparisons (1 the other way, 1 without a "
        "difference; 1 judge): 90 % of those decided, 95 % interval 60 to 98 %, p = 0.021."
    ) in head


def _scores(study: Study) -> list[dict[str, Any]]:
    """Rows of the best round, the highest composite first."""
    return pl.read_parquet(study.root / "round-001" / "scores.parquet").sort("composite", descending=True).to_dicts()


def test_page_opens_offline_without_errors_or_requests(browser: Browser, page: Path) -> None:
    with visit(browser, page) as seen:
        assert seen.page.locator("h1").inner_text() == "It works."
        assert seen.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert (seen.errors, seen.requests) == ([], [])


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_nothing_overflows_and_everything_is_readable(browser: Browser, page: Path, width: int, dark: bool) -> None:
    with visit(browser, page, width=width, dark=dark) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        assert seen.page.evaluate(_CUT_LABELS) == []
        assert seen.page.evaluate(_FAINT_TEXT) == []


def test_slider_and_choosers_work_by_keyboard(browser: Browser, page: Path) -> None:
    with visit(browser, page) as seen:
        shown = seen.page.locator(".panel.shown")
        assert "median gain" in shown.inner_text()
        slider = shown.get_by_role("slider")
        before = _visible_width(seen.page)
        slider.focus()
        slider.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == "51 % degraded, 49 % restored"
        assert _visible_width(seen.page) == pytest.approx(before * 51 / 50, rel=1e-3)
        seen.page.get_by_label("Restored | Original").focus()
        seen.page.keyboard.press("Space")
        labels = shown.locator(".layer:visible .kind").all_inner_texts()
        assert sorted(labels) == ["Original", "Restored"]
        seen.page.locator("input[name=photograph]:checked").focus()
        seen.page.keyboard.press("ArrowRight")
        assert "median gain" not in shown.inner_text() and shown.count() == 1


def test_tables_sort_and_dropped_rows_stay_last(browser: Browser, page: Path) -> None:
    with visit(browser, page) as seen:
        table = seen.page.locator(".sortable").first
        heading = table.locator("th", has_text="Strength")
        for order in ("ascending", "descending"):
            heading.get_by_role("button").click()
            assert heading.get_attribute("aria-sort") == order
            column = heading.evaluate("heading => heading.cellIndex")
            shown = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
            values = [float(value) for value in shown if value != "–"]
            assert values == sorted(values, reverse=order == "descending")
            assert shown[len(values) :] == ["–"] * (len(shown) - len(values)) and len(values) < len(shown)
        seen.page.locator("summary", has_text="candidates and references with every score").click()
        table = seen.page.locator(".sortable").nth(1)
        for _ in range(2):  # PSNR-Y of three photographs is no neighbour of PSNR-Y of six
            table.locator("th", has_text="PSNR-Y, dB").first.get_by_role("button").click()
            dropped = table.locator("tbody tr").evaluate_all(
                "rows => rows.map(row => row.classList.contains('dropped'))"
            )
            assert sum(dropped) == 27 and all(dropped[-27:])


def test_any_two_settings_can_be_chosen_for_the_map(browser: Browser, page: Path) -> None:
    with visit(browser, page) as seen:
        shown = seen.page.locator(".map:visible")
        assert shown.locator("figcaption").inner_text() == "At start noise 0 and detail return 0.5."
        assert seen.page.locator(".map").count() == 6  # of checkpoint, strength, start noise and detail return
        for down, across in (("detail_return", "start_noise"), ("start_noise", "detail_return")):
            seen.page.locator("[data-side=down]").select_option(down)
            seen.page.locator("[data-side=across]").select_option(across)
            assert shown.count() == 1 and shown.locator(".wide").get_attribute("class") == "chart wide"
            assert shown.locator("figcaption").inner_text() == "At checkpoint 15 and denoise strength 0.2."
        seen.page.locator("[data-side=down]").select_option("detail_return")
        assert shown.count() == 0 and seen.page.get_by_text("Choose two different settings.").is_visible()


def test_hostile_file_names_are_text(browser: Browser, page: Path) -> None:
    assert HOSTILE not in page.read_text(encoding="utf-8")
    with visit(browser, page) as seen:
        dialogs: list[str] = []
        seen.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        seen.page.locator(f'label[title="{HOSTILE}"]').click()
        assert HOSTILE in seen.page.locator(".panel.shown figcaption").inner_text()
        assert seen.page.locator("img[src=x]").count() == 0
        assert (dialogs, seen.errors, seen.requests) == ([], [], [])


def _visible_width(page: Page) -> float:
    """Pixels of the left picture that are not clipped away."""
    return page.locator(".panel.shown .degraded").evaluate(
        "layer => layer.clientWidth * (1 - parseFloat(/calc\\(100% - (.*?)%|([\\d.]+)%/.exec("
        "getComputedStyle(layer).clipPath).filter(Boolean)[1]) / 100)"
    )


# Text of a visible chart that leaves its drawing or touches another text.
_CUT_LABELS = """
[...document.querySelectorAll("svg")].filter(svg => svg.checkVisibility()).flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  const cut = boxes.filter(([, box]) => box.left < whole.left - 1 || box.right > whole.right + 1
    || box.top < whole.top - 1 || box.bottom > whole.bottom + 1).map(([text]) => `cut: ${text}`);
  const covered = boxes.flatMap(([text, a], index) => boxes.slice(index + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([other]) => `covered: ${text} / ${other}`));
  return [...cut, ...covered];
})
"""

# Text whose contrast to what lies behind it is below 4.5 : 1 (WCAG 2 AA).
_FAINT_TEXT = """
(() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const known = new Map();
  const light = (colour) => known.get(colour) ?? known.set(colour, luminance(colour)).get(colour);
  const luminance = (colour) => rgba(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const cell = element.closest("g")?.querySelector("rect.cell");
    if (cell && element.matches(".cell-number")) return getComputedStyle(cell).fill;
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "white";
  };
  return [...document.querySelectorAll("main *")].filter((element) => element.checkVisibility()
      && !element.closest(".stage")
      && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((element) => {
      const style = getComputedStyle(element);
      const [a, b] = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.className, element.textContent.trim()];
    })
    .filter(([ratio]) => ratio < 4.5).map(([ratio, , text]) => `${ratio.toFixed(2)}: ${text}`);
})()
"""
