"""Cleaning: each reason and their order, what counts as the same, and that no text is lost without a count."""

import pytest

from xlbook.cleaning import STEPS, clean, is_foreign, key, normalized


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("a", "en", "too short"),
        ("?!", "en", "too short"),
        ("word " * 100, "en", "too long"),
        ("ab 12:34:56 78", "en", "hardly any letters"),
        ("Bluetooth", "ru", "another script"),
        ("Привет, мир", "en", "another script"),
        ("Turn off the light", "hi", "another script"),
    ],
)
def test_each_reason(text, code, reason):
    cleaned = clean([text], code)
    assert cleaned.texts == [] and cleaned.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("开灯", "zh"),
        ("बत्ती बंद करो", "hi"),
        ("أطفئ الضوء", "ar"),
        ("불 꺼", "ko"),
        ("Включи Wi-Fi в комнате", "ru"),
        ("ライトをつけて", "ja"),
        ("Ligue a luz", "pt-br"),
    ],
)
def test_good_text_stays_in_every_script(text, code):
    assert clean([text], code).texts == [text]


def test_duplicates_and_near_duplicates_are_told_apart():
    texts = ["Set it to 20%", "Set it to 20%", "set it  to 35 %!", "Set it to ten"]
    cleaned = clean(texts, "en")
    assert cleaned.texts == ["Set it to 20%", "Set it to ten"]
    assert cleaned.dropped == {"duplicate": 1, "near duplicate": 1}


def test_vowel_signs_make_a_difference():
    assert clean(["की", "को", "कि"], "hi").texts == ["की", "को", "कि"]


def test_what_is_held_out_does_not_come_back_in_another_spelling():
    cleaned = clean(["Open the door", "OPEN THE DOOR!", "Close the door"], "en", without=["open the door."])
    assert cleaned.texts == ["Close the door"] and cleaned.dropped == {"held out": 2}


def test_every_text_is_kept_or_counted():
    texts = ["a", "Turn on", "turn on!", "Turn on", "x" * 400, "1 2 3 ab", "Свет", "Turn off"]
    cleaned = clean(texts, "en")
    assert len(cleaned.texts) + cleaned.dropped.total() == len(texts)
    assert set(cleaned.dropped) <= {*STEPS, "duplicate", "near duplicate", "held out"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Cafe\u0301", "Café"),
        (" a\tb\n c ", "a b c"),
        ("a\u200bb\ufeff", "ab"),
        ("a\x00b", "ab"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_normalization(raw, expected):
    """Invisible joiners stay: in Persian and Hindi they change how a word is written."""
    assert normalized(raw) == expected


def test_keys():
    assert key("Füße") == key("FÜSSE")
    assert key("on") != key("of") and key("1 lamp") != key("lamp")


def test_scripts_that_the_table_does_not_have_are_not_checked():
    assert not is_foreign("hello", "Zyyy")


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="Unknown language"):
        clean(["text"], "qq")
