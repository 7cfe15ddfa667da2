"""Lists of numbers in the web UIs' short form."""

import pytest

from lora_core.errors import ConfigError
from lora_core.experiment import SweepSection, apply_overrides, load_preset
from lora_core.sections.ranges import expand


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.2-0.8 [4]", [0.2, 0.4, 0.6, 0.8]),
        ("1-10 (+2)", [1, 3, 5, 7, 9]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("0.1-0.3 (+0.1)", [0.1, 0.2, 0.3]),
        ("0.05, 0.1-0.2 [3], 1", [0.05, 0.1, 0.15, 0.2, 1]),
        ("7", [7]),
    ],
)
def test_short_forms(text, numbers):
    assert expand(text) == numbers
    assert [type(number) for number in expand(text)] == [type(number) for number in numbers]


def test_lists_may_hold_short_forms_and_other_things_stay():
    assert expand([0.1, "0.2-0.4 [3]"]) == [0.1, 0.2, 0.3, 0.4]
    assert expand(None) is None
    section = SweepSection(strengths="0.2-0.8 [4]", steps="1-3", seeds=[3])
    assert section.strengths == (0.2, 0.4, 0.6, 0.8) and section.steps == (1, 2, 3)
    assert apply_overrides(load_preset("pocket"), ["sweep.strengths=0.1-0.3 (+0.1)"]).sweep.strengths == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sweep.strengths=0.2-0.8", r"does not say how many: write '0.2-0.8 \[4\]'"),
        ("sweep.strengths=0.8-0.2 [4]", "runs downwards"),
        ("sweep.strengths=0.2-0.8 [1]", "2 to 10000 values"),
        ("sweep.strengths=0.2-0.8 (+0)", "step must be above 0"),
        ("sweep.strengths=a little", "neither a number nor a range"),
        ("sweep.strengths=0.5-1.5 [3]", r"strengths: 1.5 is outside \(0, 1\]"),
        ("sweep.strengths=0.2,0.1-0.3 [3]", "strengths: a value is given twice"),
        ("sweep.steps=1-2 [3]", "valid integer"),
        ("sweep.guidance_scales=[0.5]", r"guidance_scales: 0.5 is outside \[1, 30\]"),
        ("sweep.lora_scales=[0]", r"lora_scales: 0.0 is outside \(0, 4\]"),
        ("sweep.colour_fixes=[histogram]", "'none', 'adain' or 'wavelet'"),
        ("sweep.samplers=[]", "at least 1 item"),
        ("sweep.sampler=ddim", "did you mean 'sweep.samplers'"),
        ("sweep.race_confidence=1.0", "less than 1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides(load_preset("pocket"), [setting])
