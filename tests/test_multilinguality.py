"""multilinguality: CKA against its definition, probes on worlds whose answer is known, cards of real languages."""

import e5_writer
import numpy as np
import pytest

from xlbook import corpora, multilinguality
from xlbook.languages import COURSE
from xlbook.multilinguality import (
    FEWEST,
    amounts,
    anisotropy,
    cka,
    identity_probe,
    neighbours,
    offset,
    own_language_neighbours,
    principal_axes,
    same_count,
    sample_pairs,
    shared_strings,
)
from xlbook.records import Pair
from xlbook.representations import retrieval

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)) @ RNG.normal(size=(6, 6)) + 3
Y = np.tanh(X @ RNG.normal(size=(6, 5))) + 0.3 * RNG.normal(size=(40, 5)) - 2


# --- CKA --------------------------------------------------------------------------------------------------------------


def hsic(k, g):
    """Kornblith et al. (2019), equation 3: tr(K H L H) / (n - 1)^2 with the centring matrix H."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(k @ h @ g @ h) / (n - 1) ** 2


def test_cka_is_its_definition_by_hsic():
    k, g = X @ X.T, Y @ Y.T
    assert cka(X, Y) == pytest.approx(hsic(k, g) / np.sqrt(hsic(k, k) * hsic(g, g)), rel=1e-9)


def test_cka_does_not_change_under_rotation_move_and_scale():
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    assert cka(X, Y @ rotation) == pytest.approx(cka(X, Y))
    assert cka(X, Y + 100) == pytest.approx(cka(X, Y))
    assert cka(X, -7 * Y) == pytest.approx(cka(X, Y))
    assert cka(X, Y) == pytest.approx(cka(Y, X))


def test_cka_changes_under_other_linear_maps():
    stretch = np.diag([10, 1, 1, 1, 0.1])
    assert abs(cka(X, Y @ stretch) - cka(X, Y)) > 0.02


def test_cka_of_the_same_space_is_one_and_of_shuffled_rows_is_less():
    assert cka(X, X) == pytest.approx(1)
    assert cka(X, X[RNG.permutation(len(X))]) < 0.5


def test_cka_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="40 and 39"):
        cka(X, Y[1:])
    with pytest.raises(ValueError, match="the same"):
        cka(X, np.ones((40, 3)))


# --- cones, probes, maps ----------------------------------------------------------------------------------------------


def test_anisotropy_by_hand():
    assert anisotropy(np.array([[1.0, 0.0], [0.0, 2.0]])) == pytest.approx(0)
    assert anisotropy(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 5.0]])) == pytest.approx((0.6 + 0 + 0.8) / 3)
    assert anisotropy(RNG.normal(size=(200, 50)) + 10) > 0.95


def apart(distance, languages=4, texts=60):
    """Languages with the same meanings, each moved by its own step of some length."""
    meaning = RNG.normal(size=(texts, 8))
    steps = RNG.normal(size=(languages, 8))
    return {f"l{i}": meaning + distance * s + 0.05 * RNG.normal(size=meaning.shape) for i, s in enumerate(steps)}


def test_the_probe_names_languages_that_lie_apart():
    assert identity_probe(apart(5)) > 0.95
    assert identity_probe(apart(0)) < 0.45  # chance is 0.25, on 30 texts a language


def test_a_linear_probe_finds_nothing_once_means_are_off():
    assert identity_probe(apart(5), centred=True) < 0.45


def test_a_linear_probe_is_blind_where_neighbours_are_not():
    """Two languages with one mean, one of them stretched: no line parts them, yet each text lies in its own cloud."""
    inner, far = RNG.normal(size=(80, 8)), RNG.normal(size=(80, 8))
    far[:40] += 20 * np.eye(8)[0]
    far[40:] -= 20 * np.eye(8)[0]
    world = {"a": inner, "b": far[RNG.permutation(80)]}
    assert identity_probe(world, centred=True) < 0.8
    assert own_language_neighbours(world, centred=True) > 0.8


def test_neighbours_know_languages_that_lie_apart():
    assert own_language_neighbours(apart(8)) > 0.9
    assert own_language_neighbours(apart(0)) < 0.5
    assert own_language_neighbours(apart(8), centred=True) < 0.5


def test_translations_are_no_neighbours():
    shifted = {"a": np.array([[1.0, 0.0], [0.0, 1.0]]), "b": np.array([[1.0, 0.2], [0.2, 1.0]])}
    # text 0 of a: its translation (.98) does not count; text 1 of b (.2) is nearer than text 1 of a (0)
    assert own_language_neighbours(shifted) == pytest.approx(0.5)


def test_languages_need_the_same_texts():
    for odd in ({"a": X}, {"a": X, "b": X[1:]}):
        with pytest.raises(ValueError, match="same texts"):
            same_count(odd)


def test_principal_axes_keep_the_largest_variance():
    line = np.outer(np.arange(10.0), [3, 4]) + 7
    found = principal_axes(line)
    assert np.allclose(np.abs(np.diff(found[:, 0])), 5) and np.allclose(found[:, 1], 0)
    assert np.allclose(found.mean(axis=0), 0)


def test_mean_retrieval_goes_by_layer_and_direction():
    a, b = np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0.1]])
    vectors = {"en": np.stack([a, a]), "de": np.stack([a, b]), "fi": np.stack([b, b])}
    found = multilinguality.mean_retrieval(vectors, ("de", "fi"))
    assert np.allclose(found, [[1, (1 + 2 / 3) / 2], [1, 2 / 3]])
    assert np.allclose(multilinguality.mean_retrieval(vectors, ("de",), k=2)[0], [1, 1])


def test_spelling_knows_letters_only():
    found = multilinguality.spelling_similarity(["Germany", "Finland"], ["Germanien", "Finnland", "Китай"])
    assert found.shape == (2, 3) and found.argmax(axis=1).tolist() == [0, 1] and found[:, 2].tolist() == [0, 0]


def test_neighbours_by_direction_of_the_offset():
    offsets = {"en": np.zeros(2), "de": np.array([1.0, 0.0]), "nl": np.array([3.0, 0.1]), "zh": np.array([0.0, 1.0])}
    assert [code for code, _ in neighbours(offsets, "nl", 2)] == ["de", "zh"]
    assert neighbours({"de": offsets["de"]}, "de") == ()
    assert offset(np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]])).tolist() == [2.0, 3.0]


# --- real languages ---------------------------------------------------------------------------------------------------


@pytest.mark.sources("commands", "interface")
def test_shared_strings_are_the_same_text_in_every_language():
    codes = ["en", "zh", "fi"]
    found = shared_strings(codes, limit=30)
    assert {code: len(texts) for code, texts in found.items()} == dict.fromkeys(codes, 30)
    for code in codes[1:]:
        translations = {(corpora.fold(p.a), corpora.fold(p.b)) for p in corpora.parallel("en", code, "test")}
        assert {(corpora.fold(a), corpora.fold(b)) for a, b in zip(found["en"], found[code])} <= translations
        assert len({corpora.fold(t) for t in found[code]}) == 30
    assert found == shared_strings(codes, limit=30)


@pytest.mark.sources("commands", "interface")
def test_shared_strings_say_when_there_are_none(monkeypatch):
    strings = {"en": corpora.translated("en"), "hi": corpora.translated("hi"), "fi": {}}
    monkeypatch.setattr(corpora, "translated", strings.__getitem__)
    with pytest.raises(ValueError, match="No dev string is translated in all of en, hi, fi; leave a language out"):
        shared_strings(["en", "hi", "fi"], split="dev")


@pytest.mark.sources("commands", "interface")
@pytest.mark.parametrize("code", COURSE)
def test_amounts_of_the_course_languages(code):
    found, missing = amounts(code)
    assert found["natural test commands"] == 126 and found["command templates"] > 0
    assert not [m for m in missing if "natural" in m]


@pytest.mark.sources("commands", "interface")
def test_english_lacks_no_dictionary_but_has_nothing_to_be_compared_with():
    assert amounts("en")[1] == ["English is the source: no translation, no retrieval"]


@pytest.mark.sources("commands", "interface")
def test_a_card_says_what_is_missing(tiny_encoder):
    card = multilinguality.language_card(tiny_encoder, "sw", layer=1, known={})
    assert card.facts["name"] == "Swahili" and card.measures == {} and card.neighbours == ()
    assert any("interface" in m for m in card.missing) and any("natural" in m for m in card.missing)
    assert sample_pairs("sw", 10) == [] == sample_pairs("en", 10)


@pytest.mark.sources("commands", "interface")
def test_a_card_of_a_language_outside_the_course(tiny_encoder):
    known = {"en": np.zeros(64), "de": np.ones(64), "hi": -np.ones(64)}
    card = multilinguality.language_card(tiny_encoder, "sv", layer=1, known=known, limit=FEWEST)
    assert card.data["interface strings, translated"] > 5000 and card.measures["pool of the retrieval"] == FEWEST
    assert {code for code, _ in card.neighbours} == {"de", "hi"}
    table = {row["what"]: row["value"] for row in card.rows()}
    assert table["name"] == "Swedish" and "de (" in table["neighbours"] and "natural" in table["missing"]
    assert card.missing == ("no natural test commands: the report card cannot have this language",)


def test_a_card_measures_at_its_layer_and_names_the_directions(tiny_encoder, monkeypatch):
    english, noise = np.random.default_rng(7).normal(size=(2, FEWEST, 8))
    placed = {"e": english, "o": english + noise}
    pairs = [Pair(f"e{i}", f"o{i}", f"key{i}") for i in range(FEWEST)]
    monkeypatch.setattr(multilinguality, "amounts", lambda code: ({}, []))
    monkeypatch.setattr(multilinguality, "sample_pairs", lambda code, limit, split: pairs)
    monkeypatch.setattr(
        multilinguality, "layer_vectors", lambda _, texts: [np.ones((FEWEST, 8)), placed[texts[0][0]], english]
    )
    measures = multilinguality.language_card(tiny_encoder, "sv", layer=1, known={}).measures
    there, back = retrieval(english, english + noise, centred=True, k=10)
    assert there != back and (measures["retrieval from English"], measures["retrieval to English"]) == (there, back)


@pytest.mark.sources("commands", "interface")
def test_a_card_needs_a_language(tiny_encoder):
    with pytest.raises(ValueError, match="Unknown language"):
        multilinguality.language_card(tiny_encoder, "klingon", layer=1, known={})


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory):
    """A random encoder of two layers: what is counted does not depend on it."""
    return e5_writer.tiny_encoder(tmp_path_factory.mktemp("card"))
