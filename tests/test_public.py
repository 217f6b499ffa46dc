"""public: six benchmarks from a stand-in for the Hub on this machine, read by the real `datasets.load_dataset`."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import datasets
import pytest
from click.testing import CliRunner
from hub_server import Fault, Repo, serve

from xlbook import hub, public, published, tagging
from xlbook.checkpoints import HUB_MODELS
from xlbook.languages import COURSE
from xlbook.records import Inference, Labelled, Pair, Question, Tagged
from xlbook.sources import SourceError

SPLITS = {"train": "train", "dev": "validation", "test": "test"}
TOPICS = [(3, "sports", 'They said: "we won",\tand went home.'), (7, "travel", "The bus leaves at noon.")]
CONTEXT = "The river is long. The town lies on the river."


def card(configs: dict[str, dict[str, str]]) -> bytes:
    """A repository's card that says which configuration is which files: configuration -> split -> path."""
    lines = ["---", "configs:"]
    for name, files in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in files.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", "A toy slice.", ""]).encode()


def repository(configs: dict[str, dict[str, str]], content) -> dict[str, bytes]:
    """All files of a toy repository; ``content(config, split)`` gives the bytes of one."""
    files = {path: content(name, split) for name, splits in configs.items() for split, path in splits.items()}
    return files | {"README.md": card(configs)}


def parquet(columns: dict, features: dict) -> bytes:
    stream = io.BytesIO()
    datasets.Dataset.from_dict(columns, datasets.Features(features)).to_parquet(stream)
    return stream.getvalue()


def sib200_slice() -> dict[str, bytes]:
    def table(code, split):
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerows([("index_id", "category", "text"), *[(n, t, f"{code} {s}") for n, t, s in TOPICS]])
        return stream.getvalue().encode()

    parts = {"train": "train", "validation": "dev", "test": "test"}
    codes = ("eng_Latn", "zho_Hans", "fin_Latn")
    return repository({c: {s: f"data/{c}/{f}.tsv" for s, f in parts.items()} for c in codes}, table)


def massive_slice() -> dict[str, bytes]:
    def lines(code, split):
        rows = [{"id": str(n), "label": "alarm_set", "label_text": "alarm_set", "text": f"{code} {split} wake me",
                 "lang": code} for n in range(2)]  # fmt: skip
        return gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode())

    return repository({c: {s: f"{s}/{c}.json.gz" for s in SPLITS.values()} for c in ("en", "zh-CN")}, lines)


def xnli_slice() -> dict[str, bytes]:
    text = datasets.Value("string")
    features = {"premise": text, "hypothesis": text,
                "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])}  # fmt: skip

    def table(code, split):
        columns = {"premise": ["It rains."] * 2, "hypothesis": [f"{code} wet", "dry"], "label": [0, 2]}
        return parquet(columns, features)

    parts = SPLITS.values()
    return repository({c: {s: f"{c}/{s}-00000-of-00001.parquet" for s in parts} for c in ("en", "zh")}, table)


def wikiann_slice() -> dict[str, bytes]:
    words = datasets.Sequence(datasets.Value("string"))
    tags = datasets.Sequence(datasets.ClassLabel(names=list(public.NAME_TAGS)))

    def table(code, split):
        columns = {"tokens": [["Ann", "lives", "in", "Bonn"]], "ner_tags": [[1, 0, 0, 5]], "langs": [[code] * 4],
                   "spans": [["PER: Ann", "LOC: Bonn"]]}  # fmt: skip
        return parquet(columns, {"tokens": words, "ner_tags": tags, "langs": words, "spans": words})

    parts = SPLITS.values()
    return repository({c: {s: f"{c}/{s}-00000-of-00001.parquet" for s in parts} for c in ("en", "ko")}, table)


def tatoeba_slice() -> dict[str, bytes]:
    rows = [{"sentence1": "Guten Tag.", "sentence2": "Good day."}, {"sentence1": "Ja.", "sentence2": "Yes."}]
    content = gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode())
    return repository({"deu-eng": {"test": "test/deu-eng.jsonl.gz"}}, lambda *_: content)


def xquad_slice() -> dict[str, bytes]:
    text = datasets.Value("string")
    answers = {"text": datasets.Sequence(text), "answer_start": datasets.Sequence(datasets.Value("int32"))}
    columns = {"id": ["q1", "q2"], "context": [CONTEXT] * 2, "question": ["What is long?", "Where is the town?"],
               "answers": [{"text": ["The river"], "answer_start": [0]},
                           {"text": ["the river", "Rome"], "answer_start": [35, 1]}]}  # fmt: skip
    content = parquet(columns, {"id": text, "context": text, "question": text, "answers": answers})
    return repository({"xquad.zh": {"validation": "xquad.zh/validation-00000-of-00001.parquet"}}, lambda *_: content)


SLICES = {
    "sib200": sib200_slice,
    "massive": massive_slice,
    "xnli": xnli_slice,
    "wikiann": wikiann_slice,
    "tatoeba": tatoeba_slice,
    "xquad": xquad_slice,
}


@pytest.fixture(scope="module")
def slices() -> dict[tuple[str, str], Repo]:
    """All six toy repositories, under the real names and revisions."""
    pins = {name: public.BENCHMARKS[name].repository for name in SLICES}
    return {("dataset", pins[n].name): Repo(pins[n].revision, build()) for n, build in SLICES.items()}


@pytest.fixture
def server(monkeypatch, tmp_path, slices):
    served = serve(monkeypatch, tmp_path, dict(slices))
    yield served
    served.close()


# --- the six ----------------------------------------------------------------------------------------------------------


def test_sib200(server):
    assert public.sib200("zh") == [
        Labelled('zho_Hans They said: "we won",\tand went home.', "sports", "zh", "sib200:3"),
        Labelled("zho_Hans The bus leaves at noon.", "travel", "zh", "sib200:7"),
    ]
    assert not [p for p in server.paths() if "fin_Latn" in p and "/resolve/" in p], "one language only is fetched"


@pytest.mark.parametrize(("ours", "theirs"), SPLITS.items())
def test_massive_and_its_splits(server, ours, theirs):
    expected = [Labelled(f"zh-CN {theirs} wake me", "alarm_set", "zh", f"massive:{n}") for n in range(2)]
    assert public.massive("zh-Hans", ours) == expected


def test_xnli(server):
    assert public.xnli("en", "dev") == [
        Inference("It rains.", "en wet", "entailment", "en", "xnli:dev:0"),
        Inference("It rains.", "dry", "contradiction", "en", "xnli:dev:1"),
    ]


def test_wikiann(server):
    words, tags = ("Ann", "lives", "in", "Bonn"), ("B-PER", "O", "O", "B-LOC")
    assert public.wikiann("ko") == [Tagged(words, tags, "ko", "wikiann:test:0")]


def test_tagged_words_become_a_text_with_slots():
    tags = ("B-PER", "B-PER", "I-PER", "O", "B-LOC")
    said = public.as_command(Tagged(("Ann", "Bo", "Lee", ",", "Bonn"), tags, "en", "k"))
    assert (said.text, said.language, said.template) == ("Ann Bo Lee , Bonn", "en", "k")
    assert [(said.text[s.start : s.end], s.slot) for s in said.slots] == [
        ("Ann", "PER"),
        ("Bo Lee", "PER"),
        ("Bonn", "LOC"),
    ]
    assert tagging.word_tags(said) == ["B-PER", "B-PER", "I-PER", "B-LOC"]
    chinese = public.as_command(Tagged(("北", "京", "人"), ("B-LOC", "I-LOC", "O"), "zh", "k"))
    assert tagging.word_tags(chinese) == ["B-LOC", "I-LOC", "O"]


def test_tatoeba_has_english_first(server):
    assert public.tatoeba("de")[0] == Pair("Good day.", "Guten Tag.", "tatoeba:deu-eng:0")


def test_xquad_and_an_offset_that_is_wrong(server):
    first, second = public.xquad("zh")
    assert first == Question(CONTEXT, "What is long?", ("The river",), (0,), "zh", "xquad:q1")
    assert second.starts == (CONTEXT.rindex("the river"), -1)


def test_the_second_time_nothing_is_asked_and_it_works_offline(server, monkeypatch):
    from huggingface_hub import constants

    once = public.tatoeba("de")
    server.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert public.tatoeba("de") == once


def test_offline_a_language_that_was_not_fetched_is_told_apart(server, monkeypatch):
    from huggingface_hub import constants

    public.massive("zh")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="mteb/amazon_massive_intent@940fd47a: HF_HUB_OFFLINE is set"):
        public.massive("en")


@pytest.mark.parametrize(
    ("name", "language"),
    [("sib200", "zh"), ("massive", "zh"), ("xnli", "zh"), ("wikiann", "ko"), ("tatoeba", "de"), ("xquad", "zh")],
)
def test_a_data_set_that_went_on_gives_the_rows_that_are_pinned(server, name, language):
    """Its authors have emptied it since; whoever asks for `main` finds nothing."""
    pin = public.BENCHMARKS[name].repository
    pinned = server.repositories["dataset", pin.name]
    server.repositories["dataset", pin.name] = replace(pinned, later=Repo("f" * 40, {"README.md": card({})}))
    assert len(getattr(public, name)(language)) in (1, 2)


def test_classes_in_another_order_are_refused(server, slices):
    pin = public.BENCHMARKS["xnli"].repository
    label = datasets.ClassLabel(names=["contradiction", "neutral", "entailment"])
    text = datasets.Value("string")
    content = parquet({"premise": ["a"], "hypothesis": ["b"], "label": [0]},
                      {"premise": text, "hypothesis": text, "label": label})  # fmt: skip
    files = repository({"en": {"test": "en/test-00000-of-00001.parquet"}}, lambda *_: content)
    server.repositories["dataset", pin.name] = Repo(pin.revision, files)
    with pytest.raises(ValueError, match="numbers its classes.*the course knows"):
        public.xnli("en")


# --- which language, which split --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: public.xnli("fi"), "xnli has no 'fi'. .*Allowed: en, zh, de"),
        (lambda: public.xquad("fr"), "xquad has no 'fr'"),
        (lambda: public.sib200("zh-hk"), 'sib200 has no .zh-hk.. Did you mean "zh-tw"'),
        (lambda: public.xquad("zh", "train"), "xquad has no 'train' split.*Allowed: test"),
        (lambda: public.sib200("zh", "validation"), "has no 'validation' split.*Allowed: train, dev, test"),
        (lambda: public.rows("xqaud", "zh", "test"), 'Unknown benchmark.*Did you mean "xquad"'),
        (lambda: public.tatoeba("en"), "tatoeba has no 'en'"),
    ],
)
def test_what_there_is_not_is_said_before_anything_is_fetched(server, call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert server.asked == []


def test_every_benchmark_has_what_the_course_needs():
    table = public.code_table()
    assert set(table) == set(public.BENCHMARKS) == set(SLICES)
    lacking = {name: [c for c in COURSE if c not in codes] for name, codes in table.items()}
    assert lacking == {"sib200": [], "massive": [], "xnli": ["fi", "ko"], "wikiann": [], "tatoeba": ["en"],
                       "xquad": ["fr", "fi", "ko"]}  # fmt: skip
    for codes in table.values():
        assert len(set(codes.values())) == len(codes), "two languages share a code"


@pytest.mark.parametrize("name", SLICES)
def test_each_card_is_complete(name):
    benchmark, text = public.BENCHMARKS[name], public.card_text(name)
    assert re.fullmatch(r"[0-9a-f]{40}", benchmark.repository.revision) and benchmark.repository.kind == "dataset"
    assert all(p.endswith((".json", ".gz", ".parquet", ".tsv", ".md")) for p in public.patterns(name, COURSE)), (
        "no code"
    )
    assert set(benchmark.splits) <= set(SPLITS) and benchmark.traps and benchmark.licence and benchmark.paper
    for words in (benchmark.repository.revision, benchmark.licence, *benchmark.traps, *published.lines(name)):
        assert words in text


# --- when the Hub does not give it ------------------------------------------------------------------------------------


def test_a_data_set_that_is_not_on_this_mirror(server):
    server.repositories.clear()
    with pytest.raises(SourceError, match="no such repository at http://127.0.0.1:.*HF_ENDPOINT") as error:
        public.sib200("en")
    assert "\n" not in str(error.value)


def test_other_bytes_than_stated_are_refused_before_they_are_read(server, tmp_path):
    server.faults.append(Fault("/cdn/", "corrupt"))
    with pytest.raises(SourceError, match="deu-eng.jsonl.gz of mteb/tatoeba-bitext-mining@69e8f12d has the hash"):
        public.tatoeba("de")
    assert not (tmp_path / "datasets").exists()
    assert public.tatoeba("de")[1].a == "Yes.", "the next call fetches it again"


def one_line(call) -> str:
    """Make a call that fails, and return what it says: one line."""
    with pytest.raises(SourceError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_gated_data_set_names_its_page(server):
    repository = public.BENCHMARKS["tatoeba"].repository
    files = server.repositories["dataset", repository.name].files
    server.repositories["dataset", repository.name] = Repo(repository.revision, files, gated=True)
    said = one_line(lambda: public.tatoeba("de"))
    assert f"https://huggingface.co/datasets/{repository.name}" in said and "hf auth login" in said


def test_a_file_that_is_gone_from_the_mirror(server):
    repository = public.BENCHMARKS["tatoeba"].repository
    files = dict(server.repositories["dataset", repository.name].files)
    del files["test/deu-eng.jsonl.gz"]
    server.repositories["dataset", repository.name] = Repo(repository.revision, files)
    assert "HF_ENDPOINT" in one_line(lambda: public.tatoeba("de"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/tree/", "status", 429, headers={"Retry-After": "3"}),
        Fault("/tree/", "status", 503),
        Fault("/cdn/", "cut"),
    ],
    ids=lambda fault: f"{fault.kind}{fault.value}",
)
def test_one_fault_on_the_way_is_got_over(server, monkeypatch, fault):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    server.faults.append(replace(fault))
    assert public.tatoeba("de")[1].a == "Yes."
    assert server.faults[0].times == 0 and (not fault.headers or max(waited) >= 3)


@pytest.mark.parametrize(("status", "said"), [(429, "too many requests"), (503, "answered 503")])
def test_faults_without_an_end_say_what_to_do(server, monkeypatch, status, said):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server.faults.append(Fault("/tree/", "status", status, times=99, headers={"Retry-After": "9"}))
    message = one_line(lambda: public.tatoeba("de"))
    assert said in message and "HF_ENDPOINT" in message


def test_a_folder_that_was_brought_needs_no_hub(server, monkeypatch, tmp_path):
    repository = public.BENCHMARKS["sib200"].repository
    place = hub.bring(repository, tmp_path / "stick", public.patterns("sib200", ("en", "zh", "xx")))
    assert {f.name for f in place.rglob("*.tsv")} == {"train.tsv", "dev.tsv", "test.tsv"}
    assert not (place / "data" / "fin_Latn").exists() and (place / "manifest.json").exists()
    server.close()
    monkeypatch.setenv("XLBOOK_WHEELS", str(tmp_path / "stick"))
    assert [r.label for r in public.sib200("zh")] == ["sports", "travel"]
    (place / "data" / "zho_Hans" / "test.tsv").write_text("changed", encoding="utf-8")
    with pytest.raises(SourceError, match="damaged or incomplete.*xlbook public --to"):
        public.sib200("zh")


def call(*words):
    from xlbook import cli

    return CliRunner().invoke(cli.main, ["public", *words])


def test_the_command_shows_every_card_and_model():
    output = call().output
    for name, benchmark in public.BENCHMARKS.items():
        assert public.card_text(name) in output and benchmark.repository.revision in output
    for name, repository in HUB_MODELS.items():
        assert f"{name}  {repository.name}@{repository.revision}" in output
    assert call("xnli").output == public.card_text("xnli") + "\n"


def test_the_command_brings_the_named_languages_into_a_folder(server, tmp_path):
    done = call("sib200", "--to", str(tmp_path / "stick"), "--language", "zh")
    assert done.exit_code == 0 and str(tmp_path / "stick") in done.output
    assert {f.parent.name for f in (tmp_path / "stick").rglob("*.tsv")} == {"zho_Hans"}


def test_the_command_names_the_closest_and_the_way_out(server, tmp_path):
    assert 'Did you mean "xlm-roberta-base"' in call("xlm-roberta-bas").output
    done = call("xlm-roberta-base", "--to", str(tmp_path / "stick"))
    assert done.exit_code == 1 and "no such repository" in done.output and "Traceback" not in done.output


def test_in_a_process_of_its_own_with_hf_endpoint(server, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    code = "from xlbook import public; print(public.massive('en')[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    assert done.stdout.strip() == str(Labelled("en test wake me", "alarm_set", "en", "massive:1")), done.stderr
