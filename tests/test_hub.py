"""hub: tiny models behind a stand-in for the Hub, loaded by the real libraries, with one fault at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import Fault, HubServer, Repo, serve
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForPreTraining,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from xlbook import checkpoints, hub
from xlbook.checkpoints import HUB_MODELS
from xlbook.hub import Repository
from xlbook.sources import SourceError

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "max_position_embeddings": 40}  # fmt: skip
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOY = Repository("somebody/toy", REVISION)


def files_of(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def mbert_files(folder: Path, **sizes) -> dict[str, bytes]:
    """A tiny model in the shape of mBERT: WordPiece, pretraining heads, and gain and bias under their oldest names."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "turn", "on", "the", "light", "##s", "灯"]
    tokenizer = Tokenizer(models.WordPiece({p: n for n, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {k: f"[{k[:-6].upper()}]" for k in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    BertForPreTraining(BertConfig(vocab_size=len(pieces), **SMALL | sizes)).save_pretrained(folder)
    weights = read_tensors((folder / "model.safetensors").read_bytes())
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in weights.items()}  # fmt: skip
    (folder / "model.safetensors").write_bytes(write_tensors(old, {"format": "pt"}))
    return files_of(folder)


def xlmr_files(folder: Path, **sizes) -> dict[str, bytes]:
    """A tiny model in the shape of XLM-R: Unigram pieces, positions from 2 on, a language model's head."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁turn", "▁on", "▁the", "▁light", "s", "灯", "<mask>"]
    tokenizer = Tokenizer(models.Unigram([(p, -float(n)) for n, p in enumerate(pieces)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>",
             "unk_token": "<unk>", "mask_token": "<mask>"}  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(vocab_size=len(pieces), type_vocab_size=1, **SMALL | sizes)
    XLMRobertaForMaskedLM(config).save_pretrained(folder)
    return files_of(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Files of the three models of the gpu profile, with what else such repositories hold."""
    mbert, xlmr = mbert_files(tmp_path_factory.mktemp("mbert")), xlmr_files(tmp_path_factory.mktemp("xlmr"))
    more = {"pytorch_model.bin": b"a pickle", "modeling.py": b"raise SystemExit", "README.md": b"# A model"}
    found = {"bert-base-multilingual-cased": mbert, "xlm-roberta-base": xlmr, "multilingual-e5-base": xlmr}
    asks = json.loads(xlmr["config.json"]) | {
        "auto_map": {"AutoModel": "modeling.Code"}
    }  # to run the repository's code
    found["multilingual-e5-base"] = xlmr | {"config.json": json.dumps(asks).encode()}
    return {name: files | more for name, files in found.items()}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub with one small repository, `somebody/toy`."""
    files = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 400, "code.py": b"no"}
    served = serve(monkeypatch, tmp_path, {("model", TOY.name): Repo(REVISION, files)})
    yield served
    served.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that the Hub's library would have waited."""
    import time

    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def cached(tmp_path) -> set[str]:
    """Names of what lies in the Hub's cache: blobs and links, no listings and locks."""
    return {
        f.name for f in (tmp_path / "hub").rglob("*") if f.is_file() and not {"trees", ".locks", "refs"} & set(f.parts)
    }


# --- the models of the gpu profile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HUB_MODELS)
def test_the_larger_models_are_loaded_by_name(server, tiny, monkeypatch, name):
    pin = HUB_MODELS[name]
    monkeypatch.setitem(HUB_MODELS, name, Repository(pin.name, pin.revision))
    server.repositories["model", pin.name] = Repo(pin.revision, tiny[name])
    encoder, again = checkpoints.load(name), checkpoints.load(pin.name)
    assert not encoder.model.training and next(encoder.model.parameters()).dtype == torch.float32
    batch = encoder.tokenizer(["turn on the lights", "灯"], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder.model(**batch).last_hidden_state
    assert states.shape == (2, batch["input_ids"].shape[1], 16) and torch.isfinite(states).all()
    assert again.folder == encoder.folder
    assert {f.suffix for f in encoder.folder.iterdir()} == {".json", ".safetensors"}, "no pickle, no code"


def test_the_weights_are_those_of_the_file(server, tiny, monkeypatch):
    pin = HUB_MODELS["bert-base-multilingual-cased"]
    server.repositories["model", pin.name] = Repo(pin.revision, tiny["bert-base-multilingual-cased"])
    model = checkpoints.load("bert-base-multilingual-cased").model
    stored = read_tensors(tiny["bert-base-multilingual-cased"]["model.safetensors"])
    assert torch.equal(model.embeddings.LayerNorm.weight, stored["bert.embeddings.LayerNorm.gamma"])
    name = "encoder.layer.1.attention.self.query.weight"
    assert torch.equal(model.state_dict()[name], stored["bert." + name])


def test_other_weights_than_the_pinned_ones_are_refused_even_if_the_server_agrees_with_itself(server, tiny, tmp_path):
    pin = HUB_MODELS["xlm-roberta-base"]
    server.repositories["model", pin.name] = Repo(pin.revision, tiny["xlm-roberta-base"])
    with pytest.raises(SourceError, match=r"model.safetensors of FacebookAI/xlm-roberta-base@e73636d4 has the hash"):
        checkpoints.load("xlm-roberta-base")
    assert "model.safetensors" not in cached(tmp_path)


def test_from_pretrained_itself_runs_against_the_stand_in_in_a_process_of_its_own(tiny, monkeypatch):
    pin = HUB_MODELS["xlm-roberta-base"]
    served = HubServer({("model", pin.name): Repo(pin.revision, tiny["xlm-roberta-base"])})
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    code = f"from transformers import AutoModel, AutoTokenizer as T; pin = {(pin.name, pin.revision)!r}\n"
    code += "model = AutoModel.from_pretrained(pin[0], revision=pin[1], use_safetensors=True)\n"
    code += "print(type(model).__name__, T.from_pretrained(pin[0], revision=pin[1])('turn on')['input_ids'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    served.close()
    assert done.stdout.strip() == "XLMRobertaModel [0, 4, 5, 2]", done.stderr
    assert not [p for p in served.paths() if p.endswith((".bin", ".py"))]


# --- one repository ---------------------------------------------------------------------------------------------------


def test_a_snapshot_holds_what_the_patterns_allow_and_is_fetched_once(server):
    folder = hub.snapshot(TOY)
    assert {f.name for f in folder.iterdir()} == {"config.json", "model.safetensors"} and folder.name == REVISION
    assert len(server.paths()) > 2
    server.asked.clear()
    assert hub.snapshot(TOY) == folder and server.asked == []


@pytest.mark.parametrize(
    ("name", "revision", "kind"),
    [("toy", REVISION, "model"), ("a/b/c", REVISION, "model"), ("a/b", "main", "model"), ("a/b", REVISION, "space")],
)
def test_a_repository_needs_an_owner_and_a_full_commit(name, revision, kind):
    with pytest.raises(ValueError, match="give owner/name|no full commit hash"):
        Repository(name, revision, kind)


def refused(repository: Repository = TOY) -> str:
    """Ask for a repository that cannot be had, and return the message: one line."""
    with pytest.raises(SourceError) as error:
        hub.snapshot(repository)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"The Hub did not give {repository}: ")
    return str(error.value)


def test_a_repository_that_went_on_gives_the_commit_that_is_pinned(server):
    server.repositories["model", TOY.name].later = Repo("f" * 40, {"config.json": b'{"a": 2}'})
    folder = hub.snapshot(TOY)
    assert folder.name == REVISION and (folder / "config.json").read_bytes() == b'{"a": 1}'
    assert (folder / "model.safetensors").exists()


def test_no_such_repository(server):
    message = refused(Repository("somebody/else", REVISION))
    assert f"no such repository at {server.url}" in message and "HF_ENDPOINT" in message


def test_no_such_commit(server):
    assert "no such commit there" in refused(Repository(TOY.name, "f" * 40))


def test_a_gated_repository_names_the_page_and_the_command(server):
    server.repositories["model", TOY.name].gated = True
    message = refused()
    assert "accept their terms" in message and "https://huggingface.co/somebody/toy" in message
    assert "hf auth login" in message


def test_too_many_requests_are_waited_for_as_the_server_says(server, waits):
    server.faults.append(Fault("/tree/", "status", 429, headers={"Retry-After": "7"}))
    assert (hub.snapshot(TOY) / "config.json").exists()
    assert waits and 7 <= max(waits) <= 9


def test_too_many_requests_for_ever_say_how_long_to_wait(server, waits):
    server.faults.append(Fault("/tree/", "status", 429, times=99, headers={"Retry-After": "30"}))
    message = refused()
    assert "too many requests" in message and "30 seconds" in message and "HF_ENDPOINT" in message
    assert server.faults[0].times > 80, "it gives up"


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_once_is_asked_again(server, waits, status):
    server.faults.append(Fault("/tree/", "status", status))
    assert (hub.snapshot(TOY) / "config.json").exists() and waits


def test_a_server_that_keeps_failing(server, waits):
    server.faults.append(Fault("/tree/", "status", 502, times=99))
    message = refused()
    assert "answered 502" in message and "Try again later" in message and "XLBOOK_WHEELS" in message


def test_a_transfer_that_is_cut_goes_on_where_it_stopped(server, waits, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # it keeps whole chunks, of 10 MB otherwise
    server.faults.append(Fault("/cdn/", "cut"))
    content = server.repositories["model", TOY.name].files["model.safetensors"]
    assert (hub.snapshot(TOY) / "model.safetensors").read_bytes() == content
    ranges = [r for verb, path, r in server.asked if verb == "GET" and path.startswith("/cdn/")]
    assert ranges == ["", f"bytes={len(content) // 2}-"]
    assert not [name for name in cached(tmp_path) if "incomplete" in name]


def test_a_transfer_that_is_cut_again_and_again_leaves_nothing(server, waits, tmp_path):
    server.faults.append(Fault("/cdn/", "cut", times=99))
    message = refused()
    assert "could not be reached" in message and "HF_ENDPOINT" in message and "XLBOOK_WHEELS" in message
    assert "model.safetensors" not in cached(tmp_path) and not [n for n in cached(tmp_path) if "incomplete" in n]


@pytest.mark.parametrize(("path", "name"), [("/cdn/", "model.safetensors"), ("config.json", "config.json")])
def test_other_bytes_of_the_same_length_are_noticed_and_not_kept(server, tmp_path, path, name):
    server.faults.append(Fault(path, "corrupt"))
    with pytest.raises(SourceError, match=f"{name} of somebody/toy@01234567 has the hash.*not kept.*HF_ENDPOINT"):
        hub.snapshot(TOY)
    content = server.repositories["model", TOY.name].files[name]
    assert name not in cached(tmp_path)
    assert all(f.read_bytes() == content or f.stat().st_size != len(content) for f in (tmp_path / "hub").rglob("*")
               if f.is_file())  # fmt: skip
    assert (hub.snapshot(TOY) / name).read_bytes() == content, "the next call heals it"


def test_a_file_of_the_cache_that_changed_later_is_noticed(server):
    file = hub.snapshot(TOY) / "model.safetensors"
    blob = file.resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    with pytest.raises(SourceError, match="has the hash"):
        hub.snapshot(TOY)
    assert (hub.snapshot(TOY) / "model.safetensors").read_bytes()[0] == 0


def test_no_network(server, waits):
    server.close()
    message = refused()
    assert f"{server.url} could not be reached" in message
    for way in ("HF_ENDPOINT", "HTTPS_PROXY", "xlbook public --to DIR", f"hub/somebody--toy-{REVISION[:12]}"):
        assert way in message


def test_offline_by_choice(server, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused()
    assert server.asked == []


def test_a_full_disk_is_not_blamed_on_the_network(server, monkeypatch):
    import huggingface_hub

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(SourceError, match="is full") as error:
        hub.snapshot(TOY)
    assert "HF_HOME" in str(error.value)


@pytest.mark.parametrize("said", ["No such thing.", "No such thing"])
def test_an_error_that_nobody_expected_is_quoted_with_what_may_help(said):
    message = hub.remedy(LookupError(said), TOY)
    assert message.startswith("LookupError: No such thing. Try again, set HF_ENDPOINT")


def test_an_error_from_before_is_not_taken_for_the_reason(server, waits):
    server.close()
    try:
        raise PermissionError("earlier")
    except PermissionError:
        assert "earlier" not in refused()


# --- a folder that was brought ----------------------------------------------------------------------------------------


def test_a_folder_that_was_brought_is_used_and_nothing_is_asked(server, tmp_path, monkeypatch):
    place = hub.bring(TOY, tmp_path / "stick")
    assert place == tmp_path / "stick" / TOY.folder and not any(f.is_symlink() for f in place.rglob("*"))
    server.asked.clear()
    monkeypatch.setenv("XLBOOK_WHEELS", str(tmp_path / "stick"))
    assert hub.snapshot(TOY) == place and server.asked == []
    (place / "config.json").unlink()
    with pytest.raises(SourceError, match="damaged or incomplete"):
        hub.snapshot(TOY)


def test_bringing_twice_replaces_the_folder(server, tmp_path):
    place = hub.bring(TOY, tmp_path / "stick")
    (place / "config.json").write_text("changed", encoding="utf-8")
    hub.bring(TOY, tmp_path / "stick")
    assert json.loads((place / "config.json").read_text(encoding="utf-8")) == {"a": 1}
    assert [f.name for f in place.parent.iterdir()] == [place.name]
