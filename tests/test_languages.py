"""languages: facts against a table of our own, spellings of the sources, messages."""

import pytest

from xlbook import languages
from xlbook.languages import COURSE, FAMILIES, FAMILY_OF, label, language, normalize, spelling

# ISO 15924 scripts and English names, typed from the standards' tables
KNOWN = {
    "en": ("English", "Latn", "ltr"),
    "zh": ("Chinese", "Hans", "ltr"),
    "de": ("German", "Latn", "ltr"),
    "fr": ("French", "Latn", "ltr"),
    "es": ("Spanish", "Latn", "ltr"),
    "ru": ("Russian", "Cyrl", "ltr"),
    "fi": ("Finnish", "Latn", "ltr"),
    "ko": ("Korean", "Kore", "ltr"),
    "ar": ("Arabic", "Arab", "rtl"),
    "hi": ("Hindi", "Deva", "ltr"),
    "he": ("Hebrew", "Hebr", "rtl"),
    "fa": ("Persian", "Arab", "rtl"),
    "ur": ("Urdu", "Arab", "rtl"),
    "th": ("Thai", "Thai", "ltr"),
    "el": ("Greek", "Grek", "ltr"),
    "ja": ("Japanese", "Jpan", "ltr"),
    "sr": ("Serbian", "Cyrl", "ltr"),
}


@pytest.mark.parametrize("code", KNOWN)
def test_facts(code):
    found = language(code)
    assert (found.name, found.script, found.direction) == KNOWN[code]


@pytest.mark.parametrize(
    ("code", "endonym"),
    [("zh", "中文"), ("de", "Deutsch"), ("fi", "suomi"), ("ar", "العربية"), ("hi", "हिन्दी"), ("ko", "한국어")],
)
def test_endonyms(code, endonym):
    assert language(code).endonym == endonym


@pytest.mark.parametrize(
    ("code", "script"), [("sr-latn", "Latn"), ("zh-tw", "Hant"), ("zh-hk", "Hant"), ("zh-CN", "Hans")]
)
def test_scripts_of_regional_codes(code, script):
    assert language(code).script == script


def test_the_course_has_ten_languages_with_a_family_each():
    assert len(set(COURSE)) == 10 and COURSE[0] == "en"
    assert {language(c).family for c in COURSE} <= set(FAMILIES)


def test_no_language_has_two_families():
    listed = [code for codes in FAMILIES.values() for code in codes.split()]
    assert len(listed) == len(set(listed)) == len(FAMILY_OF)


@pytest.mark.parametrize("code", sorted(FAMILY_OF))
def test_every_language_with_a_family_is_known_to_cldr(code):
    found = language(code)
    assert found.name.isascii(), "figures show the name, and fonts lack other scripts"
    assert found.direction in ("ltr", "rtl") and len(found.script) == 4 and found.script != "Zyyy"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("zh-Hans", "zh"), ("ZH_cn", "zh"), ("zh-TW", "zh-tw"), ("zh_Hant", "zh-tw"), ("nb", "no"), (" pt_BR ", "pt-br")],
)
def test_normalize(given, expected):
    assert normalize(given) == expected


@pytest.mark.parametrize(
    ("code", "available", "expected"),
    [
        ("zh", ["zh-Hans", "zh-Hant"], "zh-Hans"),
        ("zh-tw", ["zh-Hans", "zh-Hant"], "zh-Hant"),
        ("ZH_cn", ["en", "zh-Hans"], "zh-Hans"),
        ("no", ["nb", "nn"], "nb"),
        ("pt-br", ["pt", "pt_BR"], "pt_BR"),
        ("pt", ["pt", "pt-BR"], "pt"),
    ],
)
def test_spelling_finds_the_sources_own_code(code, available, expected):
    assert spelling(code, available) == expected


def test_spelling_says_what_the_source_has():
    with pytest.raises(ValueError, match=r"'fr' is not in the shop\..*Allowed: de, zh\."):
        spelling("fr", ["zh-CN", "de"], what="the shop")


@pytest.mark.parametrize("code", ["", "x", "xx", "klingon", "zz-top", "12", "../en"])
def test_unknown_languages(code):
    with pytest.raises(ValueError, match="Unknown language"):
        language(code)


def test_unknown_language_names_the_closest_course_language():
    with pytest.raises(ValueError, match='Did you mean "zh"'):
        language("zhh")


def test_labels_for_figures_are_ascii():
    assert label("zh-CN") == "zh Chinese"
    assert all(label(c).isascii() for c in COURSE)


def test_source_is_no_target():
    assert languages.SOURCE not in languages.TARGETS
