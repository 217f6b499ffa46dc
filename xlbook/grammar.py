"""Sentence templates of a home assistant: parse them with hassil, choose a label a person would choose, sample.

A template such as ``turn on [the] {area} <light>`` is a tree of sequences, alternatives, permutations, rules and lists.
:meth:`Grammar.sample` walks it with a seeded generator and remembers where the slots fall.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass

from xlbook.records import Command, Span

KEPT = {
    "HassBroadcast": "announce",
    "HassCancelAllTimers": "timer_cancel",
    "HassCancelTimer": "timer_cancel",
    "HassClimateGetTemperature": "temperature_get",
    "HassClimateSetFanMode": "fan_set",
    "HassClimateSetTemperature": "temperature_set",
    "HassDecreaseTimer": "timer_shorten",
    "HassFanSetSpeed": "fan_set",
    "HassGetCurrentDate": "date_get",
    "HassGetCurrentTime": "time_get",
    "HassGetWeather": "weather_get",
    "HassIncreaseTimer": "timer_extend",
    "HassLawnMowerDock": "robot_dock",
    "HassLawnMowerStartMowing": "robot_start",
    "HassListAddItem": "list_add",
    "HassListCompleteItem": "list_remove",
    "HassListRemoveItem": "list_remove",
    "HassMediaNext": "media_next",
    "HassMediaPause": "media_pause",
    "HassMediaPlayerMute": "volume_mute",
    "HassMediaPlayerUnmute": "volume_unmute",
    "HassMediaPrevious": "media_previous",
    "HassMediaSearchAndPlay": "media_play",
    "HassMediaUnpause": "media_resume",
    "HassNevermind": "nevermind",
    "HassPauseTimer": "timer_pause",
    "HassRespond": "about_assistant",
    "HassSetPosition": "cover_set",
    "HassSetVolume": "volume_set",
    "HassShoppingListAddItem": "list_add",
    "HassShoppingListCompleteItem": "list_remove",
    "HassStartTimer": "timer_start",
    "HassTimerStatus": "timer_get",
    "HassUnpauseTimer": "timer_resume",
    "HassVacuumCleanArea": "robot_start",
    "HassVacuumReturnToBase": "robot_dock",
    "HassVacuumStart": "robot_start",
}
SWITCHABLE = ("light", "switch", "fan", "media_player", "input_boolean", "climate")
ON_OFF = {
    **{domain: ("turn_on", "turn_off") for domain in SWITCHABLE},
    "cover": ("cover_open", "cover_close"),
    "valve": ("cover_open", "cover_close"),
    "lock": ("door_lock", "door_unlock"),
    "scene": ("scene_start", None),
    "script": ("scene_start", None),
}
SLOT_OF_KIND = {"scene": "scene", "script": "scene", "todo": "list", "person": "person"}
SLOT_OF_HASSIL = {
    "area": "area",
    "preferred_area_id": "area",
    "floor": "floor",
    "preferred_floor_id": "floor",
    "device_class": "device",
    "color": "color",
    "brightness": "level",
    "position": "level",
    "percentage": "level",
    "volume_level": "level",
    "fan_mode": "level",
    "hours": "hours",
    "start_hours": "hours",
    "minutes": "minutes",
    "start_minutes": "minutes",
    "seconds": "seconds",
    "start_seconds": "seconds",
    "item": "item",
    "message": "message",
    "search_query": "media",
}
FILLER_OF_LIST = {
    "shopping_list_item": "item",
    "todo_list_item": "item",
    "timer_name": "timer",
    "message": "message",
    "search_query": "search_query",
    "zone": "zone",
    "area": "area",
    "floor": "floor",
}
MAX_DEPTH = 40
TRIES = 6


@dataclass(frozen=True)
class Template:
    """One sentence template with the label that it stands for."""

    id: str
    """Language, intent and a hash of the template's text."""
    intent: str
    """hassil's intent, such as ``HassTurnOn``; :func:`person_label` turns it into the course's label."""
    domain: str
    """The kind of device it is about, or an empty string."""
    expression: object
    """hassil's expression tree."""
    rules: dict
    """Expansion rules in force for this template."""
    fixed: tuple[tuple[str, object], ...] = ()
    """Slot values that the template implies."""


class Missing(Exception):
    """A template needs a list that this language has no values for."""


def person_label(intent: str, domain: str, values: dict[str, object]) -> str | None:
    """Return the label that a person would choose, or ``None`` where there is no single one.

    Args:
        intent: hassil's intent, such as ``HassTurnOn``.
        domain: kind of device: ``cover``, ``lock``, ``light`` …
        values: sampled or implied slot values by list and slot name.

    >>> person_label("HassTurnOn", "lock", {})
    'door_lock'
    """
    if "timer_command" in values:
        return None  # "turn off the light in five minutes" is two acts at once
    if intent in ("HassTurnOn", "HassTurnOff"):
        return ON_OFF.get(domain, (None, None))[intent == "HassTurnOff"]
    if intent == "HassGetState":
        return "person_find" if domain == "person" else "state_get"
    if intent == "HassLightSet":
        return "brightness_set" if "brightness" in values else "color_set"
    if intent == "HassSetVolumeRelative":
        return louder_or_quieter(values)
    return KEPT.get(intent)


def louder_or_quieter(values: dict[str, object]) -> str | None:
    """Return ``volume_up`` or ``volume_down`` from the sampled step, ``None`` if the template does not say."""
    if "volume_step_up" in values:
        return "volume_up"
    if "volume_step_down" in values:
        return "volume_down"
    step = str(values.get("volume_step", ""))
    if step.lstrip("+-").isdigit():
        return "volume_down" if step.startswith("-") else "volume_up"
    return {"up": "volume_up", "down": "volume_down"}.get(step)


class Grammar:
    """All templates of one language.

    Args:
        language: course code.
        data: a file of the command source: intents, lists, expansion rules.
        fillers: the course's own words for lists that the file leaves open: kind -> strings.
    """

    def __init__(self, language: str, data: dict, fillers: dict[str, list[str]]):
        from hassil.intents import Intents

        self.language, self.fillers = language, fillers
        self.intents = Intents.from_dict(data)
        self.missing: Counter[str] = Counter()
        self.templates: list[Template] = []
        for intent, block in ((i, b) for i, v in self.intents.intents.items() for b in v.data):
            self._add_block(intent, block)

    def _add_block(self, intent: str, block) -> None:
        """Keep the templates of one block that can be sampled and that have a label."""
        rules = {**self.intents.expansion_rules, **block.expansion_rules}
        for domain in domains(block):
            for sentence in block.sentences:
                digest = hashlib.sha256(f"{intent}{domain}{sentence.text}".encode()).hexdigest()[:10]
                raw = Template(f"{self.language}:{intent}:{digest}", intent, domain, sentence.expression, rules,
                               tuple((k, v) for k, v in block.slots.items()))  # fmt: skip
                try:
                    probe = self._walk(raw, random.Random(digest))
                except Missing as lack:
                    self.missing[str(lack)] += 1
                    continue
                if probe is not None:
                    self.templates.append(raw)

    def by_split(self) -> dict[str, list[Template]]:
        """Return the templates of each split: within each intent 70% train, 10% dev, 20% test, ordered by hash.

        Templates with the same wording (for lights and for switches, say) stay together.
        """
        groups: dict[str, dict[str, list[Template]]] = {}
        for template in self.templates:
            groups.setdefault(self.label(template), {}).setdefault(wording(template), []).append(template)
        splits: dict[str, list[Template]] = {"train": [], "dev": [], "test": []}
        for words in groups.values():
            order = sorted(words, key=lambda w: hashlib.sha256(w.encode()).hexdigest())
            tests = max(1, round(0.2 * len(order))) if len(order) > 1 else 0
            devs = max(1, round(0.1 * len(order))) if len(order) > 4 else 0
            for rank, word in enumerate(order):
                name = "test" if rank < tests else "dev" if rank < tests + devs else "train"
                splits[name] += words[word]
        return splits

    def label(self, template: Template) -> str:
        """Return the course's label of a template; where the sampled words decide, that of one fixed sample."""
        command = self._try(template, random.Random(template.id))
        return (command or self._walk(template, random.Random(template.id.rsplit(":", 1)[1]))).intent

    def sample(self, template: Template, count: int, *, seed: int = 0) -> list[Command]:
        """Return up to ``count`` different commands of one template; the same seed gives the same commands."""
        generator = random.Random(f"{template.id}-{seed}")
        found: dict[str, Command] = {}
        for _ in range(count * TRIES):
            command = self._try(template, generator)
            if command is not None:
                found.setdefault(command.text, command)
            if len(found) == count:
                break
        return list(found.values())

    def _try(self, template: Template, generator: random.Random) -> Command | None:
        """Sample one command, or ``None`` where this way through the tree has no label or needs a missing list."""
        try:
            return self._walk(template, generator)
        except Missing:
            return None

    def _walk(self, template: Template, generator: random.Random) -> Command | None:
        """Sample one command, or ``None`` where the words have no single label."""
        walk = Walk(self, template, generator)
        walk.visit(template.expression, 0)
        intent = person_label(template.intent, template.domain, walk.values)
        text, spans = joined(walk.parts)
        return Command(text, intent, self.language, template.id, spans) if intent and text else None


class Walk:
    """One way through a template's tree: text parts with their slots, and the values that were chosen."""

    def __init__(self, grammar: Grammar, template: Template, generator: random.Random):
        self.grammar, self.template, self.generator = grammar, template, generator
        self.parts: list[tuple[str, str | None]] = []
        self.values: dict[str, object] = dict(template.fixed)

    def visit(self, node, depth: int, slot: str | None = None) -> None:
        """Append the words of one node and of what lies below it."""
        from hassil.expression import Alternative, ListReference, Permutation, RuleReference, Sequence, TextChunk

        if depth > MAX_DEPTH:
            raise Missing("a rule that contains itself")
        if isinstance(node, TextChunk):
            self.parts.append((node.original_text, slot))
        elif isinstance(node, Alternative):
            self.visit(self.generator.choice(node.items), depth + 1, slot)
        elif isinstance(node, Permutation):
            for item in self.generator.sample(node.items, len(node.items)):
                self.visit(item, depth + 1, slot)
                self.parts.append((" ", None))
        elif isinstance(node, Sequence):
            for item in node.items:
                self.visit(item, depth + 1, slot)
        elif isinstance(node, RuleReference):
            if node.rule_name not in self.template.rules:
                raise Missing(f"<{node.rule_name}>")
            self.visit(self.template.rules[node.rule_name].expression, depth + 1, slot)
        elif isinstance(node, ListReference):
            self.fill(node, depth)

    def fill(self, node, depth: int) -> None:
        """Append a value of a list and remember it under the names of list and slot."""
        from hassil.intents import RangeSlotList, TextSlotList

        name, slot = node.list_name, node.slot_name
        values = self.grammar.intents.slot_lists.get(name)
        kind = self.template.domain if name == "name" else FILLER_OF_LIST.get(name, name)
        mark = self.slot(slot, name)
        if kind in self.grammar.fillers:
            chosen = self.generator.choice(self.grammar.fillers[kind])
            self.parts.append((chosen, mark))
        elif isinstance(values, RangeSlotList):
            chosen = round_number(values, self.generator)
            self.parts.append((str(chosen), mark))
        elif isinstance(values, TextSlotList) and values.values:
            value = self.generator.choice(values.values)
            chosen = value.value_out
            self.visit(value.text_in, depth + 1, mark)
        else:
            raise Missing(f"{{{name}}}" + (f" of {kind}" if name == "name" and kind else ""))
        self.values |= {name: chosen, slot: chosen}

    def slot(self, slot: str, list_name: str) -> str | None:
        """Return the course's slot for hassil's, or ``None`` for words that mark no slot."""
        if slot == "name":
            return "timer" if list_name == "timer_name" else SLOT_OF_KIND.get(self.template.domain, "device")
        if slot == "temperature":
            return "color" if self.template.intent == "HassLightSet" else "temperature"
        return SLOT_OF_HASSIL.get(slot)


def domains(block) -> list[str]:
    """Return the kinds of device that a block of templates is about: what it implies, else what it requires."""
    named = block.slots.get("domain") or (block.requires_context or {}).get("domain") or ""
    if isinstance(named, dict):
        named = named.get("value", "")
    named = named if isinstance(named, list) else [named]
    return [d for d in named if isinstance(d, str)]


def wording(template: Template) -> str:
    """Return the template's words without its kind of device: templates that differ only there are one."""
    return repr(template.expression)


SPOKEN = (1, 2, 3, 5, 10, 15, 20, 25, 30, 40, 45, 50)
"""Numbers that people say when they set a timer; ranges of 1 to 100 are narrowed to them."""


def round_number(values, generator: random.Random):
    """Return a number that people would say from a range: percentages in fives, temperatures around a room's."""
    low, high = values.start, values.stop
    if getattr(values.type, "value", values.type) == "temperature":
        low, high = max(low, 15), min(high, 28)
    if low == 1:
        return generator.choice([n for n in SPOKEN if n <= high] or [1])
    step = max(values.step, 5 if high - low >= 100 and low == 0 else 1)
    return generator.randrange(low, high + 1, step)


def joined(parts: list[tuple[str, str | None]]) -> tuple[str, tuple[Span, ...]]:
    """Join text parts, fold white space, and return the text with its slots as character spans.

    >>> joined([("turn on  ", None), ("lamp", "device"), (" ", None)])
    ('turn on lamp', (Span(start=8, end=12, slot='device'),))
    """
    text, owners = "", []
    for words, slot in parts:
        for character in words:
            character = " " if character.isspace() else character
            if character == " " and (not text or text.endswith(" ")):
                continue
            text, owners = text + character, [*owners, slot if character != " " else slot]
    while text.endswith(" "):
        text, owners = text[:-1], owners[:-1]
    return text, spans_of(text, owners)


def spans_of(text: str, owners: list[str | None]) -> tuple[Span, ...]:
    """Return the runs of characters that belong to one slot, without white space at their ends."""
    spans, start = [], 0
    for end in range(1, len(owners) + 1):
        if end == len(owners) or owners[end] != owners[start]:
            if owners[start] is not None:
                words = text[start:end]
                left = start + len(words) - len(words.lstrip())
                right = end - (len(words) - len(words.rstrip()))
                spans += [Span(left, right, owners[start])] if right > left else []
            start = end
    return tuple(spans)
