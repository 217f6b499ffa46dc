"""grammar: a small file in the format of the source, whose sentences and labels are known beforehand."""

import random

import pytest
from hassil import recognize

from xlbook.grammar import Grammar, joined, person_label, round_number, spans_of
from xlbook.records import INTENTS, SLOTS, Span

ROOMS, LAMPS, DOORS, BLINDS = ["kitchen", "living room"], ["desk lamp", "lamp"], ["front door"], ["big blinds"]
FILLERS = {"area": ROOMS, "light": LAMPS, "lock": DOORS, "cover": BLINDS, "item": ["milk", "brown bread"]}


def block(*sentences, domain=None, requires=None, **more):
    found = {"sentences": list(sentences), **more}
    found |= {"slots": {"domain": domain}} if domain else {}
    return found | ({"requires_context": {"domain": requires}} if requires else {})


def intents(**blocks) -> dict:
    return {
        "language": "en",
        "intents": {name: {"data": list(data)} for name, data in blocks.items()},
        "lists": {
            "brightness": {"range": {"type": "percentage", "from": 0, "to": 100}},
            "temperature": {"range": {"type": "temperature", "from": 0, "to": 100}},
            "minutes": {"range": {"from": 1, "to": 100}},
            "color": {"values": [{"in": "(deep|dark) red", "out": "red"}, "blue"]},
            "cover_classes": {"values": [{"in": "curtain[s]", "out": "curtain"}, {"in": "blind[s]", "out": "blind"}]},
            "volume_step": {"values": [{"in": "(up|louder)", "out": "up"}, {"in": "(down|quieter)", "out": "down"}]},
            "volume_step_up": {"range": {"type": "percentage", "from": 0, "to": 100}},
            "volume_step_down": {"range": {"type": "percentage", "from": 0, "to": 100, "multiplier": -1}},
            "shopping_list_item": {"wildcard": True},
            "timer_command": {"wildcard": True},
        },
        "expansion_rules": {"the": "(the|my)", "in": "(in|at)", "loop": "again <loop>"},
    }


def grammar(**blocks) -> Grammar:
    return Grammar("en", intents(**blocks), FILLERS)


def everything(made: Grammar, count=300):
    return [c for template in made.templates for c in made.sample(template, count)]


def texts(made: Grammar) -> set[str]:
    return {c.text for c in everything(made)}


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("hello", {"hello"}),
        ("good (morning|evening)", {"good morning", "good evening"}),
        ("light[s] on", {"light on", "lights on"}),
        ("[please] stop [now]", {"stop", "please stop", "stop now", "please stop now"}),
        ("<the> way <in>", {"the way in", "my way in", "the way at", "my way at"}),
        ("(one;two)", {"one two", "two one"}),
        ("(a|b [c|d])", {"a", "b", "b c", "b d"}),
        ("go <in> {area}", {"go in kitchen", "go at kitchen", "go in living room", "go at living room"}),
    ],
)
def test_all_sentences_of_a_template(template, expected):
    assert texts(grammar(HassNevermind=[block(template)])) == expected


@pytest.mark.parametrize(
    "template",
    [
        "<the> lights <in> [<the>] {area}",
        "make it {color} [now] (in|at) {area}",
        "(set {brightness} [percent];<in> {area}) please",
        "[({color}|bright)] {cover_classes:device_class}[ and so on]",
    ],
)
def test_sampled_sentences_are_recognized_by_hassil_itself(template):
    """The independent truth: hassil's own recognizer accepts what was sampled from its templates."""
    from hassil.intents import Intents, TextSlotList

    made = grammar(HassNevermind=[block(template)])
    known = Intents.from_dict(intents(HassNevermind=[block(template)]))
    lists = {"area": TextSlotList.from_strings(ROOMS, name="area")}
    found = everything(made, 25)
    assert len(found) > 3
    for command in found:
        result = recognize(command.text, known, slot_lists=lists)
        assert result is not None, command.text
        heard = {e.name: e.text_clean.strip() for e in result.entities_list if e.name in ("area", "color")}
        said = {s.slot: command.text[s.start : s.end] for s in command.slots}
        assert heard == {slot: said[slot] for slot in heard}


def test_same_seed_same_sentences_other_seed_others():
    made = grammar(HassNevermind=[block("[a] [b] [c] [d] [e] x {minutes}")])
    first = made.sample(made.templates[0], 10, seed=1)
    random.seed(99)  # the global generator has no part in it
    assert made.sample(made.templates[0], 10, seed=1) == first
    assert made.sample(made.templates[0], 10, seed=2) != first
    again = grammar(HassNevermind=[block("[a] [b] [c] [d] [e] x {minutes}")])
    assert again.sample(again.templates[0], 10, seed=1) == first


def test_sample_gives_different_sentences_and_no_more_than_asked():
    made = grammar(HassNevermind=[block("(a|b|c) x")])
    assert len(made.sample(made.templates[0], 2)) == 2
    found = [c.text for c in made.sample(made.templates[0], 50)]
    assert sorted(found) == ["a x", "b x", "c x"]


# --- slots ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intent", "options", "template", "slot", "values"),
    [
        ("HassTurnOn", {"domain": "light"}, "turn on [the] {area} light", "area", ROOMS),
        ("HassTurnOn", {"requires": "light"}, "turn on {name} now", "device", LAMPS),
        ("HassTurnOn", {"requires": "lock"}, "lock {name}", "device", DOORS),
        ("HassLightSet", {"domain": "light"}, "make it {color}", "color", ["deep red", "dark red", "blue"]),
        ("HassLightSet", {"domain": "light"}, "dim to {brightness}", "level", [str(n) for n in range(0, 101, 5)]),
        ("HassClimateSetTemperature", {}, "set {temperature} degrees", "temperature", [str(n) for n in range(15, 29)]),
        ("HassTurnOn", {"domain": "cover"}, "open the {cover_classes:device_class}", "device", None),
        ("HassShoppingListAddItem", {}, "add {shopping_list_item:item} please", "item", ["milk", "brown bread"]),
    ],
)
def test_slots_mark_the_words_that_were_filled_in(intent, options, template, slot, values):
    found = everything(grammar(**{intent: [block(template, **options)]}), 60)
    values = values or ["curtain", "curtains", "blind", "blinds"]
    assert {c.text[s.start : s.end] for c in found for s in c.slots} == set(values)
    assert {s.slot for c in found for s in c.slots} == {slot} and slot in SLOTS
    for command in found:
        (span,) = command.slots
        fixed = template.replace("[the] ", "").replace("[", "").split("{")[0]
        assert command.text[: span.start].replace("the ", "") == fixed.replace("the ", "")


def test_words_that_are_no_slot_are_not_marked():
    (command,) = everything(grammar(HassSetVolumeRelative=[block("volume {volume_step}")]), 1)
    assert command.slots == ()


def test_several_slots_stand_in_the_order_of_the_text():
    for command in everything(grammar(HassLightSet=[block("({color};{area};{brightness}) go", domain="light")]), 40):
        assert [s.slot for s in command.slots] == [s.slot for s in sorted(command.slots, key=lambda s: s.start)]
        assert sorted(s.slot for s in command.slots) == ["area", "color", "level"]
        for span in command.slots:
            assert command.text[span.start : span.end].strip() == command.text[span.start : span.end] != ""


def test_joined_folds_space_and_keeps_positions():
    text, spans = joined(
        [("  put ", None), (" brown \n bread ", "item"), (" on", None), (" ", None), ("it", "list"), (" ", None)]
    )
    assert text == "put brown bread on it"
    assert [(text[s.start : s.end], s.slot) for s in spans] == [("brown bread", "item"), ("it", "list")]


def test_space_at_the_ends_of_a_slot_is_not_part_of_it():
    assert joined([("put", None), (" milk ", "item"), ("on", None)]) == ("put milk on", (Span(4, 8, "item"),))


def test_a_slot_of_spaces_is_no_slot():
    assert joined([("a", None), ("  ", "item"), ("b", None)]) == ("a b", ())


def test_neighbours_of_different_slots_stay_apart():
    assert spans_of("ab", ["hours", "minutes"]) == (Span(0, 1, "hours"), Span(1, 2, "minutes"))


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intent", "domain", "on", "off"),
    [
        ("light", "light", "turn_on", "turn_off"),
        ("fan", "fan", "turn_on", "turn_off"),
        ("blinds", "cover", "cover_open", "cover_close"),
        ("valve", "valve", "cover_open", "cover_close"),
        ("scene", "scene", "scene_start", None),
    ],
)
def test_turning_on_means_what_a_person_would_say(intent, domain, on, off):
    assert person_label("HassTurnOn", domain, {}) == on and person_label("HassTurnOff", domain, {}) == off


def test_locks_turn_on_when_they_lock():
    made = grammar(
        HassTurnOn=[block("lock {name}", requires="lock")], HassTurnOff=[block("unlock {name}", requires="lock")]
    )
    assert {(c.text.split()[0], c.intent) for c in everything(made)} == {
        ("lock", "door_lock"),
        ("unlock", "door_unlock"),
    }


def test_covers_open_and_close():
    made = grammar(
        HassTurnOn=[block("open the {cover_classes:device_class}", domain="cover")],
        HassTurnOff=[block("close {name}", requires="cover")],
    )
    assert {(c.text.split()[0], c.intent) for c in everything(made)} == {
        ("open", "cover_open"),
        ("close", "cover_close"),
    }


def test_one_template_for_two_kinds_of_device_gets_each_kinds_label():
    made = grammar(HassTurnOn=[block("activate {name}", requires=["light", "lock", "vacuum cleaner"])])
    found = {c.text: c.intent for c in everything(made)}
    assert found == {"activate desk lamp": "turn_on", "activate lamp": "turn_on", "activate front door": "door_lock"}
    assert len({t.id for t in made.templates}) == 2


def test_volume_goes_by_the_words_that_were_sampled():
    made = grammar(
        HassSetVolumeRelative=[
            block(
                "volume {volume_step}",
                "raise it by {volume_step_up:volume_step}",
                "cut it by {volume_step_down:volume_step}",
            )
        ]
    )
    for command in everything(made):
        up = any(word in command.text for word in ("up", "louder", "raise"))
        assert command.intent == ("volume_up" if up else "volume_down"), command.text
    assert {c.text for c in everything(made)} >= {"volume up", "volume louder", "volume down", "volume quieter"}


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"volume_step": "10"}, "volume_up"),
        ({"volume_step": "-10"}, "volume_down"),
        ({"volume_step": "+5"}, "volume_up"),
        ({}, None),
    ],
)
def test_volume_by_value(values, label):
    assert person_label("HassSetVolumeRelative", "", values) == label


def test_light_settings_are_told_apart_by_their_slot():
    made = grammar(HassLightSet=[block("set {brightness}", "paint it {color}", domain="light")])
    assert {(c.text.split()[0], c.intent) for c in everything(made, 3)} == {
        ("set", "brightness_set"),
        ("paint", "color_set"),
    }


def test_two_acts_at_once_have_no_label():
    assert person_label("HassStartTimer", "", {"timer_command": "open"}) is None


def test_state_of_a_person_is_finding_the_person():
    assert person_label("HassGetState", "person", {}) == "person_find"
    assert person_label("HassGetState", "light", {}) == "state_get"


def test_intents_that_the_course_does_not_teach_are_left_out():
    assert grammar(HassUnknownIntent=[block("do it")]).templates == []


def test_every_label_that_can_come_out_is_documented():
    from xlbook.grammar import KEPT, ON_OFF

    labels = set(KEPT.values()) | {label for pair in ON_OFF.values() for label in pair if label}
    labels |= {"state_get", "person_find", "brightness_set", "color_set", "volume_up", "volume_down"}
    assert labels == set(INTENTS)


# --- what a language lacks --------------------------------------------------------------------------------------------


def test_missing_lists_and_rules_are_counted_and_their_templates_left_out():
    made = grammar(
        HassNevermind=[block("go {nowhere}", "run {nowhere} fast", "use <gone>", "say {shopping_list_item}", "stop")],
        HassTurnOn=[block("start {name}", requires="fan")],
        HassRespond=[block("<loop>")],
    )
    assert texts(made) == {"say milk", "say brown bread", "stop"}
    assert made.missing == {"{nowhere}": 2, "<gone>": 1, "{name} of fan": 1, "a rule that contains itself": 1}


@pytest.mark.parametrize("number", range(12))
def test_a_branch_that_needs_a_missing_list_is_never_taken_and_never_an_error(number):
    made = grammar(HassNevermind=[block(f"stop {number} (now|{{nowhere}}|soon|<gone>)")])
    assert texts(made) <= {f"stop {number} now", f"stop {number} soon"}
    assert sum(map(len, made.by_split().values())) == len(made.templates)


@pytest.mark.parametrize("number", range(12))
def test_a_branch_without_a_label_is_never_an_error(number):
    data = intents(HassStartTimer=[block(f"timer {number} (for {{minutes}}|{{timer_command}})")])
    made = Grammar("en", data, FILLERS | {"timer_command": ["open the door"]})
    assert all(c.intent == "timer_start" for c in everything(made, 20))
    made.by_split()


# --- splits -----------------------------------------------------------------------------------------------------------


def many(count, domain="light"):
    return [block(*(f"turn on number{n} {{name}}" for n in range(count)), requires=domain)]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (4, (3, 0, 1)), (10, (7, 1, 2)), (50, (35, 5, 10))]
)
def test_split_sizes(count, sizes):
    splits = grammar(HassTurnOn=many(count)).by_split()
    assert tuple(len(splits[name]) for name in ("train", "dev", "test")) == sizes


def test_every_template_is_in_exactly_one_split():
    made = grammar(HassTurnOn=many(30), HassTurnOff=many(20))
    ids = [t.id for templates in made.by_split().values() for t in templates]
    assert sorted(ids) == sorted(t.id for t in made.templates) and len(set(ids)) == len(ids)


def test_the_split_does_not_depend_on_the_order_of_the_file():
    def names(blocks):
        return {k: {t.id for t in v} for k, v in grammar(HassTurnOn=blocks).by_split().items()}

    straight = many(30)
    turned = [straight[0] | {"sentences": straight[0]["sentences"][::-1]}]
    assert names(straight) == names(turned)


def test_one_wording_for_two_kinds_of_device_stays_in_one_split():
    made = Grammar("en", intents(HassTurnOn=many(30, ["light", "switch"])), FILLERS | {"switch": ["kettle"]})
    home = {}
    for name, templates in made.by_split().items():
        for template in templates:
            home.setdefault(repr(template.expression), set()).add(name)
    assert len(made.templates) == 60 and all(len(names) == 1 for names in home.values())


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "low", "high", "step", "allowed"),
    [
        ("percentage", 0, 100, 1, range(0, 101, 5)),
        ("temperature", 0, 100, 1, range(15, 29)),
        ("number", 1, 100, 1, (1, 2, 3, 5, 10, 15, 20, 25, 30, 40, 45, 50)),
        ("number", 1, 4, 1, (1, 2, 3)),
        ("number", 1000, 3000, 500, (1000, 1500, 2000, 2500, 3000)),
        ("number", 2, 6, 2, (2, 4, 6)),
    ],
)
def test_numbers_are_ones_that_people_say(kind, low, high, step, allowed):
    from hassil.intents import RangeSlotList, RangeType

    values = RangeSlotList(name="x", start=low, stop=high, step=step, type=RangeType(kind))
    generator = random.Random(0)
    assert {round_number(values, generator) for _ in range(400)} == set(allowed)
