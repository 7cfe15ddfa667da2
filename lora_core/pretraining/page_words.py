"""The words at the head of the page of a base model: title, sentences and the four key numbers."""

from dataclasses import dataclass

from lora_core.pretraining.epochs import advised_epochs, data_advice
from lora_core.pretraining.estimate import duration
from lora_core.pretraining.page_data import PretrainingData
from lora_core.pretraining.verdict import epochs_words
from lora_core.report.words import MISSING, counted, number, percent

_TITLES = {
    "train on": "Train on: it is still learning.",
    "add photos": "Add photographs: it knows these by heart.",
    "change the base": "This model is at its limit.",
    "good": "A good base.",
}


@dataclass(frozen=True)
class Headline:
    """The head of the page; `fails` colours the title as a warning."""

    title: str
    sentences: tuple[str, ...]
    fails: bool = False


@dataclass(frozen=True)
class Tile:
    """A key number with its unit and what it means."""

    name: str
    value: str
    unit: str
    detail: str


def headline(data: PretrainingData) -> Headline:
    """The verdict on a finished training, else what is under way and what comes next."""
    verdict = data.verdict
    if verdict:
        return Headline(_TITLES[verdict.kind], verdict.sentences, verdict.kind == "change the base")
    again = "This page shows what there is so far; it is written again when the next stage ends."
    if data.unet.done:
        return Headline("Trained, not judged.", ("No validation was run, so nothing can be said of its quality.",))
    if data.unet.begun:
        return Headline("The UNet is being trained.", (_so_far(data), again))
    if data.autoencoder.done:
        return Headline("The autoencoder is trained.", ("The UNet comes next.", again))
    if data.autoencoder.begun:
        return Headline("The autoencoder is being trained.", (again,))
    if data.survey:
        train = data.survey["train"]
        return Headline("The photographs are read.", (data_advice(train), advised_epochs(max(1, train)).words, again))
    return Headline("Nothing has been trained yet.", ("There is a recipe, given below. " + again,))


def _so_far(data: PretrainingData) -> str:
    rows = data.unet.validation
    if not rows:
        return f"{data.unet.log[-1]['images']:,} images seen, not validated yet."
    state = data.plateau
    best = rows[state.best or 0]
    halved = f" The learning rate was halved {counted(len(state.halvings), 'time')}." if state.halvings else ""
    return (
        f"Epoch {epochs_words(rows[-1]['epoch'])}: the loss on unseen photographs is {number(rows[-1]['loss'], 4)}; "
        f"the lowest was {number(best['loss'], 4)} at epoch {epochs_words(best['epoch'])}.{halved}"
    )


def tiles(data: PretrainingData) -> list[Tile]:
    """Loss against the mean, the autoencoder's ceiling, what was trained on, and the speed."""
    return [_loss_tile(data), _autoencoder_tile(data), _photos_tile(data), _speed_tile(data)]


def _loss_tile(data: PretrainingData) -> Tile:
    rows = data.unet.validation
    name = "Loss on unseen photographs"
    if not rows:
        return Tile(name, MISSING, "", "not validated yet")
    best = rows[data.plateau.best or 0]
    where = f"epoch {epochs_words(best['epoch'])}"
    mean = data.reference("mean_predictor")
    if mean is None:
        return Tile(name, number(best["loss"], 4), "", f"lowest so far, {where}")
    share = best["loss"] / mean
    return Tile(name, number(share * 100, 0), "%", f"of answering the mean; {number(best['loss'], 4)} at {where}")


def _autoencoder_tile(data: PretrainingData) -> Tile:
    evaluation, rows = data.evaluation or {}, data.autoencoder.validation
    name = "Autoencoder, PSNR-RGB"
    if evaluation.get("psnr_rgb") is not None:
        crop = evaluation["psnr_rgb_crop"]
        return Tile(name, number(evaluation["psnr_rgb"], 1), "dB", f"there and back, unseen crops of {crop} pixels")
    if rows:
        return Tile(
            name, number(rows[-1]["psnr_rgb"], 1), "dB", f"there and back, epoch {epochs_words(rows[-1]['epoch'])}"
        )
    return Tile(name, MISSING, "", "not trained here, or not yet")


def _photos_tile(data: PretrainingData) -> Tile:
    done, survey = data.unet.done, data.survey
    if done:
        seen = f"{counted(round(done['epochs']), 'epoch')}, {done['images']:,} images seen"
        return Tile("Photographs", f"{done['photos']:,}", "", seen)
    if survey:
        return Tile("Photographs", f"{survey['train']:,}", "", f"{survey['validation']:,} more validate")
    return Tile("Photographs", MISSING, "", "not read yet")


def _speed_tile(data: PretrainingData) -> Tile:
    done, log = data.unet.done, data.unet.log
    name = "Training of the UNet"
    if done and done["seconds"]:
        busy = done.get("busy")
        share = "" if busy is None else f", {percent(busy)} of the time in the step"
        speed = number(done["images"] / done["seconds"], 1)
        return Tile(name, duration(done["seconds"]), "", f"{speed} images a second{share}")
    if not log:
        return Tile(name, MISSING, "", "not begun")
    pace = log[-1].get("images_per_second")
    return Tile(name, f"{log[-1]['images']:,}", "", "images seen so far" + (f", {pace:.1f} a second" if pace else ""))
