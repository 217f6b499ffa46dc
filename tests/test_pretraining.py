"""Pretraining: pairs with positions of their own, language shares, the loss, resuming after a kill, two processes."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from dying import KILLED, scorer_that_dies
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertModel

from xlbook import checkpoints, cli, multitext, pretraining, recipes, training
from xlbook.cleaning import key
from xlbook.languages import TARGETS
from xlbook.masking import MaskingCollator
from xlbook.multitext import Corpus
from xlbook.pretraining import MaskedLoss, batches, encode_pair, examples_of, packed, padding_share, pretrain
from xlbook.recipes import chapter_03
from xlbook.records import IGNORED, Pair
from xlbook.training import Settings

VERBS = {"en": ["open", "close", "stop", "start"], "xx": ["avaa", "sulje", "seis", "alku"]}
NOUNS = {"en": ["door", "window", "light", "lamp", "fan"], "xx": ["ovi", "ikkuna", "valo", "lamppu", "tuuli"]}


def tiny_corpus() -> Corpus:
    """Twenty sentences of two words in English and a made-up language, with their translations."""
    texts = {c: [f"{v} {n}" for v in VERBS[c] for n in NOUNS[c]] for c in VERBS}
    pairs = [Pair(a, b, str(i)) for i, (a, b) in enumerate(zip(texts["en"], texts["xx"]))]
    return Corpus(texts, {"xx": pairs}, {})


@pytest.fixture(scope="module")
def corpus():
    return tiny_corpus()


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return pretraining.make_tokenizer(corpus.texts, 60)


def model(tokenizer, **options):
    return pretraining.tiny_bert(tokenizer, **{"layers": 1, "width": 32, "dropout": 0.0} | options)


QUICK = Settings(steps=12, batch_size=8, learning_rate=5e-3)


# --- tokenizer, examples, order --------------------------------------------------------------------------------------


def test_the_tokenizer_has_the_special_tokens_of_xlm_r(tokenizer, tmp_path):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.mask_token_id == len(tokenizer) - 1 and len(tokenizer) <= 60
    ids = tokenizer("open door")["input_ids"]
    assert ids[0] == 0 and ids[-1] == 2 and 3 not in ids
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("open <mask>")["input_ids"][-2] == tokenizer.mask_token_id


def test_the_second_text_of_a_pair_has_positions_of_its_own(tokenizer):
    first, second = (tokenizer(t)["input_ids"] for t in ("open door", "avaa ovi"))
    example = encode_pair(tokenizer, "open door", "avaa ovi")
    assert example["input_ids"] == [*first, 2, *second[1:]]
    assert example["position_ids"] == [*range(len(first)), *range(len(second))]
    through = encode_pair(tokenizer, "open door", "avaa ovi", reset=False)
    assert through["position_ids"] == list(range(len(first) + len(second)))


def test_long_pairs_are_cut_to_what_the_model_can_read(tokenizer):
    example = encode_pair(tokenizer, "open door " * 60, "avaa ovi " * 60)
    assert len(example["input_ids"]) == pretraining.LONGEST == len(example["position_ids"])
    assert example["input_ids"].count(2) == 3


def test_packing_uses_each_text_once_a_round(corpus, tokenizer):
    texts = corpus.texts["en"]
    examples = packed(tokenizer, texts, rounds=3)
    seen = Counter()
    for example in examples:
        halves = tokenizer.decode(example["input_ids"]).replace("<s>", "").split("</s>")
        seen.update(h.strip() for h in halves if h.strip())
    assert seen == dict.fromkeys(texts, 3)


def test_objectives_differ_only_in_the_second_text(corpus, tokenizer):
    kinds = {o: Counter(e["kind"] for e in examples_of(corpus, tokenizer, o)) for o in pretraining.OBJECTIVES}
    assert kinds == {"mlm": {"mlm": 40}, "tlm": {"mlm": 40, "tlm": 20}, "shuffled": {"mlm": 40, "tlm": 20}}
    true, wrong = ([e for e in examples_of(corpus, tokenizer, o) if e["kind"] == "tlm"] for o in ("tlm", "shuffled"))
    assert Counter(i for e in true for i in e["input_ids"]) == Counter(i for e in wrong for i in e["input_ids"])
    same = sum(a["input_ids"] == b["input_ids"] for a, b in zip(true, wrong))
    assert same < 6


def test_pairs_come_in_both_directions(corpus, tokenizer):
    pairs = [e for e in examples_of(corpus, tokenizer, "tlm") if e["kind"] == "tlm"]
    english = [tokenizer.decode(e["input_ids"][1:4]).split()[0][:2] in ("op", "cl", "st") for e in pairs]
    assert 3 < sum(english) < 17


def test_positions_are_reset_in_what_is_trained_on(corpus, tokenizer):
    for example in examples_of(corpus, tokenizer, "tlm"):
        assert example["position_ids"].count(0) == 2
    through = [e for e in examples_of(corpus, tokenizer, "tlm", reset=False) if e["kind"] == "tlm"]
    assert all(e["position_ids"].count(0) == 1 for e in through)


@pytest.mark.parametrize(("objective", "pairs", "message"), [("nlm", True, "Did you mean"), ("tlm", False, "needs")])
def test_impossible_objectives_are_refused(corpus, tokenizer, objective, pairs, message):
    with pytest.raises(ValueError, match=message):
        examples_of(Corpus(corpus.texts, corpus.pairs if pairs else {}, {}), tokenizer, objective)


@pytest.mark.parametrize(("alpha", "share"), [(1.0, 0.9), (0.5, 0.75), (0.0, 0.5)])
def test_languages_are_drawn_in_smoothed_shares(alpha, share):
    examples = [{"input_ids": [0] * 5, "language": "en" if i < 90 else "hi", "kind": "mlm"} for i in range(100)]
    drawn = [i for batch in islice(batches(examples, 20, alpha=alpha), 200) for i in batch]
    assert sum(i < 90 for i in drawn) / len(drawn) == pytest.approx(share, abs=0.03)
    counts = Counter(i for i in drawn if i < 90)
    assert max(counts.values()) - min(counts.values()) <= 1  # a language's texts are used up before any comes again


def test_mlm_and_tlm_alternate(corpus, tokenizer):
    examples = examples_of(corpus, tokenizer, "tlm")
    kinds = [{examples[i]["kind"] for i in batch} for batch in islice(batches(examples, 4), 10)]
    assert kinds == [{"mlm"}, {"tlm"}] * 5


def test_the_order_depends_on_the_seed_only(corpus, tokenizer):
    examples = examples_of(corpus, tokenizer, "tlm")
    first, again, other = (list(islice(batches(examples, 4, seed=s), 30)) for s in (0, 0, 1))
    assert first == again != other


def test_grouping_by_length_saves_padding():
    generator = random.Random(0)
    lengths = [generator.randint(3, 60) for _ in range(400)]
    examples = [{"input_ids": [0] * n, "language": "en", "kind": "mlm"} for n in lengths]
    grouped = list(islice(batches(examples, 16), 25))
    plain = list(islice(training.shuffled_batches(400, 16, seed=0), 25))
    assert padding_share(lengths, grouped) < 0.5 * padding_share(lengths, plain)


# --- the loss --------------------------------------------------------------------------------------------------------


def masked_batch(corpus, tokenizer, *, share=0.5):
    examples = [e | {"draw": i} for i, e in enumerate(examples_of(corpus, tokenizer, "tlm")[:8])]
    return MaskingCollator(tokenizer, share=share)(examples)


def test_the_loss_is_the_one_of_the_library(corpus, tokenizer):
    lm, batch = model(tokenizer).eval(), masked_batch(corpus, tokenizer)
    ours, theirs = MaskedLoss(lm)(**batch)["loss"], lm(**batch).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_the_loss_is_the_mean_of_minus_log_p_of_the_original_at_masked_places(corpus, tokenizer):
    lm, batch = model(tokenizer).eval(), masked_batch(corpus, tokenizer)
    labels = batch["labels"]
    log_p = torch.log_softmax(lm(**{k: v for k, v in batch.items() if k != "labels"}).logits, -1)
    by_hand = [-log_p[b, i, labels[b, i]].item() for b, i in (labels != IGNORED).nonzero().tolist()]
    assert MaskedLoss(lm)(**batch)["loss"].item() == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)


def test_the_loss_of_an_untrained_model_is_near_the_log_of_the_vocabulary(corpus, tokenizer):
    loss = MaskedLoss(model(tokenizer))(**masked_batch(corpus, tokenizer))["loss"].item()
    assert loss == pytest.approx(torch.tensor(float(len(tokenizer))).log().item(), abs=0.3)


def test_a_batch_without_masks_has_loss_zero(corpus, tokenizer):
    batch = masked_batch(corpus, tokenizer)
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    assert MaskedLoss(model(tokenizer))(**batch)["loss"].item() == 0


def test_a_shared_batch_is_divided_by_all_masked_places(corpus, tokenizer):
    lm, batch = model(tokenizer).eval(), masked_batch(corpus, tokenizer)
    whole = MaskedLoss(lm)(**batch)["loss"].item()
    count = int((batch["labels"] != IGNORED).sum())
    parts = [{k: v[rows] for k, v in batch.items()} for rows in (slice(0, 3), slice(3, 8))]
    shared = sum(MaskedLoss(lm)(**part, num_items_in_batch=count)["loss"].item() for part in parts)
    assert shared == pytest.approx(whole, abs=1e-5)


def test_what_the_errata_say_of_the_library(corpus, tokenizer):
    """``BertModel`` has no loss; without labels ``BertForMaskedLM`` has none either, and masks nothing."""
    lm, ids = model(tokenizer).eval(), tokenizer(["open door"], return_tensors="pt")
    assert lm(**ids).loss is None
    assert not hasattr(BertModel(lm.config)(**ids), "loss")


# --- training --------------------------------------------------------------------------------------------------------


def test_the_loss_falls(corpus, tokenizer):
    lm = model(tokenizer)
    history = pretrain(
        lm, tokenizer, examples_of(corpus, tokenizer, "tlm"), Settings(steps=60, batch_size=16, learning_rate=5e-3)
    )
    assert sum(history.losses[-5:]) < 0.7 * sum(history.losses[:5])


def test_exponent_and_masks_reach_the_training(tokenizer, monkeypatch):
    """What ``pretrain`` is told of languages and masks is what the training is given."""
    given = {}
    monkeypatch.setattr(pretraining, "fit", lambda lm, examples, collate, settings, **o: given.update(o, mask=collate))
    examples = [{"input_ids": [0] * 5, "language": "en" if i < 90 else "hi", "kind": "mlm"} for i in range(100)]
    settings = Settings(steps=1, batch_size=20, seed=3)
    pretrain(model(tokenizer), tokenizer, examples, settings, alpha=0.0, share=0.4, whole_words=True)
    drawn = [i for batch in islice(given["batches"], 200) for i in batch]
    assert sum(i < 90 for i in drawn) / len(drawn) == pytest.approx(0.5, abs=0.03)
    mask = given["mask"]
    assert (mask.share, mask.whole_words, mask.seed) == (0.4, True, 3)


def test_translations_help_to_guess_what_is_hidden(corpus, tokenizer):
    """With true translations the loss ends lower than with shuffled ones: nothing else tells which words are hidden."""
    settings, last, held = Settings(steps=250, batch_size=20, learning_rate=5e-3), {}, corpus.pairs["xx"]
    wrong = [Pair(p.a, q.b, p.key) for p, q in zip(held, held[7:] + held[:7])]
    models = {}
    for objective in ("tlm", "shuffled"):
        examples = [e for e in examples_of(corpus, tokenizer, objective) if e["kind"] == "tlm"]
        models[objective] = model(tokenizer, layers=2)
        last[objective] = sum(pretrain(models[objective], tokenizer, examples, settings).losses[-25:]) / 25
    assert last["tlm"] < 0.85 * last["shuffled"]
    reads = [pretraining.pair_loss(models["tlm"], tokenizer, pairs) for pairs in (held, wrong)]
    assert reads[0] < reads[1]


def test_frozen_parts_stay(corpus, tokenizer):
    lm = model(tokenizer, layers=2)
    training.freeze(lm.bert, layers=1)
    before = {n: p.clone() for n, p in lm.named_parameters()}
    pretrain(lm, tokenizer, examples_of(corpus, tokenizer, "mlm"), QUICK)
    changed = {n for n, p in lm.named_parameters() if not torch.equal(p, before[n])}
    assert changed and all(n.startswith(("bert.encoder.layer.1.", "cls.")) for n in changed)


def run(lm, tokenizer, folder, scorer=lambda: {"score": 0.5}):
    examples = examples_of(tiny_corpus(), tokenizer, "tlm")
    return pretrain(lm, tokenizer, examples, Settings(steps=20, batch_size=8, learning_rate=5e-3), folder=folder,
                    save_every=5, scorer=scorer, evaluate_every=4)  # fmt: skip


def run_until_killed(folder: str, pieces: str) -> None:
    """Train in this process and end it without any tidying at the third evaluation, update 12."""
    tokenizer = AutoTokenizer.from_pretrained(pieces)
    run(model(tokenizer, dropout=0.1), tokenizer, folder, scorer_that_dies())


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip


def test_a_killed_run_has_the_loss_curve_of_one_that_ran_through(tokenizer, tmp_path):
    """Also the masks must go on as if nothing had happened: they are drawn anew in each update."""
    code = "import sys, test_pretraining; test_pretraining.run_until_killed(*sys.argv[1:])"
    tokenizer.save_pretrained(tmp_path / "pieces")
    done = child("-c", code, str(tmp_path / "killed"), str(tmp_path / "pieces"))
    assert done.returncode == KILLED, done.stderr[-2000:]
    assert [p.name for p in (tmp_path / "killed").glob("checkpoint-*")]
    resumed = run(model(tokenizer, dropout=0.1), tokenizer, tmp_path / "killed")
    whole = run(model(tokenizer, dropout=0.1), tokenizer, tmp_path / "whole")
    assert resumed.steps == whole.steps and len(whole.losses) == 20
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-6)


def test_a_kept_tokenizer_is_trained_once(corpus, tmp_path):
    first = pretraining.kept_tokenizer(tmp_path, corpus.texts, 60)
    written = (tmp_path / "tokenizer.json").read_bytes()
    again = pretraining.kept_tokenizer(tmp_path, {}, 999)
    assert again.get_vocab() == first.get_vocab() and (tmp_path / "tokenizer.json").read_bytes() == written


# --- saving ----------------------------------------------------------------------------------------------------------


def test_what_is_saved_loads_with_the_library_and_with_ours(corpus, tokenizer, tmp_path):
    lm = model(tokenizer).eval()
    folder = pretraining.save(lm, tokenizer, tmp_path / "mini", half=True)
    loaded = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(["open <mask>"], return_tensors="pt")
    assert torch.allclose(loaded(**ids).logits, lm(**ids).logits, atol=5e-3)
    encoder = checkpoints.load(str(folder))
    assert encoder.model.dtype == torch.float32
    assert torch.allclose(encoder.model(**ids).last_hidden_state, lm.bert(**ids).last_hidden_state, atol=5e-3)
    assert next(lm.parameters()).dtype == torch.float32  # the model in memory is not rounded


def test_scores_of_a_model_that_knows_nothing_are_chance(corpus, tokenizer):
    lm = model(tokenizer)
    scores = pretraining.masked_scores(lm, tokenizer, corpus.texts["en"])
    assert scores == pretraining.masked_scores(lm, tokenizer, corpus.texts["en"])
    assert scores["loss"] == pytest.approx(4.1, abs=0.4) and scores["accuracy"] < 0.3


def test_retrieval_counts_both_directions(corpus, tokenizer):
    encoder = pretraining.encoder_of(model(tokenizer), tokenizer)
    same = [Pair(p.a, p.a, p.key) for p in corpus.pairs["xx"]]
    assert pretraining.retrieval(encoder, same) == 1.0
    assert pretraining.retrieval(encoder, corpus.pairs["xx"]) < 0.5


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Text files and a file of pairs, as a person would bring them; options for a run of seconds."""
    corpus = tiny_corpus()
    for code, texts in corpus.texts.items():
        (tmp_path / f"{code}.txt").write_text("\n".join(texts), encoding="utf-8")
    rows = "\n".join(f"{p.a}\t{p.b}" for p in corpus.pairs["xx"])
    (tmp_path / "pairs.tsv").write_text(rows, encoding="utf-8")
    text = ["--text", f"en={tmp_path}/en.txt", "--text", f"fi={tmp_path}/xx.txt", "--pairs", f"fi={tmp_path}/pairs.tsv"]
    size = ["--pieces", "60", "--layers", "1", "--width", "32", "--dropout", "0", "--objective", "tlm", "--steps", "8"]
    return ["pretrain", *text, *size, "--batch-size", "8", "--save-every", "4", "--evaluate-every", "4"]


def history(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text(encoding="utf-8"))


TORCHRUN = "-m torch.distributed.run --nproc-per-node 2 --master-addr 127.0.0.1 --standalone".split()
ACCELERATE = (
    "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0".split()
)
ACCELERATE += "--mixed_precision no --dynamo_backend no".split()


@pytest.mark.parametrize("launch", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_give_the_result_of_one(files, tmp_path, launch):
    """Two gloo processes that share each batch: the same losses and weights as one process."""
    one, two = tmp_path / "one", tmp_path / "two"
    first = child("-m", "xlbook", *files, "--out", str(one))
    assert first.returncode == 0, first.stderr[-2000:]
    shutil.copytree(one / "tokenizer", two / "tokenizer")  # training a tokenizer settles ties at random
    second = child(*launch, "-m", "xlbook", *files, "--out", str(two))
    assert second.returncode == 0, second.stderr[-2000:]
    assert history(two)["losses"] == pytest.approx(history(one)["losses"], abs=1e-4)
    weights = [AutoModelForMaskedLM.from_pretrained(folder / "model").state_dict() for folder in (one, two)]
    assert all(torch.allclose(weights[0][n], weights[1][n], atol=1e-4) for n in weights[0])


def test_the_command_goes_on_from_a_model_with_frozen_layers_and_stops_early(files, tmp_path):
    runner, out = CliRunner(), tmp_path / "first"
    done = runner.invoke(cli.main, [*files, "--out", str(out)])
    assert done.exit_code == 0 and "8 updates" in done.output, done.output
    again = [*files, "--start", str(out / "model"), "--frozen-layers", "1", "--out", str(tmp_path / "second")]
    done = runner.invoke(cli.main, [*again, "--patience", "1", "--steps", "40", "--learning-rate", "1e-12"])
    assert done.exit_code == 0 and "40 updates" not in done.output, done.output
    before, after = (AutoModelForMaskedLM.from_pretrained(tmp_path / n / "model") for n in ("first", "second"))
    assert torch.equal(before.bert.embeddings.word_embeddings.weight, after.bert.embeddings.word_embeddings.weight)


def test_an_interrupted_command_goes_on(files, tmp_path):
    """The run folder has a checkpoint of update 4; the command starts there and not from nothing."""
    runner, out = CliRunner(), tmp_path / "out"
    assert runner.invoke(cli.main, [*files, "--out", str(out)]).exit_code == 0
    whole = history(out)
    shutil.rmtree(out / "run" / "checkpoint-8")
    assert runner.invoke(cli.main, [*files, "--out", str(out)]).exit_code == 0
    assert history(out) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Nothing to learn from"),
        (["--text", "en"], "write CODE=FILE"),
        (["--text", "en=EN", "--frozen-layers", "1"], "needs --start"),
        (["--text", "en=EN", "--objective", "tlm"], "needs translation pairs"),
        (["--text", "en=EN", "--steps", "0"], "steps=0"),
        (["--text", "en=EMPTY"], "no usable text"),
        (["--text", "en=EN", "--pairs", "fi=EN"], "a tab"),
        (["--text", "qq=EN"], "Unknown language"),
    ],
)
def test_what_the_command_refuses(options, message, tmp_path):
    (tmp_path / "EN").write_text("\n".join(tiny_corpus().texts["en"]), encoding="utf-8")
    (tmp_path / "EMPTY").write_text("1\n2\n", encoding="utf-8")
    options = [re.sub(r"=(EN|EMPTY)$", lambda m: f"={tmp_path / m[1]}", o) for o in options]
    done = CliRunner().invoke(cli.main, ["pretrain", "--out", str(tmp_path / "out"), "--pieces", "60", *options])
    assert done.exit_code != 0 and message in done.output, done.output


def test_what_the_command_is_told_reaches_the_training(files, tmp_path, monkeypatch):
    told = {}

    def listening(name):
        inner = getattr(pretraining, name)
        monkeypatch.setattr(pretraining, name, lambda *a, **o: told.update({name: o}) or inner(*a, **o))

    listening("make_tokenizer")
    listening("pretrain")
    options = ["--alpha", "0.125", "--share", "0.25", "--whole-words"]
    done = CliRunner().invoke(cli.main, [*files, "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    assert told["make_tokenizer"]["alpha"] == told["pretrain"]["alpha"] == 0.125
    assert told["pretrain"]["share"] == 0.25 and told["pretrain"]["whole_words"] is True


def test_bf16_where_there_is_none(files, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "has_bf16", lambda device: False)
    done = CliRunner().invoke(cli.main, [*files, "--out", str(tmp_path / "out"), "--bf16"])
    assert done.exit_code == 1 and "no bfloat16" in done.output


@pytest.mark.skipif(not pretraining.has_bf16(), reason="this processor has no bfloat16")
def test_bf16_changes_the_loss_a_little(corpus, tokenizer):
    examples = examples_of(corpus, tokenizer, "tlm")
    settings = Settings(steps=3, batch_size=8), Settings(steps=3, batch_size=8, precision="bfloat16")
    full, half = (pretrain(model(tokenizer), tokenizer, examples, s).losses for s in settings)
    assert full == pytest.approx(half, abs=0.05) and full != half


def test_tensorboard_on_request(files, tmp_path):
    pytest.importorskip("tensorboard")
    done = CliRunner().invoke(cli.main, [*files, "--out", str(tmp_path / "out"), "--logger", "tensorboard"])
    assert done.exit_code == 0, done.output
    assert [f for f in (tmp_path / "out").rglob("*") if "tfevents" in f.name]


# --- the sources -----------------------------------------------------------------------------------------------------


@pytest.mark.sources("commands", "interface")
def test_the_course_corpus_holds_out_what_it_must():
    corpus = multitext.course_corpus(["en", "fi"], per_template=1)
    for code, own in corpus.texts.items():
        assert not {key(t) for t in multitext.held_out(code)} & {key(t) for t in own}
    tested = {key(p.b) for s in ("dev", "test") for p in multitext.dev_pairs("fi", s)}
    assert len(tested) > 300 and not tested & {key(p.b) for p in corpus.pairs["fi"]}
    assert corpus.dropped["fi"].total() > 0 and len(corpus.texts["fi"]) > 4000


@pytest.mark.sources("commands", "interface")
def test_every_language_of_the_sources_has_text_or_says_what_it_lacks():
    assert multitext.raw_texts("sw", per_template=1)
    with pytest.raises(ValueError, match="No text"):
        multitext.raw_texts("tlh")


# --- what the course ships -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["mlm", "tlm"])
def test_the_twins_are_small_and_load(twin):
    encoder = checkpoints.load(f"xlbook-mini-{twin}")
    assert encoder.model.dtype == torch.float32 and not encoder.model.training
    assert sum(f.stat().st_size for f in encoder.folder.iterdir()) < 12e6
    assert "xlbook recipe 03" in (encoder.folder / "README.md").read_text(encoding="utf-8")
    lm = AutoModelForMaskedLM.from_pretrained(encoder.folder)
    assert lm.dtype == torch.float16 and lm.config.vocab_size == len(encoder.tokenizer)


def test_the_twins_have_one_tokenizer():
    first, second = (checkpoints.load(f"xlbook-mini-{twin}").tokenizer for twin in ("mlm", "tlm"))
    assert first.get_vocab() == second.get_vocab() and first.mask_token == "<mask>"


def test_the_stored_results_are_whole():
    about, runs = recipes.results("03")["about"], {row: r[0]["scores"] for row, r in recipes.by_row("03").items()}
    assert set(runs) == set(chapter_03.rows("cpu")) and {"date", "machine", "versions"} <= set(about)
    for row in ("mlm", "tlm"):
        assert runs[row]["settings"]["steps"] == chapter_03.STEPS and runs[row]["share"] == chapter_03.SHARE
        assert len(runs[row]["curve"]) == chapter_03.STEPS // 200 and runs[row]["dev"][-1]["step"] == chapter_03.STEPS
    assert abs(runs["mlm"]["tokens"] / runs["tlm"]["tokens"] - 1) < 0.1
    assert set(chapter_03.summary("tlm", "retrieval")) == set(TARGETS)
    with pytest.raises(ValueError, match="Allowed"):
        chapter_03.summary("frequency", "accuracy")


@pytest.mark.parametrize("row", ["mlm", "tlm"])
def test_the_model_cards_state_what_the_recipe_stored(row):
    card = Path(checkpoints.__file__).parent / "data" / "pretrained" / row / "README.md"
    lines = [line.strip("| ").split(" |") for line in card.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    stored = [(row, "loss"), (row, "accuracy"), (row, "bits"), ("frequency", "bits"), ("neighbours", "bits"),
              (row, "retrieval"), ("untrained", "retrieval")]  # fmt: skip
    columns = [chapter_03.summary(*one) for one in stored]
    table = {code.strip(): [cell.strip() for cell in cells if cell.strip()] for code, *cells in lines[2:]}
    assert list(table) == list(columns[0])
    for code, cells in table.items():
        expected = [column[code] for column in columns if code in column]
        assert [float(c) for c in cells] == [
            pytest.approx(e, abs=0.51 * 10 ** -len(c.split(".")[1])) for c, e in zip(cells, expected, strict=True)
        ]
