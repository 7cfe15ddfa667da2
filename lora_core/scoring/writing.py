"""The tables of a round as files: Parquet, CSV and Excel. Equal scores give equal bytes."""

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import xlsxwriter

from lora_core.files import whole_file, write_with
from lora_core.workspace import RoundFolder

_FORMATS: dict[Any, str] = {
    **dict.fromkeys(("strength", "start_noise", "detail_return", "lora_scale", "guidance_scale"), "General"),
    **dict.fromkeys(("psnr_y", "psnr_rgb"), "0.00"),
    **dict.fromkeys(("ssim_y", "ssim_rgb", "perceptual"), "0.0000"),
    **dict.fromkeys(("gain_psnr_y", "composite", "composite_low", "composite_high"), "+0.00;-0.00;0.00"),
    "gain_ssim_y": "+0.0000;-0.0000;0.0000",
    "gain_perceptual": "+0.0%;-0.0%;0.0%",
    **dict.fromkeys(("p_input", "p_champion"), "[<0.0001]0.0E+00;0.0000"),
    **dict.fromkeys(("ms_ssim", "ssim_skimage", "gmsd", "lpips_alex", "lpips_vgg", "lpips_squeeze", "dists"), "0.0000"),
    **dict.fromkeys(("colour_shift", "sharpness", "ciede2000", "niqe", "musiq"), "0.00"),
    **dict.fromkeys(("clipiqa", "maniqa"), "0.000"),
}


def write_tables(folder: RoundFolder, table: pl.DataFrame, by_photo: pl.DataFrame, conventions: dict[str, str]) -> None:
    """Writes the table of means with its CSV and Excel twins, and the one by photograph.

    Args:
        folder: the round.
        table: a row a cell.
        by_photo: a row a cell and photograph.
        conventions: what each score means; the files' metadata.
    """
    write_with(folder.photo_table, lambda path: by_photo.write_parquet(path, metadata=conventions))
    write_with(folder.table, lambda path: table.write_parquet(path, metadata=conventions))
    write_with(folder.table.with_suffix(".csv"), table.write_csv)
    with whole_file(folder.table.with_suffix(".xlsx")) as path:
        _write_excel(path, table, conventions)


def _write_excel(path: Path, table: pl.DataFrame, conventions: dict[str, str]) -> None:
    with xlsxwriter.Workbook(path) as workbook:
        workbook.set_properties({"created": datetime(2000, 1, 1)})  # a fixed one: equal tables, equal bytes
        formats = {name: text for name, text in _FORMATS.items() if name in table.columns}
        table.write_excel(
            workbook, "scores", column_formats=formats, freeze_panes=(1, 0), autofit=True, autofilter=True
        )
        meanings = pl.DataFrame({"score": list(conventions), "convention": list(conventions.values())})
        meanings.write_excel(workbook, "conventions", freeze_panes=(1, 0), autofit=True)
