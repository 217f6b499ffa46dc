"""The report card keeps one row a method, in order, and refuses scores that cannot be."""

import json

import pytest

from xlbook import reportcard
from xlbook.languages import COURSE


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XLBOOK_CACHE", str(tmp_path / "new" / "cache"))


def scores(value: float = 0.5, **others: float) -> dict[str, float]:
    return dict.fromkeys(COURSE, value) | others


def listed() -> list[tuple[str, str]]:
    return [(r["chapter"], r["method"]) for r in reportcard.rows()]


def test_there_are_no_rows_before_the_first_chapter():
    assert reportcard.rows() == []
    with pytest.raises(ValueError, match="empty; run chapter 00 first"):
        reportcard.show()


def test_rows_come_in_the_order_of_the_chapters():
    reportcard.add("06", "late", scores(), order=1)
    reportcard.add("06", "early", scores())
    reportcard.add("10", "last", scores())
    reportcard.add("00", "first", scores())
    assert listed() == [("00", "first"), ("06", "early"), ("06", "late"), ("10", "last")]


def test_rows_of_the_same_order_stay_as_they_came_also_when_one_is_replaced():
    for method in ("b", "a", "c"):
        reportcard.add("06", method, scores())
    reportcard.add("06", "b", scores(0.75))
    assert listed() == [("06", "b"), ("06", "a"), ("06", "c")]
    assert reportcard.rows()[0]["scores"]["en"] == 0.75


def test_another_profile_is_another_row():
    reportcard.add("06", "a", scores(0.25))
    reportcard.add("06", "a", scores(0.75), profile="gpu")
    assert [r["scores"]["fi"] for r in reportcard.rows()] == [0.25, 0.75]
    markup = reportcard.show().markup
    assert "a (gpu)" in markup and "a (laptop)" not in markup


def test_scores_are_rounded_and_only_course_languages_are_kept():
    reportcard.add("06", "a", scores(1 / 3, sw=0.9))
    assert reportcard.rows()[0]["scores"] == dict.fromkeys(COURSE, 0.3333)


@pytest.mark.parametrize("language", ["en", "hi"])
def test_a_missing_language_is_named(language):
    lacking = {c: s for c, s in scores().items() if c != language}
    with pytest.raises(ValueError, match=f"missing: {language}"):
        reportcard.add("06", "a", lacking)
    assert reportcard.rows() == []


@pytest.mark.parametrize("value", [-0.1, 1.1, 87, float("nan")])
def test_a_score_is_a_share(value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        reportcard.add("06", "a", scores(fi=value))
    assert reportcard.rows() == []


@pytest.mark.parametrize("text", ["", "[{", "[1, 2]", '[{"chapter": "00"}]', "7", '{"a": 1}'])
def test_a_damaged_file_says_what_to_do(text):
    reportcard.card_file().parent.mkdir(parents=True)
    reportcard.card_file().write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"report_card\.json is damaged\. Delete it"):
        reportcard.rows()


def test_a_write_that_fails_leaves_the_old_card(monkeypatch):
    reportcard.add("00", "a", scores())

    def fails(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(reportcard.os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        reportcard.add("00", "b", scores())
    assert listed() == [("00", "a")]


def test_the_file_is_plain_json():
    reportcard.add("00", "Mittelwert, 平均", scores())
    text = reportcard.card_file().read_text(encoding="utf-8")
    assert json.loads(text)[0]["method"] == "Mittelwert, 平均" and "平均" in text
    assert [f.name for f in reportcard.card_file().parent.iterdir()] == ["report_card.json"]


def test_summary_by_hand():
    card = scores(0.5, en=1.0, fi=0.2, zh=0.8)
    assert reportcard.summary(card) == {"en": 1.0, "others": pytest.approx((0.2 + 0.8 + 7 * 0.5) / 9), "worst": 0.2}


def test_show_marks_the_best_and_can_show_one_chapter():
    reportcard.add("00", "weak", scores(0.25))
    reportcard.add("06", "strong", scores(0.75, ko=0.5))
    out = reportcard.show()
    assert repr(out) == "<Table>" and out.markup.count("<tr>") == 3
    assert "<b>0.72</b>" in out.markup and "<b>0.50</b>" in out.markup and "<b>0.25</b>" not in out.markup
    one = reportcard.show("00").markup
    assert "weak" in one and "strong" not in one
    with pytest.raises(ValueError, match="empty"):
        reportcard.show("99")
