"""corpora: what is a sentence, what is the same, and that nothing is in two splits."""

import json
import re
import subprocess
import sys
from collections import Counter
from importlib.resources import files

import pytest

from xlbook import corpora, sources
from xlbook.corpora import (
    clean,
    commands,
    fold,
    lexicon,
    monolingual,
    natural,
    ngrams,
    overlap,
    parallel,
    split_of,
    unmark,
)
from xlbook.languages import COURSE, TARGETS
from xlbook.records import INTENTS, SLOTS, Span

SPLITS = ("train", "dev", "test")


def put_source(cache, name, files):
    """Write a cache entry as ``fetch`` would."""
    entry = cache / "sources" / sources.SOURCES[name].folder
    for path, content in files.items():
        (entry / path).parent.mkdir(parents=True, exist_ok=True)
        (entry / path).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    sources.write_manifest(entry, "a test")


# --- folding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Turn ON the light!", "turn on  the light"),
        ("Straße", "STRASSE"),
        ("打开灯。", "打开灯"),
        ("cafe\u0301", "caf\u00e9"),  # decomposed and composed
        ("نور\u200cافزا", "نورافزا"),  # an invisible joiner is no space
    ],
)
def test_same_sentence(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("की", "को"), ("चालू करो", "चालू करे"), ("เปิด", "เปด"), ("on", "off"), ("être", "etre")]
)
def test_different_sentences(one, other):
    assert fold(one) != fold(other)


def test_vowel_signs_do_not_cut_words():
    assert len(fold("बत्ती चालू करो").split()) == 3


def test_ngrams_are_of_words_or_of_characters_where_there_are_no_spaces():
    assert ngrams("a b c d e") == {("a", "b", "c", "d"), ("b", "c", "d", "e")}
    assert ngrams("打开客厅灯") == {tuple("打开客厅"), tuple("开客厅灯")}
    assert ngrams("a b") == set()


def test_overlap_by_hand():
    # 3 of the 4-grams of "b c d e f" + "x y z w": bcde cdef (known: bcde), xyzw (unknown)
    assert overlap(["a b c d e"], ["b c d e f", "x y z w"]) == pytest.approx(1 / 3)
    assert overlap([], ["a b c d"]) == 0 and overlap(["a b c d"], []) == 0
    assert overlap(["a b c d"], ["A b, c d!"]) == 1


# --- cleaning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Open <b>the</b> window", "Open the window"),
        ("Tom &amp; Ann&nbsp;here", "Tom & Ann here"),
        ("See [the help](https://x.y/z) now", "See the help now"),
        ("Visit https://x.y/z?a=b today", "Visit today"),
        ("Hello {name}!", "Hello …!"),
        ("{count, plural, one {lamp} other {lamps}}", ""),
        ("{gender, select, male {he} other {they}}", ""),
        ("**Bold** and `code`", "Bold and code"),
        ("  two \n lines ", "two lines"),
        ("{name}", ""),
        ("42 %", ""),
        ("°C", ""),
        ("好的", "好的"),
        ("x" * 301, ""),
    ],
)
def test_clean(raw, expected):
    assert clean(raw) == expected


# --- markup of natural commands ---------------------------------------------------------------------------------------


def test_unmark_by_hand():
    text, spans = unmark("把[厨房](area)的[灯](device)关了")
    assert text == "把厨房的灯关了" and spans == (Span(1, 3, "area"), Span(4, 5, "device"))


def test_unmark_names_the_closest_slot():
    with pytest.raises(ValueError, match='Did you mean "area"'):
        unmark("the [kitchen](aera) light")


# --- natural commands (data of the repository) ------------------------------------------------------------------------


def test_the_126_test_commands_are_parallel_in_ten_languages():
    english = natural("en", "test")
    assert len(english) == 126 and len({c.template for c in english}) == 126
    for code in TARGETS:
        other = natural(code, "test")
        assert [(c.template, c.intent) for c in other] == [(c.template, c.intent) for c in english]
        assert {c.language for c in other} == {code}
        assert all(c.text != e.text for c, e in zip(other, english)), "a text was left untranslated"


def test_translations_have_the_same_slots():
    english = {c.template: sorted(s.slot for s in c.slots) for c in natural("en", "test")}
    different = {
        (code, c.template)
        for code in TARGETS
        for c in natural(code, "test")
        if sorted(s.slot for s in c.slots) != english[c.template]
    }
    assert different == {("ko", "n057")}, "half an hour is thirty minutes in Korean; nothing else differs"


def test_texts_are_written_in_the_script_of_their_language():
    import unicodedata

    scripts = {"zh": "CJK", "ru": "CYRILLIC", "ko": "HANGUL", "ar": "ARABIC", "hi": "DEVANAGARI"}
    for code, script in scripts.items():
        for command in natural(code, "test"):
            assert any(unicodedata.name(c, "").startswith(script) for c in command.text), (code, command.text)


def test_every_label_has_at_least_two_test_and_twenty_training_commands():
    tested, taught = (Counter(c.intent for c in natural("en", split)) for split in ("test", "train"))
    assert set(tested) == set(taught) == set(INTENTS)
    assert min(tested.values()) >= 2 and min(taught.values()) >= 20


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("code", COURSE)
def test_slots_are_named_and_not_empty_and_leave_no_markup(code, split):
    if split != "test" and code != "en":
        with pytest.raises(ValueError, match="English only"):
            natural(code, split)
        return
    for command in natural(code, split):
        assert command.text == command.text.strip() != "" and not set("[]") & set(command.text), command.text
        end = 0
        for span in command.slots:
            words = command.text[span.start : span.end]
            assert span.slot in SLOTS and words == words.strip() != "" and span.start >= end, command
            end = span.end


def test_no_english_sentence_is_in_two_splits_or_twice_in_one():
    folded = [fold(c.text) for split in SPLITS for c in natural("en", split)]
    assert [t for t, n in Counter(folded).items() if n > 1] == []
    ids = [c.template for split in SPLITS for c in natural("en", split)]
    assert len(set(ids)) == len(ids)


def test_few_test_phrases_were_taught():
    train, test = ([c.text for c in natural("en", split)] for split in ("train", "test"))
    assert overlap(train, test) < 0.2


def test_natural_errors():
    with pytest.raises(ValueError, match="No natural commands in 'pt'"):
        natural("pt")
    with pytest.raises(ValueError, match='Did you mean "test"'):
        natural("en", "tset")


# --- commands, from a small source ------------------------------------------------------------------------------------


@pytest.fixture
def small(cache):
    """A source with two languages whose templates partly make the same sentences."""
    stop = [f"[please] stop number{n} (now|today|soon)" for n in range(20)] + ["stop {x}"]
    stop += [f"(stop|please stop) number{n} today" for n in range(20)]  # in another split, for some n
    data = {"language": "en", "intents": {"HassNevermind": {"data": [{"sentences": stop}]}}, "lists": {}}
    data["expansion_rules"] = {}
    folder = "home_assistant_intents/data"
    put_source(cache, "commands", {f"{folder}/en.json": data, f"{folder}/zh-cn.json": data | {"language": "zh-cn"}})


def test_small_commands_are_split_without_a_shared_sentence(small):
    splits = {name: commands("en", name, per_template=6) for name in SPLITS}
    texts = {name: {fold(c.text) for c in found} for name, found in splits.items()}
    assert sum(len(found) for found in splits.values()) == len(set().union(*texts.values())) == 120
    assert {c.text for c in commands("en", None, per_template=6)} == {
        c.text for found in splits.values() for c in found
    }
    assert corpora.command_languages() == ["en", "zh"] and commands("zh-CN", "test")[0].language == "zh"


def test_seed_and_limits(small):
    assert commands("en", "train", seed=1) == commands("en", "train", seed=1)
    assert commands("en", "train", seed=1) != commands("en", "train", seed=2)
    assert Counter(c.intent for c in commands("en", "train", per_intent=5)) == {"nevermind": 5}
    once = commands("en", None, per_template=1)
    assert len({c.template for c in once}) == len(once)


def test_coverage_counts_labels_and_missing_lists(small):
    assert corpora.coverage("en") == {"templates": {"nevermind": 40}, "missing": {"{x}": 1}}


@pytest.mark.parametrize("numbers", [{"per_template": 0}, {"per_intent": 0}, {"per_template": -1}])
def test_numbers_below_one(numbers):
    with pytest.raises(ValueError, match="at least 1"):
        commands("en", **numbers)


def test_unknown_split_and_language(small):
    with pytest.raises(ValueError, match='Did you mean "train"'):
        commands("en", "trian")
    with pytest.raises(ValueError, match="'xx' is not in the command templates.*en, zh"):
        commands("xx")


def test_the_same_in_every_process(small):
    code = "from xlbook.corpora import commands; print([c.text for c in commands('en', 'train', seed=5)])"
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=True)
        for environment in ({**__import__("os").environ, "PYTHONHASHSEED": n} for n in "12")
    ]
    assert said[0].stdout == said[1].stdout == f"{[c.text for c in commands('en', 'train', seed=5)]}\n"


# --- parallel strings, from a small source ----------------------------------------------------------------------------


@pytest.fixture
def interface(cache):
    """Interface strings in English, German, Chinese; every third English text occurs twice, some translations too."""
    english = {f"k{n}": f"Sentence number {n}" for n in range(150)} | {
        f"again{n}": f"sentence NUMBER {n}!" for n in range(50)
    }
    german = {
        k: v.replace("Sentence number", "Satz Nummer").replace("sentence NUMBER", "Noch ein Satz")
        for k, v in english.items()
    }
    chinese = {k: f"句子 {v.strip('!').split()[-1]}" for k, v in english.items()}
    chinese |= {f"k{n}": "句子 0" for n in range(0, 150, 5)}  # many texts of all splits share one translation
    german |= {"k0": "Sentence number 0", "k1": "sentence number 1!", "only": "Nur hier"}
    folder = "hass_frontend/static/translations"
    put_source(
        cache,
        "interface",
        {
            f"{folder}/en-0123abcd.json": english | {"plural": "{n, plural, one {a} other {b}}"},
            f"{folder}/de-0123abcd.json": german,
            f"{folder}/zh-Hans-0123abcd.json": chinese,
        },
    )
    return english, german, chinese


def test_pairs_are_aligned_by_key_and_identical_strings_left_out(interface):
    english, german, _ = interface
    pairs = parallel("en", "de")
    assert all(english[p.key] == p.a and german[p.key] == p.b for p in pairs)
    assert not {"k0", "k1", "only", "plural"} & {p.key for p in pairs}
    assert [(p.b, p.a, p.key) for p in pairs] == [(p.a, p.b, p.key) for p in parallel("de", "en")]
    assert corpora.interface_languages() == ["de", "en", "zh"] and parallel("en", "zh-CN") == parallel("en", "zh")


@pytest.mark.parametrize("pair", [("en", "de"), ("en", "zh"), ("de", "zh")])
def test_no_text_of_either_language_is_in_two_splits(interface, pair):
    splits = {name: parallel(*pair, name) for name in SPLITS}
    assert all(splits.values())
    for side in "ab":
        homes = Counter(text for found in splits.values() for text in {fold(getattr(p, side)) for p in found})
        assert max(homes.values()) == 1


def test_one_english_text_has_one_split_in_every_language_and_key(interface):
    english = interface[0]
    for name in SPLITS:
        for a, b in (("en", "de"), ("en", "zh"), ("de", "zh")):
            assert {split_of(english[p.key]) for p in parallel(a, b, name)} == {name}


def test_monolingual_splits_share_nothing_and_repeat_nothing(interface):
    for code in ("en", "de", "zh"):
        found = {name: monolingual(code, name) for name in SPLITS}
        assert all(len(set(texts)) == len(texts) for texts in found.values())
        homes = Counter(t for texts in found.values() for t in set(map(fold, texts)))
        assert max(homes.values()) == 1
        assert set(map(fold, monolingual(code, None))) == set(homes)


def test_monolingual_leaves_out_what_nobody_translated(interface):
    english, german, _ = interface
    left = set(monolingual("de", None))
    assert left == {v for k, v in german.items() if k not in ("k0", "k1", "only")}
    assert {"Sentence number 0", "sentence number 1!"} & set(german.values()) and not left & set(english.values())
    assert set(monolingual("en", None)) == set(english.values()), "English is what the others are compared with"
    assert monolingual("zh-CN", "dev") == monolingual("zh", "dev")


def test_what_is_translated_is_decided_for_each_key_and_folded(cache):
    english = {"a": "Name", "b": "Title", "c": "Back to home", "d": "Standard", "e": "No. 5"}
    german = {"a": "Name", "b": "Name", "c": "Zurück", "d": "standard!", "e": "Standard", "f": "Nur hier"}
    folder = "hass_frontend/static/translations"
    put_source(cache, "interface", {f"{folder}/en-01234567.json": english, f"{folder}/de-01234567.json": german})
    assert corpora.translated("de") == {"b": "Name", "c": "Zurück", "e": "Standard"}
    assert corpora.translated("en") == english
    counts = corpora.interface_counts("de")
    assert (counts["keys"], counts["translated"]) == (6, 3) and sum(counts[name] for name in SPLITS) == 3


def test_unknown_interface_language(interface):
    with pytest.raises(ValueError, match="'fi' is not in the interface strings.*de, en, zh"):
        parallel("en", "fi")
    with pytest.raises(ValueError, match="Unknown split"):
        parallel("en", "de", "validation")


def test_split_sizes_are_about_80_10_10():
    count = Counter(split_of(f"text {n}") for n in range(3000))
    assert abs(count["train"] / 3000 - 0.8) < 0.03 and abs(count["dev"] / 3000 - 0.1) < 0.02


# --- lexicon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "english", "word"),
    [
        ("de", "Germany", "Deutschland"),
        ("zh", "Finland", "芬兰"),
        ("fi", "January", "tammikuu"),
        ("ru", "Monday", "понедельник"),
        ("ar", "Egypt", "مصر"),
        ("hi", "India", "भारत"),
        ("ko", "Korean", "한국어"),
        ("es", "meters", "metros"),
        ("fr", "Swiss Franc", "franc suisse"),
    ],
)
def test_known_translations(code, english, word):
    assert word in {p.b for p in lexicon("en", code) if p.a == english}


@pytest.mark.parametrize("code", TARGETS)
def test_lexicon_has_no_duplicates_and_nothing_untranslated(code):
    pairs = lexicon("en", code)
    assert len(pairs) > 300
    assert len({(p.a, p.b) for p in pairs}) == len(pairs) and len({p.key for p in pairs}) == len(pairs)
    assert all(fold(p.a) != fold(p.b) and p.a.strip() and p.b.strip() for p in pairs)
    assert {(p.b, p.a) for p in lexicon(code, "en")} == {(p.a, p.b) for p in pairs}


def test_identical_words_on_request():
    both = lexicon("en", "de", identical=True)
    assert any(p.a == p.b == "Portugal" for p in both) and not any(p.a == "Portugal" for p in lexicon("en", "de"))


def test_lexicon_of_an_unknown_language():
    with pytest.raises(ValueError, match="Unknown language"):
        lexicon("en", "xx")


# --- the real sources -------------------------------------------------------------------------------------------------


@pytest.mark.sources("commands")
def test_all_languages_of_the_commands_load_or_say_what_they_lack():
    languages = corpora.command_languages()
    assert len(languages) == 65 and set(COURSE) <= set(languages)
    for code in languages:
        made = corpora.grammar_of(code)
        assert made.templates and len({t.id for t in made.templates}) == len(made.templates)
        assert made.missing or code in ("en", "de"), code


@pytest.mark.sources("commands")
def test_a_language_without_fillers_reports_the_lists_it_lacks():
    missing = corpora.coverage("it")["missing"]
    assert missing["{area}"] > 0 and any(name.startswith("{name} of ") for name in missing)


@pytest.mark.sources("commands")
def test_english_templates_have_every_label_in_training_and_where_there_are_two_in_test():
    assert {c.intent for c in commands("en", "train", per_template=2)} == set(INTENTS)
    single = {intent for intent, count in corpora.coverage("en")["templates"].items() if count == 1}
    assert {c.intent for c in commands("en", "test", per_template=2)} >= set(INTENTS) - single and len(single) <= 2


@pytest.mark.sources("commands")
@pytest.mark.parametrize("code", COURSE)
def test_real_commands(code):
    splits = {name: commands(code, name, per_template=2) for name in SPLITS}
    assert all(splits.values()) and splits["test"] == commands(code, "test", per_template=2)
    for unit in (lambda c: c.template, lambda c: fold(c.text)):
        homes = Counter(u for found in splits.values() for u in set(map(unit, found)))
        assert max(homes.values()) == 1
    for command in (c for found in splits.values() for c in found):
        assert command.intent in INTENTS and command.text == " ".join(command.text.split()), command
        assert not set("{}<>|[]") & set(command.text), command
        for span in command.slots:
            words = command.text[span.start : span.end]
            assert span.slot in SLOTS and words == words.strip() != "", command


@pytest.mark.sources("commands")
def test_slots_of_the_real_templates_hold_what_was_filled_in():
    rooms = set(corpora.fillers("zh")["area"])
    lists = corpora.grammar_of("zh").intents.slot_lists
    assert "area" not in lists or not getattr(lists["area"], "values", None)
    found = {c.text[s.start : s.end] for c in commands("zh", per_template=3) for s in c.slots if s.slot == "area"}
    assert found == rooms


@pytest.mark.sources("interface")
@pytest.mark.parametrize("code", ["zh", "de", "ko", "hi"])
def test_real_pairs_share_no_text_between_splits(code):
    splits = {name: parallel("en", code, name) for name in SPLITS}
    assert all(splits.values())
    for side in "ab":
        homes = Counter(text for found in splits.values() for text in {fold(getattr(p, side)) for p in found})
        assert max(homes.values()) == 1
    if code != "hi":
        share = len(splits["test"]) / sum(map(len, splits.values()))
        assert 0.08 < share < 0.13


@pytest.mark.sources("interface")
@pytest.mark.parametrize("code", COURSE)
def test_no_real_monolingual_text_is_the_english_string_of_its_key(code):
    own, english = corpora.interface_strings(code), corpora.interface_strings("en")
    untranslated = {text for key, text in own.items() if fold(text) == fold(english.get(key, ""))}
    elsewhere = set(corpora.translated(code).values())  # the same word under another key, where it is a translation
    assert code == "en" or not (untranslated - elsewhere) & set(monolingual(code, None))
    assert code == "en" or len(elsewhere & set(english.values())) < 20


@pytest.mark.sources("interface")
@pytest.mark.parametrize(("code", "script"), [("hi", "DEVANAGARI"), ("ar", "ARABIC"), ("ko", "HANGUL"), ("zh", "CJK")])
def test_real_monolingual_text_is_in_the_script_of_its_language(code, script):
    import unicodedata

    foreign = [t for t in monolingual(code, None) if not any(unicodedata.name(c, "").startswith(script) for c in t)]
    assert len(foreign) <= 2, foreign


@pytest.mark.sources("interface")
def test_the_card_counts_what_is_left_out():
    card = (files("xlbook") / "data" / "CARD.md").read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^\| ([a-z]{2}) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", card)
    printed = {code: [int(n.replace(",", "")) for n in numbers] for code, *numbers in lines}
    assert printed == {code: list(corpora.interface_counts(code).values()) for code in COURSE}
