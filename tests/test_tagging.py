"""Words, their slot tags, and the pieces that carry them: all by hand."""

import pytest
from small_encoder import command

from xlbook.records import IGNORED
from xlbook.tagging import TAGS, align_labels, first_pieces, word_tags, words


def test_the_markup_of_these_tests():
    one = command("turn on the [kitchen](area) [light](device)")
    assert one.text == "turn on the kitchen light"
    assert [(one.text[s.start : s.end], s.slot) for s in one.slots] == [
        ("kitchen", "area"),
        ("light", "device"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Turn it off!", ["Turn", "it", "off"]),
        ("关灯,please", ["关", "灯", "please"]),
        ("  spaces \t and\nlines ", ["spaces", "and", "lines"]),
        ("to 50% or 21.5°?", ["to", "50%", "or", "21.5°"]),
        ("don't («really»)", ["don't", "really"]),
        ("거실 불 꺼 줘.", ["거실", "불", "꺼", "줘"]),
        ("أطفئ الضوء؟", ["أطفئ", "الضوء"]),
        ("बत्ती बंद करो।", ["बत्ती", "बंद", "करो"]),
        ("打开客厅的灯。", list("打开客厅的灯")),
        ("... – !", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert [text[a:b] for a, b in words(text)] == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("turn on the [kitchen](area) [light](device)", "O O O B-area B-device"),
        ("in the [living room](area)", "O O B-area I-area"),
        ("[kitchen](area) [hall](area) off", "B-area B-area O"),
        ("the [kitchen, hall](area)!", "O B-area I-area"),
        ("[kitchen](area) and [hall](area)", "B-area O B-area"),
        ("打开[厨房](area)的[灯](device)", "O O B-area I-area O B-device"),
        ("stop the [lasagne](timer)timer", "O O B-timer"),
        ("Wohnzimmer[lampe rot](device)", "B-device I-device"),
        ("[küchen](area)[lampe](device) an", "B-area O"),
        ("no slots here", "O O O"),
    ],
)
def test_word_tags_by_hand(marked, expected):
    assert word_tags(command(marked)) == expected.split()


def test_first_pieces_by_hand():
    # pieces: <s>, "▁ab", "c", "▁de", </s> over the text "abc de"
    offsets = [(0, 0), (0, 2), (2, 3), (3, 6), (0, 0)]
    assert first_pieces(offsets, [(0, 3), (4, 6)]) == [1, 3]
    assert first_pieces(offsets[:3] + [(0, 0)], [(0, 3), (4, 6)]) == [1, -1]  # the second word was cut off


def test_align_labels_by_hand():
    b, i = TAGS.index("B-area"), TAGS.index("I-area")
    assert align_labels(["O", "B-area", "I-area"], [1, 2, 4], 6) == [IGNORED, 0, b, IGNORED, i, IGNORED]
    assert align_labels(["B-area", "I-area"], [1, 1], 3) == [IGNORED, b, IGNORED]  # one piece, two words: the first
    assert align_labels(["B-area", "O"], [1, -1], 3) == [IGNORED, b, IGNORED]  # cut off
