"""The languages of the course and of its sources: code, names, script, family, direction.

Names come from Unicode CLDR through babel; the few facts that CLDR does not have (family) stand in one table here.
Codes are the short ones that people use (``zh``), and each source's own spelling is found by :func:`spelling`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xlbook.runtime import did_you_mean

SOURCE = "en"
TARGETS = ("zh", "de", "fr", "es", "ru", "fi", "ko", "ar", "hi")
COURSE = (SOURCE, *TARGETS)

SPELLINGS = {"zh": ("zh", "zh-CN", "zh-Hans"), "zh-tw": ("zh-TW", "zh-Hant"), "no": ("no", "nb")}

FAMILIES = {
    "Indo-European, Germanic": "en de nl af sv da nb no is lb de-ch fy nn",
    "Indo-European, Romance": "fr es it pt pt-br ca gl ro es-419",
    "Indo-European, Slavic": "ru pl cs sk sl hr sr sr-latn bg uk bs mk",
    "Indo-European, Baltic": "lt lv",
    "Indo-European, Celtic": "ga cy kw br",
    "Indo-European, Greek": "el",
    "Indo-European, Armenian": "hy",
    "Indo-European, Indo-Iranian": "hi bn fa gu ne pa ur mr",
    "Uralic": "fi et hu",
    "Turkic": "tr az",
    "Sino-Tibetan": "zh zh-tw zh-hk",
    "Koreanic": "ko",
    "Japonic": "ja",
    "Afro-Asiatic, Semitic": "ar he",
    "Dravidian": "kn ml ta te",
    "Kartvelian": "ka",
    "Austronesian": "id ms",
    "Austroasiatic": "vi",
    "Kra-Dai": "th",
    "Mongolic": "mn",
    "Niger-Congo, Bantu": "sw",
    "Basque (isolate)": "eu",
    "constructed": "eo",
}
FAMILY_OF = {code: family for family, codes in FAMILIES.items() for code in codes.split()}


@dataclass(frozen=True)
class Language:
    """What the course says about a language."""

    code: str
    """Short code, lower case: ``zh``, ``pt-br``."""
    name: str
    """English name."""
    endonym: str
    """The language's name for itself."""
    script: str
    """ISO 15924 code of the usual script: ``Latn``, ``Hans``."""
    family: str
    """Family and branch, or ``unknown``."""
    direction: str
    """``ltr`` or ``rtl``."""


def language(code: str) -> Language:
    """Return the facts about one language.

    Args:
        code: a language code in any of the sources' spellings, upper or lower case (``zh``, ``zh-CN``, ``pt_BR``).

    Raises:
        ValueError: if CLDR does not know the code; the message names the closest course language.

    >>> language("ar").direction
    'rtl'
    >>> language("zh-CN").code
    'zh'
    """
    from babel import Locale, UnknownLocaleError
    from babel.core import get_global

    short = normalize(code)
    tag = {"sr-latn": "sr_Latn"}.get(short, short.replace("-", "_"))
    try:
        locale = Locale.parse(tag)
        likely = get_global("likely_subtags").get(tag) or get_global("likely_subtags").get(tag.split("_")[0], "")
        script = locale.script or next((p for p in str(likely).split("_") if len(p) == 4), "")
        name, endonym = Locale.parse("en").languages.get(locale.language), locale.get_display_name(locale.language)
        name = locale.get_display_name("en") if "-" in short else name
    except (ValueError, UnknownLocaleError, TypeError) as error:
        raise ValueError(f"Unknown language {code!r}. {did_you_mean(code, COURSE)}") from error
    if name is None:
        raise ValueError(f"Unknown language {code!r}. {did_you_mean(code, COURSE)}")
    direction = "rtl" if locale.character_order == "right-to-left" else "ltr"
    return Language(short, name, endonym or name, script or "Zyyy", FAMILY_OF.get(short, "unknown"), direction)


def normalize(code: str) -> str:
    """Return the course's short code for a code in any spelling: ``zh-Hans`` and ``ZH_cn`` both give ``zh``.

    >>> normalize("pt_BR")
    'pt-br'
    """
    lowered = str(code).strip().replace("_", "-").lower()
    for short, variants in SPELLINGS.items():
        if lowered in {v.lower() for v in variants}:
            return short
    return lowered


def spelling(code: str, available: Iterable[str], *, what: str = "this source") -> str:
    """Return how a source spells a language, so that one code works with every source.

    Args:
        code: the course's code or any other spelling.
        available: the codes that the source has.
        what: the name of the source, for the message.

    Raises:
        ValueError: if the source does not have the language; the message lists what it has.

    >>> spelling("zh", ["en", "zh-CN", "zh-TW"])
    'zh-CN'
    """
    names = {normalize(a): a for a in available}
    if found := names.get(normalize(code)):
        return found
    raise ValueError(f"Language {code!r} is not in {what}. {did_you_mean(code, sorted(names))}")


def label(code: str) -> str:
    """Return a label for figures: code and English name in ASCII scripts only.

    >>> label("fi")
    'fi Finnish'
    """
    return f"{normalize(code)} {language(code).name}"
