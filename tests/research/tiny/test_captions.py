from pathlib import Path

import numpy as np
from research.tiny.captions import LOCALES, caption, locales
from research.tiny.faces import TrainingFace

from undistill.names import ANYWHERE, full_name
from undistill.prompts import BUSINESS_TEMPLATE

WOMAN = TrainingFace(Path("x.jpg"), "female", 34.0, ("typical adult asian",))


def test_captions_say_what_is_known_of_the_face() -> None:
    said = [caption(WOMAN, np.random.default_rng(k)) for k in range(400)]
    named = [text for text in said if text.startswith("A professional portrait of ")]
    described = [text for text in said if text.startswith("A portrait of a ")]
    assert 150 < len(named) < 250
    assert BUSINESS_TEMPLATE in said
    assert len(named) + len(described) + said.count(BUSINESS_TEMPLATE) == len(said)
    assert len(set(named)) > 100
    assert {int(text.split()[4]) for text in described} == {32, 33, 34, 35, 36}
    assert all(" year old woman" in text for text in described)
    assert any(text.endswith(", typical adult asian") for text in described)
    assert any(text.endswith("woman") for text in described)


def test_the_same_random_numbers_say_the_same() -> None:
    assert [caption(WOMAN, np.random.default_rng(k)) for k in range(20)] == [
        caption(WOMAN, np.random.default_rng(k)) for k in range(20)
    ]


def test_names_fit_tags() -> None:
    assert locales(["red eyes", "typical adult South-American"]) == LOCALES["south-american"]
    assert locales(["native american"]) == ("en_US",)
    assert locales(["red eyes"]) == ANYWHERE


def test_every_locale_of_a_tag_has_names_for_both() -> None:
    for locale in {locale for fitting in LOCALES.values() for locale in fitting}:
        for gender in ("male", "female"):
            assert len(full_name(gender, locale, np.random.default_rng(1))) >= 2
