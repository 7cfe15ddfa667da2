"""The first screen: did it work, by how much, with which settings, and what to do next."""

from dataclasses import dataclass
from typing import Literal

from lora_core.judging import human_scores
from lora_core.report.data import Row, StudyData
from lora_core.report.pictures import photo_gains
from lora_core.report.words import (
    SPACE,
    chance,
    counted,
    gain_phrases,
    listed,
    number,
    percent,
    plain,
    preference,
    signed,
)
from lora_core.scoring.conclusions import rank

Verdict = Literal["works", "partly", "fails"]
_TITLES: dict[Verdict, str] = {
    "works": "It works.",
    "partly": "It helps, but something simpler does better.",
    "fails": "No LoRA beat the input.",
}


@dataclass(frozen=True)
class Tile:
    """One gain in large figures; `direction` is better, worse or none and decides its colour."""

    name: str
    value: str
    unit: str
    detail: str
    direction: Literal["better", "worse", "none"]


@dataclass(frozen=True)
class Setting:
    """One line of the settings; `code` marks a file or key."""

    name: str
    value: str
    note: str = ""
    code: bool = False


@dataclass(frozen=True)
class Summary:
    """The headline of the page, all in words."""

    verdict: Verdict
    title: str
    sentences: list[str]
    tiles: list[Tile]
    settings: list[Setting]
    settings_note: str
    progress: str


def summarise(study: StudyData) -> Summary:
    """The verdict on the best round's winner."""
    verdict = _verdict(study)
    return Summary(
        verdict=verdict,
        title=_TITLES[verdict],
        sentences=[
            _outcome(study, verdict),
            *_comparisons(study),
            *_by_photo(study),
            *_significance(study),
            *(preference(score) for score in human_scores(study.judgements, study.best.winner["id"])),
        ],
        tiles=_tiles(study),
        settings=_settings(study),
        settings_note=_settings_note(study.best.winner),
        progress=_progress(study),
    )


def _verdict(study: StudyData) -> Verdict:
    beats = study.best.result["beats"]
    if not beats["input"]:
        return "fails"
    return "works" if beats["classical"] and beats["base"] else "partly"


def _outcome(study: StudyData, verdict: Verdict) -> str:
    winner = study.best.winner
    better, worse = gain_phrases(winner)
    photos = f"{counted(winner['photos'], 'photograph')} held out of training"
    if verdict == "fails":
        return (
            f"On {photos}, the best LoRA of {counted(len(study.rounds), 'round')} ends "
            f"{number(abs(winner['composite']), 2)} points below the degraded input itself: {_balance(better, worse)}. "
            "Do not use it; the photographs are better left as they are."
        )
    return f"On {photos}, the best LoRA beats the degraded input: {_balance(better, worse)}."


def _balance(better: list[str], worse: list[str]) -> str:
    return ", but ".join(listed(clauses) for clauses in (better, worse) if clauses)


def _comparisons(study: StudyData) -> list[str]:
    result, own = study.best.result, _points(study.best.winner)
    rivals = {
        "classical": f"the best classical filter ({result['classical']['name']}, {_points(result['classical'])})",
        "base": f"the base model without a LoRA ({_points(result['base'])})",
    }
    beaten = [phrase for key, phrase in rivals.items() if result["beats"][key]]
    ahead = [phrase for key, phrase in rivals.items() if not result["beats"][key]]
    sentences = [f"With {own} it is ahead of {listed(beaten)}."] if beaten else []
    if ahead:
        phrase = listed(ahead)
        verb, score = "is" if len(ahead) == 1 else "are", "" if beaten else f" with its {own}"
        sentences.append(f"{phrase[0].upper()}{phrase[1:]} {verb} ahead of it{score}.")
    return sentences


def _points(row: Row) -> str:
    return f"{signed(row['composite'], 2)}{SPACE}points"


def _by_photo(study: StudyData) -> list[str]:
    gains = [after["psnr_y"] - before["psnr_y"] for _, before, after in photo_gains(study)]
    if len(gains) < 2:
        return []
    risen = sum(gain > 0 for gain in gains)
    span = f"{signed(gains[-1], 2)} to {signed(gains[0], 2)}{SPACE}dB"
    return [f"Photograph by photograph, PSNR-Y changes by {span} and rises in {risen} of {len(gains)}."]


def _significance(study: StudyData) -> list[str]:
    """How sure the composite is: by photograph against the input, and against the champion before."""
    winner, points = study.winner, study.points(study.winner["id"])
    sentences = []
    if points and winner["p_input"] is not None:
        risen = sum(value > 0 for value in points.values())
        sentences.append(
            f"By the composite it is better than the input on {risen} of {counted(len(points), 'photograph')}, "
            f"{chance(winner['p_input'])}."
        )
    before = [one for one in study.rounds if one.number < study.best.number]
    if before and winner["p_champion"] is not None:
        champion = max(before, key=lambda one: (rank(one.winner), -one.number))
        ahead = signed(study.best.composite - champion.composite, 2)
        sentences.append(
            f"Against the best LoRA before, that of round {champion.number}, it gains {ahead}{SPACE}points, "
            f"{chance(winner['p_champion'])}."
        )
    return sentences


def _tiles(study: StudyData) -> list[Tile]:
    winner, source = study.winner, study.best.result["input"]
    distance = winner["gain_perceptual"]
    change, unit = percent(distance).split(SPACE)
    return [
        Tile(
            "PSNR-Y",
            signed(winner["gain_psnr_y"], 2),
            "dB",
            f"{number(source['psnr_y'], 2)} → {number(winner['psnr_y'], 2)} dB",
            _direction(winner["gain_psnr_y"]),
        ),
        Tile(
            "SSIM-Y",
            signed(winner["gain_ssim_y"], 3),
            "",
            f"{number(source['ssim_y'], 3)} → {number(winner['ssim_y'], 3)} of 1",
            _direction(winner["gain_ssim_y"]),
        ),
        Tile(
            f"{winner['perceptual_name']} distance",
            f"{'−' if distance > 0 else '+' if distance < 0 else ''}{change}",
            unit,
            f"{number(source['perceptual'], 3)} → {number(winner['perceptual'], 3)}, lower is better",
            _direction(distance),
        ),
        Tile("Composite", signed(winner["composite"], 2), "points", _span(winner), _direction(winner["composite"])),
    ]


def _span(winner: Row) -> str:
    if winner["composite_low"] is None or winner["composite_high"] is None:
        return "the input has 0"
    return (
        f"95{SPACE}% interval {signed(winner['composite_low'], 2)} to {signed(winner['composite_high'], 2)}; "
        "the input has 0"
    )


def _direction(gain: float) -> Literal["better", "worse", "none"]:
    return "better" if gain > 0 else "worse" if gain < 0 else "none"


def _settings(study: StudyData) -> list[Setting]:
    winner, experiment = study.best.winner, study.best.experiment
    lines = [
        *_files(study),
        Setting("Base model", experiment.base.model, code=True),
        Setting("Denoise strength", plain(winner["strength"]), f"starts at timestep {winner['start_timestep']}"),
        Setting("Start noise", plain(winner["start_noise"]), _noise_note(winner)),
        Setting(
            "Steps",
            counted(winner["steps"], "denoiser evaluation"),
            f"set {winner['num_inference_steps']} sampling steps in a web UI (num_inference_steps)",
        ),
        Setting(
            "Detail return", plain(winner["detail_return"]), "what the autoencoder drops is put back by this share"
        ),
    ]
    if winner["colour_fix"] not in (None, "none"):
        lines.append(Setting("Colour fix", plain(winner["colour_fix"]), "the input's colours are put back"))
    lines.append(_sampler(study))
    return [*lines, Setting("Prompt", experiment.data.prompt)] if experiment.data.prompt else lines


def _noise_note(winner: Row) -> str:
    seed = f", seed {winner['seed']}" if winner["start_noise"] and winner["seed"] is not None else ""
    return f"1 is img2img as web UIs do it, 0 is deterministic{seed}"


def _sampler(study: StudyData) -> Setting:
    winner, spacing = study.best.winner, study.best.experiment.sweep.timestep_spacing
    name = (winner["sampler"] or "ddim").upper() + (f", {spacing} spacing" if spacing else "")
    guidance = 1.0 if winner["guidance_scale"] is None else winner["guidance_scale"]
    return Setting("Sampler", name, f"guidance {plain(guidance)}")


def _files(study: StudyData) -> list[Setting]:
    best = study.best
    checkpoint = best.checkpoint()
    if checkpoint is None:
        return [Setting("LoRA", f"epoch {best.winner['epoch']} of round {best.number}")]
    folder = best.folder.root.relative_to(study.workspace.root)
    kind = "kohya" if checkpoint["kohya"] else "diffusers"
    weight = 1.0 if best.winner["lora_scale"] is None else best.winner["lora_scale"]
    note = f"weight {plain(weight)}; round {best.number}, epoch {best.winner['epoch']}; {kind} format"
    return [Setting("LoRA file", (folder / checkpoint["file"]).as_posix(), note, code=True)]


def _settings_note(winner: Row) -> str:
    if winner["start_noise"] == 1 and winner["detail_return"] == 0 and winner["colour_fix"] in (None, "none"):
        return "A web UI's img2img reaches the same result with these settings."
    missing = ["start noise"] if winner["start_noise"] != 1 else []
    missing += ["detail return"] if winner["detail_return"] != 0 else []
    missing += ["colour fix of this kind"] if winner["colour_fix"] not in (None, "none") else []
    return (
        f"Web UIs know no {listed(missing, 'and no')}. The LoRA works there as well, but do not expect the scores of "
        "this page."
    )


def _progress(study: StudyData) -> str:
    done, planned = len(study.finished), study.experiment.tuning.rounds
    text = f"{counted(done, 'round')} of at most {planned} {'is' if done == 1 else 'are'} finished."
    if study.pruned:
        verb = "was" if len(study.pruned) == 1 else "were"
        text += f" {counted(len(study.pruned), 'round')} of them {verb} stopped early."
    if study.unfinished:
        names = listed([str(number) for number in study.unfinished])
        several = len(study.unfinished) > 1
        text += (
            f" Round{'s' if several else ''} {names} {'have' if several else 'has'} no result yet and "
            f"{'are' if several else 'is'} not on this page."
        )
    return text
