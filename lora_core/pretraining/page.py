"""The page of a base model: one HTML file that holds its styles, its charts and its test images.

It is made from the files of the work folder alone, at any time: what a stage has not written yet is said to be missing.
The styles and the drawing are those of the study's report (`lora_core.report`); there is no script.
"""

import base64
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lora_core import report
from lora_core.files import write_text
from lora_core.pretraining.page_charts import draw_autoencoder, draw_loss, draw_rate, draw_timesteps
from lora_core.pretraining.page_data import PretrainingData, load_pretraining
from lora_core.pretraining.page_words import headline, tiles
from lora_core.report.pictures import spread
from lora_core.report.templating import environment
from lora_core.report.words import plain
from lora_core.settings import to_yaml

_TEMPLATES = Path(__file__).with_name("templates")
_SHARED = Path(report.__file__).with_name("templates")
_REJECTS = 20
_SAMPLES = 8


def write_pretraining_report(work: Path) -> Path:
    """Writes `work/report.html` from what the stages have left in `work` so far.

    Raises:
        ConfigError: `work/recipe.yaml` is missing or not valid.
        DataError: a file that is there cannot be read.
        ResourceError: the page cannot be written.
    """
    page = work / "report.html"
    write_text(page, _render(load_pretraining(work)))
    return page


def _render(data: PretrainingData) -> str:
    return (
        environment(_TEMPLATES, _SHARED)
        .get_template("pretraining.html")
        .render(
            data=data,
            style=Markup((_SHARED / "style.css").read_text(encoding="utf-8")),
            head=headline(data),
            tiles=tiles(data),
            loss=draw_loss(data),
            rate=draw_rate(data),
            timesteps=draw_timesteps(data),
            autoencoder=draw_autoencoder(data),
            samples=_samples(data.samples),
            rejects=[(_name_of(row), row.get("reason", "")) for row in data.rejects[:_REJECTS]],
            distances=_distances(data.evaluation),
            recipe=to_yaml(data.recipe),
        )
    )


def _samples(files: list[tuple[int, Path]]) -> list[tuple[int, str]]:
    """(epoch, data URI) of at most `_SAMPLES` test images, first and last among them."""
    chosen = [files[place] for place in spread(len(files), _SAMPLES, 0)]
    encoded = [(epoch, base64.b64encode(path.read_bytes()).decode("ascii")) for epoch, path in chosen]
    return [(epoch, f"data:image/png;base64,{text}") for epoch, text in encoded]


def _name_of(reject: dict[str, Any]) -> str:
    """A row of `rejects.jsonl` names its record by its first value that is not the reason."""
    return next((str(value) for key, value in reject.items() if key != "reason"), "")


def _distances(evaluation: dict[str, Any] | None) -> list[tuple[str, str]]:
    """(name, value in words) of FID and KID where they were computed, as a number or as {"value", "deviation"}."""
    found = []
    for name in ("fid", "kid"):
        value = (evaluation or {}).get(name)
        if value is not None:
            parts = value if isinstance(value, dict) else {"value": value}
            deviation = f" ± {plain(parts['deviation'])}" if parts.get("deviation") is not None else ""
            found.append((name.upper(), f"{plain(parts['value'])}{deviation}"))
    return found
