"""fake_english: two languages out of one, each ablation changes what it says and nothing else, and the measures."""

import numpy as np
import pytest
import torch

from xlbook import fake_english, recipes
from xlbook.fake_english import (
    LONGEST,
    SPECIAL,
    Condition,
    Text,
    TinyLM,
    ablations,
    best,
    common_pieces,
    cut_verses,
    found,
    loss,
    masked,
    measure,
    openings,
    padded,
    positions,
    sequence,
    shares,
    shifted,
    sides,
    specials,
    text,
    train,
    vectors,
    verses,
)
from xlbook.masking import generator_of
from xlbook.records import IGNORED
from xlbook.training import Settings

V = 20
RNG = np.random.default_rng(0)
ROWS = tuple(tuple(RNG.integers(0, V, size=RNG.integers(4, 9)).tolist()) for _ in range(24))
SMALL = Text(ROWS[:16], ROWS[16:], V)


pytestmark = pytest.mark.usefixtures("one_thread")


# --- text -------------------------------------------------------------------------------------------------------------


def test_verses_are_cut_by_the_table_of_places_and_nothing_is_run():
    module = (
        'raise SystemExit\nx = f("""One, two.\nThree [is] it!""", {1001001: 0, 1001002: 9}, {1001001: 9, 1001002: 24})'
    )
    assert cut_verses(module) == ("one , two .", "three is it !")


@pytest.mark.parametrize("table", ["", "{1001001: 0}", "{1001001: 0, 1001002: 3}, {1001001: 3, 1001003: 5}"])
def test_a_table_that_does_not_fit_is_refused(table):
    with pytest.raises(ValueError, match="table of beginnings"):
        cut_verses(f'f("""a b c""", {table})')


def test_openings_are_different_and_always_in_the_same_order():
    texts = [f"{i % 7} b c d" for i in range(20)] + ["too short"]
    cut = openings(texts, 3)
    assert sorted(cut) == [f"{i} b c" for i in range(7)] and cut == openings(texts, 3)


@pytest.mark.sources("king-james")
def test_the_real_text():
    assert len(verses()) == 31102
    assert verses()[0] == "in the beginning god created the heaven and the earth ."
    assert verses()[-1] == "the grace of our lord jesus christ be with you all . amen ."
    corpus = text(train=30, test=20, pieces=300, words=8)
    assert (len(corpus.train), len(corpus.test), corpus.pieces) == (30, 20, 300)
    assert not set(corpus.train) & set(corpus.test)
    assert max(map(len, corpus.train + corpus.test)) <= LONGEST - 2
    assert min(min(row) for row in corpus.train) >= 0 and max(max(row) for row in corpus.train) < 300


# --- the two languages ------------------------------------------------------------------------------------------------


def test_every_id_moves_by_v_and_the_languages_share_no_piece():
    english = [sequence(row, 0, V, Condition())["input_ids"] for row in ROWS]
    fake = [sequence(row, 1, V, Condition())["input_ids"] for row in ROWS]
    for a, b, row in zip(english, fake, ROWS):
        assert a[1:-1] == [i + SPECIAL for i in row] and b[1:-1] == [i + SPECIAL + V for i in row]
        assert (a[0], a[-1]) == (b[0], b[-1]) == (1, 2)
    assert not {i for a in english for i in a[1:-1]} & {i for b in fake for i in b[1:-1]}
    assert max(i for b in fake for i in b) < TinyLM(V, Condition()).body.config.vocab_size


def differs(**changes):
    """Which fields of a sequence an ablation changes, in English and in fake English."""
    pairs = [[sequence(ROWS[0], k, V, condition) for condition in (Condition(), Condition(**changes))] for k in (0, 1)]
    return [{name for name in plain if plain[name] != changed[name]} for plain, changed in pairs]


def test_each_ablation_changes_what_it_says_and_never_english():
    assert differs(own_positions=True) == [set(), {"position_ids"}]
    assert differs(own_specials=True) == [set(), {"input_ids", "mask_id"}]
    assert differs(inverted=True) == [set(), {"input_ids"}]
    assert differs(overlap=0.5) == [set(), {"input_ids"}]
    for changes in ({"random_replacement": False}, {"parallel": False}, {"width": 128}, {"spread": 0.1}):
        assert differs(**changes) == [set(), set()]


def test_own_positions_do_not_overlap_and_exist_in_the_model():
    english, fake = positions(LONGEST, 0, own=True), positions(LONGEST, 1, own=True)
    assert english == list(range(LONGEST)) and not set(english) & set(fake)
    assert [f - e for e, f in zip(english, fake)] == [LONGEST] * LONGEST
    assert max(fake) < TinyLM(V, Condition()).body.config.max_position_embeddings
    assert positions(5, 1, own=False) == list(range(5))


def test_own_special_tokens_are_new_ids_above_all_pieces():
    own = specials(1, V, own=True)
    assert not set(own) & set(specials(0, V, own=True)) and min(own) == SPECIAL + 2 * V
    assert max(own) < TinyLM(V, Condition()).body.config.vocab_size
    assert specials(1, V, own=False) == specials(0, V, own=False) == specials(0, V, own=True) == (1, 2, 3)


def test_fake_english_backwards_keeps_its_borders():
    forward, back = (sequence(ROWS[0], 1, V, Condition(inverted=i))["input_ids"] for i in (False, True))
    assert back[1:-1] == forward[1:-1][::-1] and (back[0], back[-1]) == (forward[0], forward[-1])


def test_common_pieces_keep_their_english_id():
    common = common_pieces(V, 0.25)
    assert len(common) == 5 and common == common_pieces(V, 0.25) and common_pieces(V, 0) == frozenset()
    assert shifted(list(range(V)), V, common=common) == [i if i in common else i + V for i in range(V)]


def test_halves_have_nothing_in_common():
    assert sides(ROWS, True) == (ROWS, ROWS)
    a, b = sides(ROWS, False)
    assert (*a, *b) == ROWS and len(a) == len(b)


def test_shares_sum_to_one():
    assert shares(True) == (0.8, 0.1, 0.1) and shares(False)[1] == 0 and sum(shares(False)) == pytest.approx(1)


@pytest.mark.parametrize("odd", [{"overlap": 1.5}, {"overlap": -0.1}, {"width": 100}, {"width": 0}])
def test_conditions_out_of_range_are_refused(odd):
    with pytest.raises(ValueError, match=next(iter(odd))):
        Condition(**odd)


def test_rows_change_one_thing_each():
    rows = ablations()
    assert rows["original"] == Condition() and len(set(rows.values())) == len(rows) >= 9
    changed = {n: sum(a != b for a, b in zip(vars(c).values(), vars(Condition()).values())) for n, c in rows.items()}
    assert changed.pop("original") == 0 and changed.pop("all three") == 3 and set(changed.values()) == {1}


# --- batches and model ------------------------------------------------------------------------------------------------


def test_a_batch_marks_pieces_only():
    rows = [sequence([5, 6, 7], 0, V, Condition()), sequence([5], 1, V, Condition(own_specials=True))]
    batch = padded(rows)
    assert batch["input_ids"].tolist() == [[1, 9, 10, 11, 2], [44, 29, 45, 0, 0]]
    assert batch["inner"].tolist() == [[False, True, True, True, False], [False, True, False, False, False]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["mask_id"].tolist() == [[3], [46]]


def test_masks_are_each_languages_own_and_random_pieces_come_from_both():
    rows = [sequence(ROWS[0], k, V, Condition(own_specials=True)) for k in (0, 1)] * 40
    kinds = {"pieces": V, "generator": generator_of(0, 0), "share": 1.0}
    ids = masked(rows, kinds=(1, 0, 0), **kinds)["input_ids"]
    assert set(ids[0, 1 : len(ROWS[0]) + 1].tolist()) == {3}
    assert set(ids[1, 1 : len(ROWS[0]) + 1].tolist()) == {specials(1, V, own=True)[2]}
    batch = masked(rows, kinds=(0, 1, 0), **kinds)
    drawn = batch["input_ids"][batch["labels"] != IGNORED]
    assert drawn.min() >= SPECIAL and drawn.max() < SPECIAL + 2 * V
    assert (drawn < SPECIAL + V).any() and (drawn >= SPECIAL + V).any()


def test_the_loss_of_an_untrained_model_is_that_of_guessing():
    model = TinyLM(V, Condition()).eval()
    assert loss(model, SMALL.test) == pytest.approx(np.log(SPECIAL + 2 * V + 3), abs=0.3)
    assert loss(model, SMALL.test) == loss(model, SMALL.test)


def test_the_model_looks_at_its_positions():
    model = TinyLM(V, Condition(own_positions=True)).eval()
    shared = TinyLM(V, Condition()).eval()
    shared.load_state_dict(model.state_dict())
    assert not np.allclose(vectors(model, SMALL.test, 1), vectors(shared, SMALL.test, 1))
    assert np.allclose(vectors(model, SMALL.test, 0), vectors(shared, SMALL.test, 0))


def test_vectors_leave_first_and_last_token_out():
    model = TinyLM(V, Condition()).eval()
    one = vectors(model, [SMALL.test[0]], 0)
    with torch.inference_mode():
        states = model.states(padded([sequence(SMALL.test[0], 0, V, Condition())]))
    assert np.allclose(one[:, 0], [s[0, 1:-1].mean(dim=0).numpy() for s in states], atol=1e-6)
    assert np.allclose(one[:, 0], vectors(model, SMALL.test, 0)[:, 0], atol=1e-5), "padding must not count"


def test_found_goes_layer_by_layer_in_both_directions():
    a = np.eye(3)[None].repeat(2, axis=0)
    b = a.copy()
    b[1] = [[1, 0, 0], [0, 1, 0], [0, 1, 0.1]]
    # layer 1: each row of a still finds its b, but row 2 of b points to row 1 of a
    assert found(a, b) == [[1.0, 1.0], [1.0, pytest.approx(2 / 3)]]
    assert best([[0.2, 0.4], [0.5, 0.1], [0.25, 0.25]]) == pytest.approx(0.3)


def test_training_learns_and_repeats_itself():
    settings = Settings(steps=60, batch_size=8, learning_rate=5e-3, seed=3)
    models = [train(SMALL, Condition(), settings) for _ in range(2)]
    (model, history), (again, _) = models
    assert history.losses[-1] < history.losses[0] and not model.training
    assert all(torch.equal(x, y) for x, y in zip(model.state_dict().values(), again.state_dict().values()))
    scores = measure(model, SMALL)
    assert scores["train loss"] < np.log(SPECIAL + 2 * V + 3)
    for name in ("retrieval", "centred", "words"):
        assert np.shape(scores[name]) == (3, 2) and np.min(scores[name]) >= 0 and np.max(scores[name]) <= 1


def test_the_same_language_twice_is_found_at_once():
    """With all pieces in common, fake English is English: every measure must say so, also before any training."""
    scores = measure(TinyLM(V, Condition(overlap=1.0)).eval(), SMALL)
    assert best(scores["retrieval"]) == best(scores["words"]) == 1.0


# --- stored results ---------------------------------------------------------------------------------------------------


def test_the_stored_recipe_has_all_rows_and_seeds():
    from xlbook.recipes import chapter_04

    stored = recipes.by_row("04")
    assert set(ablations()) == set(stored)
    for row, runs in stored.items():
        assert row in ablations() and [r["seed"] for r in runs] == [0, 1, 2]
    lines = {line["row"]: line for line in chapter_04.summary()}
    assert lines["original"]["retrieval"] > 0.5 > lines["all three"]["retrieval"]
    assert all(line["lowest"] <= line["retrieval"] <= line["highest"] for line in lines.values())
    assert set(fake_english.ablations()) == set(chapter_04.rows("cpu"))


def test_the_stored_large_experiment_has_rows_of_the_recipe():
    from xlbook.recipes import chapter_04, chapter_04_full

    stored = recipes.by_row("04_full")
    assert set(stored) == set(chapter_04_full.rows("cpu"))
    assert {row: [r["seed"] for r in runs] for row, runs in stored.items()} == dict.fromkeys(stored, [0, 1, 2])
    assert [line["row"] for line in chapter_04.summary("04_full")] == list(stored)


def test_the_objective_is_the_end_of_the_training_curve(monkeypatch):
    from xlbook.recipes import chapter_04

    scores = {"retrieval": [[0.0, 0.0]], "centred": [[0.0, 0.0]], "words": [[0.0, 0.0]], "loss": 3.0, "train loss": 2.0}
    curves = ([9.0] * 18 + [1.0, 2.0], [9.0] * 9 + [4.0])  # the last tenth: 1.5 and 4
    runs = [{"seed": i, "scores": scores | {"curve": curve}} for i, curve in enumerate(curves)]
    monkeypatch.setattr(recipes, "by_row", lambda number: {"one": runs})
    (line,) = chapter_04.summary()
    assert line["objective"] == pytest.approx((1.5 + 4) / 2) and (line["loss"], line["train loss"]) == (3.0, 2.0)


@pytest.mark.sources("king-james")
def test_in_the_large_experiment_every_row_has_as_many_verses_a_language(monkeypatch):
    from xlbook.recipes import chapter_04_full

    seen = {}

    def spy(corpus, condition, settings, **_):
        seen[condition.parallel] = fake_english.sides(corpus.train, condition.parallel), condition, settings
        return {}

    monkeypatch.setattr(chapter_04_full.chapter_04, "trained", spy)
    for name in ("original, 20 epochs", "non-parallel halves, 40 epochs"):
        chapter_04_full.rows("cpu")[name](1)
    verses = chapter_04_full.VERSES
    assert [len(side) for sides, *_ in seen.values() for side in sides] == [verses] * 4
    assert len(set(seen[True][0][0]) & set(seen[True][0][1])) == len(set(seen[True][0][0]))
    assert len(set(seen[False][0][0]) & set(seen[False][0][1])) < verses / 100, "some short verses are the same"
    assert [s.steps for *_, s in seen.values()] == [1875, 3750] and seen[True][1].layers == 4
