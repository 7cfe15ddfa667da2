"""The report of a synthetic study, as text and in a real browser."""

import html
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, Page

from lora_core import metrics
from lora_core.errors import DataError
from lora_core.experiment import Experiment, load_preset, save_experiment, with_values
from lora_core.files import write_json, write_text
from lora_core.images import read_rgb, write_png
from lora_core.randomness import numpy_generator
from lora_core.report import write_report
from lora_core.report.axes import linear_ticks, log_ticks, tick_labels
from lora_core.report.curves import smooth_line, thinned
from lora_core.report.pictures import spread
from lora_core.report.svg import Box, place_labels, spread_apart
from lora_core.report.words import plain, signed
from lora_core.workspace import RoundFolder, Workspace
from tests.browser import headless_chromium, visit

HOSTILE = "<img src=x onerror=alert(1)>"
EPOCHS = (5, 10, 15)
STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.5)
RATES = (1e-3, 3e-4, 6e-4)
Row = dict[str, Any]


@dataclass
class Study:
    """Writes a study's files as the loop leaves them, `quality` being how well its LoRAs restore (below 0: harm)."""

    workspace: Workspace
    experiment: Experiment
    pictures: dict[str, np.ndarray]
    quality: float = 1.0

    @property
    def root(self) -> Path:
        return self.workspace.study(self.experiment.name).root

    def degraded(self, photo: str) -> np.ndarray:
        clean = self.pictures[photo]
        noise = numpy_generator("degraded", photo).normal(0, 9, clean.shape)
        return np.clip(cv2.GaussianBlur(clean, (0, 0), 1.6) + noise, 0, 255).round().astype(np.uint8)

    def restored(self, photo: str, quality: float) -> np.ndarray:
        """Part of the way from degraded to clean, less for the photographs that come later."""
        share = quality * (0.62 - 0.5 * list(self.pictures).index(photo) / len(self.pictures))
        degraded = self.degraded(photo).astype(np.float64)
        return np.clip(degraded + share * (self.pictures[photo] - degraded), 0, 255).round().astype(np.uint8)

    def write_pictures(self) -> None:
        for photo, clean in self.pictures.items():
            write_png(self.root / "test" / "original" / f"{photo}.png", clean)
            write_png(self.root / "test" / "degraded" / f"{photo}.png", self.degraded(photo))

    def write_round(self, number: int, changes: Row, progress: float, reason: str) -> None:
        """A round whose best LoRA goes `progress` of the way that `quality` allows; its pictures are really scored."""
        folder = RoundFolder(self.root / f"round-{number:03d}")
        cells = [self._cell(number, *place) for place in self._grid()]
        winner = max((cell for cell in cells if cell["kind"] == "lora"), key=lambda cell: cell["share"])
        photo_rows = self._photo_rows("input", 0.0) + self._photo_rows(winner["id"], progress * self.quality)
        source = _means(photo_rows, "input")
        won, good = _means(photo_rows, winner["id"]), _means(self._photo_rows("good", 1.0), "good")
        rows = []
        for row in [*(self._reference(name, share) for name, share in _REFERENCES.items()), *cells]:
            goal, share = (won, row["share"] / winner["share"]) if row["kind"] == "lora" else (good, row["share"])
            if goal is won and self.quality < 0:
                share = 2 - share  # where every LoRA does harm, the best does the least
            turn = 1.0 if row is winner else 0.85 + 0.9 * (row["start_noise"] or 0) + 0.5 * (row["strength"] or 0)
            shares = {key: share * (turn if key == "perceptual" else 1) for key in source}
            scores = {key: source[key] + shares[key] * (goal[key] - source[key]) for key in source}
            rows.append({key: row[key] for key in row if key != "share"} | scores | _gains(scores, source))
        rows = [{**row, "photos": len(self.pictures), "perceptual_name": "GMSD"} for row in rows]
        for photo in self.pictures:
            picture = self.restored(photo, progress * self.quality)
            write_png(self.root / "cells" / winner["id"] / f"{photo}.png", picture)
        save_experiment(with_values(self.experiment, changes), folder.experiment)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder.table, metadata=metrics.CONVENTIONS)
        pl.DataFrame(photo_rows).write_parquet(folder.photo_table)
        self._write_training(folder, number, changes)
        self._write_result(folder, number, changes, reason, rows, winner["id"])

    def _grid(self) -> Iterator[tuple[int | None, float, float, int, float]]:
        sweep = self.experiment.sweep
        return itertools.product((None, *EPOCHS), STRENGTHS, sweep.start_noises, sweep.steps, sweep.detail_returns)

    def _cell(self, number: int, epoch: int | None, strength: float, noise: float, steps: int, detail: float) -> Row:
        closeness = math.exp(-((math.log(strength / 0.2) / 1.1) ** 2)) * (1 - 0.5 * abs(detail - 0.5))
        share = (0.4 + 0.04 * (epoch or 0) - 0.0011 * (epoch or 0) ** 2) * closeness if epoch else -0.4 * strength
        share -= 0.7 * noise * (0.3 + strength) + 0.15 * (1 - detail)
        kind = "lora" if epoch else "base"
        return {
            "id": f"{kind}-{number if epoch else 0}-{epoch}-{strength}-{noise}-{steps}-{detail}",
            "kind": kind,
            "name": f"epoch {epoch}" if epoch else "base without LoRA",
            "epoch": epoch,
            "strength": strength,
            "start_noise": noise,
            "steps": steps,
            "num_inference_steps": math.ceil(steps / strength),
            "start_timestep": int(strength * 1000) - 1,
            "detail_return": detail,
            "share": share,
        }

    def _reference(self, name: str, share: float) -> Row:
        empty = ("epoch", "strength", "start_noise", "steps", "num_inference_steps", "start_timestep", "detail_return")
        return {"id": name, "kind": "reference", "name": name, **dict.fromkeys(empty), "share": share}

    def _photo_rows(self, cell: str, quality: float) -> list[Row]:
        rows = []
        for photo, clean in self.pictures.items():
            picture = self.restored(photo, quality)
            rows.append(
                {
                    "id": cell,
                    "photo": photo,
                    "psnr_y": metrics.psnr_y(picture, clean),
                    "psnr_rgb": metrics.psnr_rgb(picture, clean),
                    "ssim_y": metrics.ssim_y(picture, clean),
                    "ssim_rgb": metrics.ssim_rgb(picture, clean),
                    "perceptual": metrics.gmsd(picture, clean),
                }
            )
        return rows

    def _write_training(self, folder: RoundFolder, number: int, changes: Row) -> None:
        rate = changes.get("training.learning_rate", self.experiment.training.learning_rate)
        draw = numpy_generator("loss", number)
        lines = []
        for update in range(1, 301):
            loss = (0.03 + 0.14 * math.exp(-update / (30 + 20 * number))) * math.exp(draw.normal(0, 0.22))
            warm = min(1.0, update / 15) * (0.5 + 0.5 * math.cos(math.pi * update / 300))
            line = {"images": 48 * update, "epoch": update / 20, "update": update}
            lines.append(json.dumps(line | {"loss": loss, "learning_rate": rate * warm}))
        write_text(folder.train_log, "\n".join(lines) + '\n{"images": 144')
        name = self.experiment.name
        checkpoints = [
            {
                "epoch": epoch,
                "kohya": f"checkpoints/{name}-{epoch:06d}.safetensors",
                "diffusers": f"checkpoints/{name}-{epoch:06d}",
                "digest": f"{number}{epoch:02d}" * 21 + "f",
            }
            for epoch in EPOCHS
        ]
        done = {"images": 14400, "epochs": 15, "stopped": "complete", "photos": 96, "checkpoints": checkpoints}
        write_json(folder.training_done, done)

    def _write_result(
        self, folder: RoundFolder, number: int, changes: Row, reason: str, rows: list[Row], winner: str
    ) -> None:
        by_name = {row["name"]: row for row in rows if row["kind"] == "reference"}
        best = next(row for row in rows if row["id"] == winner)
        base = max((row for row in rows if row["kind"] == "base"), key=lambda row: row["composite"])
        classical = max((by_name[name] for name in _CLASSICAL), key=lambda row: row["composite"])
        rivals = {"input": by_name["input"], "classical": classical, "base": base}
        result = {
            "round": number,
            "digest": "3a" * 32,
            "base_digest": "b7" * 32,
            "dataset_digest": "d0" * 32,
            "changes": changes,
            "reason": reason,
            "winner": best,
            **rivals,
            "autoencoder": by_name["autoencoder"],
            "perceptual": {"name": "GMSD", "reason": "GMSD instead of LPIPS: AlexNet weights are not in the cache."},
            "beats": {name: best["composite"] > rival["composite"] for name, rival in rivals.items()},
            "diagnosis": [
                {
                    "code": "still-improving",
                    "says": "The last checkpoint is the best one and 0.21 points ahead of the one before.",
                    "advice": {"training.epochs": {"low": 15, "high": 30}, "objective.kind": {"choices": ["bridge"]}},
                }
            ],
            "pruned": False,
        }
        write_json(folder.result, result)


_REFERENCES = {"input": 0.0, "autoencoder": 1.3, "non-local means": 0.2, "bilateral": 0.1, "unsharp mask": -0.2}
_CLASSICAL = ("non-local means", "bilateral", "unsharp mask")
_SCORES = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "perceptual")


def _means(rows: list[Row], cell: str) -> Row:
    return {score: float(np.mean([row[score] for row in rows if row["id"] == cell])) for score in _SCORES}


def _gains(row: Row, source: Row) -> Row:
    psnr, ssim = row["psnr_y"] - source["psnr_y"], row["ssim_y"] - source["ssim_y"]
    distance = (source["perceptual"] - row["perceptual"]) / source["perceptual"]
    composite = (psnr + ssim / 0.04 + distance / 0.1) / 3
    return {"gain_psnr_y": psnr, "gain_ssim_y": ssim, "gain_perceptual": distance, "composite": composite}


def make_study(root: Path, photos: Path, *, quality: float = 1.0, rounds: int = 3, limit: int = 6) -> Study:
    files = sorted(photos.iterdir())[:limit]
    pictures = {(HOSTILE if at == 0 else file.stem): read_rgb(file) for at, file in enumerate(files)}
    grid = {"sweep.strengths": STRENGTHS, "sweep.start_noises": (0.0, 0.5), "sweep.detail_returns": (0.0, 0.5, 1.0)}
    experiment = with_values(load_preset("pocket"), {**grid, "name": "study"})
    study = Study(Workspace(root), experiment, pictures, quality)
    study.write_pictures()
    for number in range(rounds):
        rank = (32, 16, 64, 32)[number % 4]
        changes = {"training.learning_rate": RATES[number % 3], "adapter.rank": rank} if number else {}
        reason = "the experiment as given" if not number else "a lower rate, because the loss of round 0 jumped"
        study.write_round(number, changes, 1.1 - 0.9 / (number + 2) - 0.1 * (number % 3 == 2), reason)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Study:
    made = make_study(tmp_path_factory.mktemp("study"), photos)
    (made.root / "round-003" / "training").mkdir(parents=True)
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
    assert "Round 3 has no result yet" in text
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


def test_at_most_twelve_photographs_of_512_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(14):
        write_png(tmp_path / "photos" / f"{number}.png", rng.integers(0, 256, (14, 16, 3)).astype(np.uint8))
    write_png(tmp_path / "photos" / "large.png", rng.integers(0, 256, (530, 620, 3)).astype(np.uint8))
    made = make_study(tmp_path, tmp_path / "photos", rounds=1, limit=15)
    text = write_report(made.workspace, made.experiment).read_text(encoding="utf-8")
    sizes = [tuple(map(int, size)) for size in re.findall(r"--w:(\d+);--h:(\d+)", text)]
    assert len(sizes) == 12 and max(map(max, sizes)) <= 512
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
    write_json(manifest, json.loads(manifest.read_text()) | {"dataset_digest": "e1" * 32})
    assert "different photographs: their composites cannot be compared" in words_of(
        write_report(made.workspace, made.experiment)
    )


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


def test_tables_sort_and_slices_switch(browser: Browser, page: Path) -> None:
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
        seen.page.get_by_label("Detail return").select_option("0")
        assert seen.page.locator(".slice:visible figcaption").all_inner_texts() == [
            "start noise 0, steps 1, detail return 0"
        ]


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


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-1.7, 4.2, ["−1", "0", "1", "2", "3", "4"]),
        (0.0301, 0.0349, ["0.031", "0.032", "0.033", "0.034"]),
        (0, 14400, ["0", "2,500", "5,000", "7,500", "10,000", "12,500"]),
    ],
)
def test_linear_ticks_are_round_numbers_inside_the_range(low: float, high: float, ticks: list[str]) -> None:
    assert tick_labels(linear_ticks(low, high, 5)) == ticks


def test_log_ticks_get_coarser_with_the_range() -> None:
    assert log_ticks(0.02, 0.21) == pytest.approx([0.02, 0.05, 0.1, 0.2])
    assert log_ticks(1e-5, 1e3) == pytest.approx([10.0**power for power in range(-5, 4)])


def test_labels_are_pushed_apart_but_stay_inside() -> None:
    placed = spread_apart([50, 52, 51, 99, 98], 12, 0, 100)
    assert np.diff(sorted(placed)).min() >= 12 and min(placed) >= 0 and max(placed) <= 100
    assert np.argsort(placed).tolist() == [0, 2, 1, 4, 3]
    bounds = Box(0, 0, 300, 200)
    labels = place_labels([(150.0 + step, 100.0, f"reference {step}") for step in range(6)], [], bounds)
    boxes = [label.box for label in labels]
    assert all(box.outside(bounds) == pytest.approx(0) for box in boxes)
    assert all(one.overlap(other) == 0 for one, other in itertools.combinations(boxes, 2))


def test_smoothing_keeps_lines_and_thinning_keeps_means() -> None:
    at = np.linspace(0, 1000, 200)
    line = 3.0 - 0.002 * at
    assert smooth_line(at, line, 0.01)[20:-20] == pytest.approx(line[20:-20])
    images, means = thinned(at, line, 50)
    assert len(images) == 50 and means.mean() == pytest.approx(line.mean())


@pytest.mark.parametrize(("count", "limit", "keep"), [(3, 12, 1), (12, 12, 5), (13, 12, 6), (100, 12, 49)])
def test_photographs_are_spread_from_best_over_median_to_worst(count: int, limit: int, keep: int) -> None:
    chosen = spread(count, limit, keep)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(count, limit)
    assert {0, keep, count - 1} <= set(chosen)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (signed(1.234, 2), "+1.23"),
        (signed(-0.004, 2), "0.00"),
        (signed(-2.5, 1), "−2.5"),
        (signed(float("nan"), 2), "–"),
        (plain(3e-05), "3e−5"),
        (plain(0.0003), "0.0003"),
        (plain((0.1, 0.2)), "0.1, 0.2"),
        (plain(True), "yes"),
    ],
)
def test_numbers_as_a_person_reads_them(shown: str, text: str) -> None:
    assert shown == text
