"""What is said of a face: its age and gender, a tag, or a name that fits."""

from collections.abc import Sequence

from numpy.random import Generator

from research.tiny.faces import TrainingFace
from undistill.names import ANYWHERE, full_name
from undistill.prompts import BUSINESS_TEMPLATE

# Words of tags, and the locales of Faker whose names fit. The first that occurs counts.
LOCALES = {
    "native american": ("en_US",),
    "south-american": ("es_CO", "pt_BR"),
    "hispanic": ("es_MX", "es_CO", "es_ES"),
    "african": ("en_KE", "tw_GH", "yo_NG", "zu_ZA"),
    "asian": ("ja_JP", "ko_KR", "th_TH", "zh_CN"),
    "irish": ("en_IE",),
    "scandinavian": ("da_DK", "fi_FI", "no_NO", "sv_SE"),
    "persian": ("fa_IR",),
    "middle eastern": ("fa_IR", "tr_TR"),
    "caucasian": ("de_DE", "en_GB", "fr_FR", "it_IT", "pl_PL"),
}


def locales(tags: Sequence[str]) -> tuple[str, ...]:
    """Where names come from that fit a face: by the ethnicity that its tags name, else from anywhere."""
    words = " ".join(tags).lower()
    return next((fitting for word, fitting in LOCALES.items() if word in words), ANYWHERE)


def describe_person(gender: str, age: float) -> str:
    """E.g. "a 35 year old woman"."""
    return f"a {age:.0f} year old {'man' if gender == 'male' else 'woman'}"


def caption(face: TrainingFace, random: Generator) -> str:
    """One of many: half of them a name, in the paper's form; the others age, gender and often a tag."""
    kind = random.random()
    if kind < 0.5:
        locale = str(random.choice(locales(face.tags)))
        return f"A professional portrait of {full_name(face.gender, locale, random)}"
    if kind < 0.56:
        return BUSINESS_TEMPLATE
    # Estimates of age are no better than this, and an age that no face has must mean something too.
    text = f"A portrait of {describe_person(face.gender, max(18, face.age + random.integers(-2, 3)))}"
    if face.tags and random.random() < 0.6:
        text += f", {random.choice(face.tags)}"
    return text
