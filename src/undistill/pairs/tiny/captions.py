"""What is said of a face: its age and gender, a tag, or a name that fits."""

from collections.abc import Sequence
from functools import cache

from faker import Faker
from numpy.random import Generator

from undistill.pairs.tiny.faces import Face

ANYWHERE = (
    *("cs_CZ", "da_DK", "de_DE", "el_GR", "en_GB", "en_IE", "en_IN", "en_KE", "en_US", "es_CO", "es_ES", "es_MX"),
    *("fa_IR", "fi_FI", "fr_FR", "hi_IN", "hu_HU", "id_ID", "it_IT", "ja_JP", "ko_KR", "nl_NL", "no_NO", "pl_PL"),
    *("pt_BR", "ro_RO", "ru_RU", "sv_SE", "th_TH", "tr_TR", "tw_GH", "yo_NG", "zh_CN", "zu_ZA"),
)
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
_FAMILY_FIRST = {"ja_JP": " ", "ko_KR": "", "zh_CN": ""}

BUSINESS = "A professional business portrait"


@cache
def _faker(locale: str) -> Faker:
    return Faker(locale)


def name(gender: str, locale: str, random: Generator) -> str:
    """A full name by Faker, in the script and the order of the locale."""
    faker = _faker(locale)
    faker.seed_instance(int(random.integers(2**63)))
    if gender == "male":
        first, family = faker.first_name_male(), faker.last_name_male()
    else:
        first, family = faker.first_name_female(), faker.last_name_female()
    if locale in _FAMILY_FIRST:
        return f"{family}{_FAMILY_FIRST[locale]}{first}"
    return f"{first} {family}"


def locales(tags: Sequence[str]) -> tuple[str, ...]:
    """Where names come from that fit a face: by the ethnicity that its tags name, else from anywhere."""
    words = " ".join(tags).lower()
    return next((fitting for word, fitting in LOCALES.items() if word in words), ANYWHERE)


def person(gender: str, age: float) -> str:
    """E.g. "a 35 year old woman"."""
    return f"a {age:.0f} year old {'man' if gender == 'male' else 'woman'}"


def caption(face: Face, random: Generator) -> str:
    """One of many: half of them a name, in the paper's form; the others age, gender and often a tag."""
    kind = random.random()
    if kind < 0.5:
        locale = str(random.choice(locales(face.tags)))
        return f"A professional portrait of {name(face.gender, locale, random)}"
    if kind < 0.56:
        return BUSINESS
    # Estimates of age are no better than this, and an age that no face has must mean something too.
    text = f"A portrait of {person(face.gender, max(18, face.age + random.integers(-2, 3)))}"
    if face.tags and random.random() < 0.6:
        text += f", {random.choice(face.tags)}"
    return text
