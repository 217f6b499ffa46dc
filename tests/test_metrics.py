"""Metrics against hand counts, scikit-learn, seqeval and the definition of an interval."""

import math

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics

from xlbook.metrics import (
    Accuracy,
    MacroF1,
    SlotF1,
    accuracy,
    bootstrap,
    exact_match,
    macro_f1,
    paired_bootstrap,
    retrieval_accuracy,
    slot_f1,
)


def random_labels(seed: int, count: int = 200, classes: int = 7) -> tuple[list[int], list[int]]:
    """References with unequal classes, and predictions that are right about half the time."""
    generator = np.random.default_rng(seed)
    references = generator.choice(classes, count, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    noise = generator.integers(0, classes, count)
    return np.where(generator.random(count) < 0.5, references, noise).tolist(), references.tolist()


def random_tags(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Random BIO sentences, also with tags that no annotator would write."""
    generator = np.random.default_rng(seed)
    tags = ["O", "O", "B-area", "I-area", "B-device", "I-device"]
    lengths = generator.integers(1, 9, 40)
    return tuple([[tags[i] for i in generator.integers(0, 6, n)] for n in lengths] for _ in range(2))


# --- classification --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_and_macro_f1_equal_sklearn(seed):
    predictions, references = random_labels(seed)
    assert accuracy(predictions, references) == pytest.approx(sklearn.metrics.accuracy_score(references, predictions))
    theirs = sklearn.metrics.f1_score(references, predictions, average="macro")
    assert macro_f1(predictions, references) == pytest.approx(theirs)


def test_macro_f1_by_hand():
    # class a: precision 3/4, recall 3/3, F1 6/7; class b: precision 1/1, recall 1/2, F1 2/3
    assert macro_f1(list("aaaab"), list("aaabb")) == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_macro_f1_sees_the_rare_class_that_accuracy_hides():
    references = ["common"] * 99 + ["rare"]
    predictions = ["common"] * 100
    assert accuracy(predictions, references) == 0.99
    assert macro_f1(predictions, references) == pytest.approx((2 * 99 / (2 * 99 + 1)) / 2)


def test_macro_f1_averages_over_the_classes_of_the_references_only():
    # "c" is predicted and never right: it costs precision nowhere, recall of "b", and is no class of its own
    assert macro_f1(["a", "c"], ["a", "b"]) == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("metric", [accuracy, macro_f1, slot_f1, paired_bootstrap])
@pytest.mark.parametrize(("left", "right"), [([], []), ([["O"]], [["O"], ["O"]]), ([["O"], ["O"]], [["O"]])])
def test_different_or_no_lengths_are_errors(metric, left, right):
    with pytest.raises(ValueError, match=f"{len(left)} predictions for {len(right)} references"):
        metric(left, right)


# --- slots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_slot_f1_equals_seqeval(seed):
    predictions, references = random_tags(seed)
    assert slot_f1(predictions, references) == pytest.approx(seqeval.metrics.f1_score(references, predictions))


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (["O", "B-area", "I-area", "O", "B-device"], 1.0),
        (["O", "B-area", "O", "O", "B-device"], 0.5),  # a border is wrong: one of two, of two
        (["O", "B-device", "I-device", "O", "B-device"], 0.5),  # a name is wrong
        (["O", "B-area", "I-area", "O", "O"], 2 / 3),  # precision 1, recall 1/2
        (["O", "O", "O", "O", "O"], 0.0),
    ],
)
def test_slot_f1_counts_whole_slots(predicted, expected):
    assert slot_f1([predicted], [["O", "B-area", "I-area", "O", "B-device"]]) == pytest.approx(expected)


def test_slot_f1_is_micro_averaged_over_all_sentences():
    references = [["B-area"], ["B-area", "B-area", "B-area"]]
    assert slot_f1([["B-area"], ["O", "O", "O"]], references) == pytest.approx(2 * 1 * 0.25 / 1.25)


def test_without_any_slot_there_is_nothing_to_find():
    assert slot_f1([["O"]], [["O"]]) == 0.0


def test_a_sentence_without_words_is_no_error():
    assert slot_f1([[], ["B-area"]], [[], ["B-area"]]) == 1.0


def test_tags_of_another_length_are_an_error_that_names_the_sentence():
    with pytest.raises(ValueError, match="Sentence 1 has 2 predicted tags for 1 words"):
        slot_f1([["O"], ["O", "O"]], [["O"], ["O"]])


def test_exact_match_needs_intent_and_all_slots():
    tags = [["O", "B-area"], ["O"], ["B-area"], ["B-area", "I-area"]]
    predicted_tags = [("O", "B-area"), ("O",), ("O",), ("B-area", "O")]  # right right wrong wrong
    intents = ["on", "off", "on", "on"]
    predicted = ["on", "on", "on", "off"]  # right wrong right wrong
    assert exact_match(predicted, intents, predicted_tags, tags) == 0.25


@pytest.mark.parametrize(
    "arguments",
    [
        (["on"], ["on", "on"], [["O"]], [["O"]]),
        (["on"], ["on"], [["O"]], [["O"], ["O"]]),
        (["on", "on"], ["on", "on"], [["O"]], [["O"]]),  # intents of two commands, tags of one
        (["on"], ["on"], [["O", "O"]], [["O"]]),
        ([], [], [], []),
    ],
)
def test_exact_match_wants_the_same_commands_everywhere(arguments):
    with pytest.raises(ValueError, match="predictions for|predicted tags for"):
        exact_match(*arguments)


# --- evaluate.Metric -------------------------------------------------------------------------------------------------


def test_metric_classes_work_without_a_network_and_equal_the_functions():
    predictions, references = random_labels(0)
    assert Accuracy().compute(predictions=predictions, references=references) == {
        "accuracy": accuracy(predictions, references)
    }
    assert MacroF1().compute(predictions=predictions, references=references) == {
        "macro_f1": pytest.approx(macro_f1(predictions, references))
    }
    tags, tag_references = random_tags(0)
    assert SlotF1().compute(predictions=tags, references=tag_references) == {
        "slot_f1": pytest.approx(slot_f1(tags, tag_references))
    }


def test_metric_classes_collect_batches():
    metric = Accuracy()
    metric.add_batch(predictions=[1, 2], references=[1, 1])
    metric.add_batch(predictions=[3, 3], references=[3, 3])
    assert metric.compute() == {"accuracy": 0.75}


# --- retrieval -------------------------------------------------------------------------------------------------------


def test_retrieval_goes_from_rows_to_columns():
    similarity = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.7, 0.3, 0.6]])
    assert retrieval_accuracy(similarity) == pytest.approx(1 / 3)  # rows: only the first finds its own
    assert retrieval_accuracy(similarity.T) == pytest.approx(1.0)  # columns: all do


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 0), (2, 2, 2)])
def test_retrieval_needs_a_square_matrix(shape):
    with pytest.raises(ValueError, match="shape"):
        retrieval_accuracy(np.zeros(shape))


# --- how sure --------------------------------------------------------------------------------------------------------


def test_bootstrap_interval_is_close_to_the_normal_one():
    scores = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap(scores, rounds=4000)
    half = 1.96 * scores.std() / math.sqrt(len(scores))
    assert low == pytest.approx(scores.mean() - half, abs=0.03)
    assert high == pytest.approx(scores.mean() + half, abs=0.03)


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    held = {0.8: 0, 0.95: 0}
    for draw in range(200):
        right = generator.random(100) < 0.7
        for level in held:
            low, high = bootstrap(right, rounds=300, level=level, seed=draw)
            held[level] += low <= 0.7 <= high
    assert 0.73 <= held[0.8] / 200 <= 0.88
    assert 0.90 <= held[0.95] / 200 <= 0.98


def test_bootstrap_is_seeded_and_takes_other_statistics():
    scores = np.random.default_rng(2).normal(size=50)
    assert bootstrap(scores, seed=3) == bootstrap(scores, seed=3) != bootstrap(scores, seed=4)
    low, high = bootstrap(scores, statistic=np.median)
    assert low < np.median(scores) < high


def test_bootstrap_of_equal_scores_has_no_width():
    assert bootstrap([1, 1, 1]) == (1.0, 1.0)


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_bootstrap_level_is_a_share(level):
    with pytest.raises(ValueError, match="level="):
        bootstrap([0, 1], level=level)


@pytest.mark.parametrize("scores", [[], [[1, 0], [0, 1]]])
def test_bootstrap_needs_one_number_an_item(scores):
    with pytest.raises(ValueError, match="one number for each test item"):
        bootstrap(scores)


def test_paired_bootstrap_is_small_when_the_first_system_wins():
    generator = np.random.default_rng(0)
    worse = (generator.random(300) < 0.5).astype(int)
    better = np.maximum(worse, generator.random(300) < 0.2)
    assert paired_bootstrap(better, worse) < 0.01
    assert paired_bootstrap(worse, better) > 0.99
    assert paired_bootstrap(worse, worse) == 1.0


def test_paired_bootstrap_sees_what_unpaired_intervals_hide():
    worse = np.array([0, 1] * 100)
    better = worse.copy()
    better[:20:2] = 1  # ten items better, none worse
    assert bootstrap(better)[0] < bootstrap(worse)[1]  # the intervals overlap
    assert paired_bootstrap(better, worse) < 0.01


def test_paired_bootstrap_equals_the_exact_share_for_two_items():
    # differences +1 and -1: the resample means are -1, 0, 0, +1, and three of four are no better
    assert paired_bootstrap([1, 0], [0, 1], rounds=20000) == pytest.approx(0.75, abs=0.01)
