"""checkpoints: a file that another program wrote is read, converted, saved and loaded without loss."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from e5_writer import FEED_FORWARD, HIDDEN, LAYERS, e5_file, is_quantized, vocabulary, weights
from transformers import AutoModel, AutoTokenizer, BertModel

from xlbook import checkpoints, sources
from xlbook.checkpoints import Encoder, convert_e5, load, read_e5, save

BERT_NAME = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
PIECES = vocabulary()
ID = {piece: number for number, (piece, _) in enumerate(PIECES)}
TENSORS = weights(len(PIECES))
FILE = e5_file(PIECES, TENSORS)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The folder that the tiny file was converted into."""
    folder = tmp_path_factory.mktemp("e5")
    (folder / "tiny.bin").write_bytes(FILE)
    convert_e5(folder / "tiny.bin", folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def tiny(converted) -> Encoder:
    return load(str(converted))


# --- the file format --------------------------------------------------------------------------------------------------


def test_header_pieces_and_rules_are_read(tmp_path):
    (tmp_path / "tiny.bin").write_bytes(FILE)
    header, pieces, normalization, tensors = read_e5(tmp_path / "tiny.bin")
    assert (header["hidden"], header["layers"], header["feed_forward"]) == (HIDDEN, LAYERS, FEED_FORWARD)
    assert (header["bos"], header["eos"], header["pad"], header["unk"]) == (0, 2, 1, 3)
    assert header["epsilon"] == pytest.approx(1e-12)
    assert pieces == PIECES and normalization == {"\u00a0": " ", "\uff21": "A"} and tensors.keys() == TENSORS.keys()


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_tensors_are_read_within_the_error_of_four_bits(tmp_path, name):
    (tmp_path / "tiny.bin").write_bytes(FILE)
    expected, found = TENSORS[name].reshape(-1), read_e5(tmp_path / "tiny.bin")[3][name]
    if not is_quantized(name):
        assert np.array_equal(found, expected)
        return
    step = np.abs(expected.reshape(-1, 32)).max(axis=1, keepdims=True) / 8  # of each block
    error = np.abs(found - expected).reshape(-1, 32)
    # half a step by rounding; a whole step at the end that Q4_0 does not reach (it has -8 … 7); and fp16 scales
    assert (error <= step * 1.01).all() and (error <= step * 0.51).mean() > 0.95


def test_bert_has_the_files_weights_in_the_right_places(tiny):
    state = tiny.model.state_dict()
    for layer, (short, long), kind in itertools.product(range(LAYERS), BERT_NAME.items(), "wb"):
        expected = TENSORS[f"l{layer}.{short}.{kind}"]
        found = state[f"encoder.layer.{layer}.{long}.{'weight' if kind == 'w' else 'bias'}"].numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 0.03 and np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    words = state["embeddings.word_embeddings.weight"].numpy()
    assert words.shape == (len(PIECES), HIDDEN)
    assert np.corrcoef(words.ravel(), TENSORS["emb.word"].ravel())[0, 1] > 0.99
    assert np.array_equal(state["embeddings.position_embeddings.weight"].numpy(), TENSORS["emb.pos"])
    assert np.array_equal(state["embeddings.token_type_embeddings.weight"].numpy(), TENSORS["emb.type"])


def by_hand(ids: list[int], weight) -> np.ndarray:
    """The encoder in NumPy, from Devlin et al. (2019) and Vaswani et al. (2017): (L,) -> (L, D)."""
    from math import erf

    gelu = np.vectorize(lambda x: x * (1 + erf(x / np.sqrt(2))) / 2)

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * weight[name + ".w"] + weight[name + ".b"]
        )

    def linear(x, name):
        return x @ weight[name + ".w"].T + weight[name + ".b"]

    x = norm(weight["emb.word"][ids] + weight["emb.pos"][: len(ids)] + weight["emb.type"][0], "emb.ln")
    for layer in range(LAYERS):
        q, k, v = (linear(x, f"l{layer}.{p}").reshape(len(ids), 4, 16).swapaxes(0, 1) for p in "qkv")
        scores = q @ k.swapaxes(1, 2) / 4
        share = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        mixed = linear((share @ v).swapaxes(0, 1).reshape(len(ids), HIDDEN), f"l{layer}.ao")
        x = norm(x + mixed, f"l{layer}.aln")
        x = norm(x + linear(gelu(linear(x, f"l{layer}.fi")), f"l{layer}.fo"), f"l{layer}.oln")
    return x


def test_converted_model_computes_what_an_encoder_in_numpy_computes(tiny, tmp_path):
    (tmp_path / "tiny.bin").write_bytes(FILE)
    flat = read_e5(tmp_path / "tiny.bin")[3]
    weight = {name: flat[name].reshape(TENSORS[name].shape).astype(np.float64) for name in TENSORS}
    ids = [0, 4, 5, 9, 3, 2]
    with torch.no_grad():
        found = tiny.model(torch.tensor([ids])).last_hidden_state[0].numpy()
    assert np.abs(found - by_hand(ids, weight)).max() < 1e-4


@pytest.mark.parametrize("share", [0.0005, 0.005, 0.02, 0.03, 0.1, 0.5, 0.9, 0.9999])
def test_file_that_ends_too_early(tmp_path, share):
    (tmp_path / "cut.bin").write_bytes(FILE[: max(5, int(len(FILE) * share))])
    with pytest.raises(ValueError, match=r"cut\.bin ends too early or is damaged.*xlbook fetch multilingual-e5-small"):
        convert_e5(tmp_path / "cut.bin", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_every_cut_within_the_header_is_noticed(tmp_path):
    for end in range(4, 1800, 23):
        (tmp_path / "cut.bin").write_bytes(FILE[:end])
        with pytest.raises(ValueError, match="ends too early"):
            read_e5(tmp_path / "cut.bin")


@pytest.mark.parametrize("content", [b"", b"GGUF" + FILE[4:], b"<html>"])
def test_wrong_magic(tmp_path, content):
    (tmp_path / "other.bin").write_bytes(content)
    with pytest.raises(ValueError, match="not a 4-bit encoder file"):
        read_e5(tmp_path / "other.bin")


def test_other_block_size_is_refused(tmp_path):
    (tmp_path / "tiny.bin").write_bytes(e5_file(PIECES, TENSORS, block=64))
    with pytest.raises(ValueError, match="blocks of 64"):
        read_e5(tmp_path / "tiny.bin")


@pytest.mark.parametrize(
    "tensors",
    [{k: v for k, v in TENSORS.items() if k != "l1.q.w"}, TENSORS | {"l0.fi.b": TENSORS["l0.fi.b"][:64]}],
    ids=["one is missing", "one is short"],
)
def test_tensors_that_do_not_fit_the_header(tmp_path, tensors):
    (tmp_path / "odd.bin").write_bytes(e5_file(PIECES, tensors))
    with pytest.raises(ValueError, match=r"odd\.bin does not hold the tensors"):
        convert_e5(tmp_path / "odd.bin", tmp_path / "model")


def test_unknown_normalization_is_refused(tmp_path):
    (tmp_path / "odd.bin").write_bytes(e5_file(PIECES, TENSORS, normalization=(("a", "b"),)))
    with pytest.raises(ValueError, match="unlike NMT"):
        convert_e5(tmp_path / "odd.bin", tmp_path / "model")


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def segmented(word: str) -> list[str]:
    """Return the best segmentation of one word by trying all (Kudo 2018, equation 6); unknown neighbours are one."""
    score = dict(PIECES)
    unknown = min(score.values()) - 10
    best, best_score = [], -np.inf
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        at = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(word)]
        parts = [word[a:b] for a, b in zip(at, at[1:], strict=False)]
        if any(p not in score and len(p) > 1 for p in parts):
            continue
        total = sum(score.get(p, unknown) for p in parts)
        if total > best_score:
            best, best_score = parts, total
    named = [p if p in score else "<unk>" for p in best]
    return [p for i, p in enumerate(named) if p != "<unk>" or i == 0 or named[i - 1] != "<unk>"]


@pytest.mark.parametrize(
    "text",
    [
        "turn on the light",
        "turning lights off",
        "turn  on   the lights",  # spaces are folded
        "kitchen light xyz off",  # unknown letters become one <unk>
        "lightslights",
        "開燈 關燈",
        "turn\u00a0on",  # a no-break space is a space (NFKC)
        "ｔｕｒｎ on",  # full-width letters are letters (NFKC)
        "o",
        "qq qqon onqq",
    ],
)
def test_tokenizer_finds_the_best_of_all_segmentations(tiny, text):
    import unicodedata

    expected = [p for w in unicodedata.normalize("NFKC", text).split() for p in segmented("▁" + w)]
    assert tiny.tokenizer(text)["input_ids"] == [0, *(ID[p] for p in expected), 2]
    assert tiny.tokenizer.convert_ids_to_tokens([ID[p] for p in expected]) == expected


def test_random_words_are_segmented_as_by_trying_all(tiny):
    rng = np.random.default_rng(1)
    for _ in range(60):
        word = "".join(rng.choice(list("turnoflighkcedsx"), size=rng.integers(1, 8)))
        assert tiny.tokenizer(word)["input_ids"] == [0, *(ID[p] for p in segmented("▁" + word)), 2], word


def test_pairs_are_bracketed_as_in_xlmr(tiny):
    pieces = tiny.tokenizer.convert_ids_to_tokens(tiny.tokenizer("on", "off")["input_ids"])
    assert pieces == ["<s>", "▁on", "</s>", "</s>", "▁off", "</s>"]


def test_special_tokens_have_the_files_ids(tiny):
    tokenizer = tiny.tokenizer
    found = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert found == (0, 1, 2, 3)
    assert tokenizer.mask_token_id == len(PIECES) - 1 == len(tokenizer) - 1
    assert (tokenizer.cls_token, tokenizer.sep_token) == ("<s>", "</s>")
    ids = tokenizer("turn <mask> light")["input_ids"]  # the mask swallows the space before it
    assert ids == [0, ID["▁turn"], ID["<mask>"], ID["▁light"], 2]
    assert tokenizer.decode([0, ID["▁turn"], ID["▁on"], 2], skip_special_tokens=True) == "turn on"


# --- folders ----------------------------------------------------------------------------------------------------------


def test_the_folder_is_an_ordinary_hugging_face_folder(converted, tiny):
    assert {f.name for f in converted.iterdir()} >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "manifest.json",
    }
    assert not list(converted.glob("*.bin")) and sources.entry_is_intact(converted)
    model = AutoModel.from_pretrained(converted, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert type(model) is BertModel and not tiny.model.training
    batch = tokenizer(["turn on the light", "off"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**batch).last_hidden_state, tiny.model(**batch).last_hidden_state)


def test_save_then_load_changes_nothing_and_replaces_the_folder(tiny, tmp_path):
    folder = tmp_path / "deep" / "copy"
    folder.mkdir(parents=True)
    (folder / "stale.txt").write_text("from an earlier model", encoding="utf-8")
    save(Encoder(tiny.model, tiny.tokenizer, folder))
    again = load(folder)
    assert not (folder / "stale.txt").exists() and again.folder == folder
    for name, value in tiny.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert (
        again.tokenizer("turn <mask> lights", "off")["input_ids"]
        == tiny.tokenizer("turn <mask> lights", "off")["input_ids"]
    )
    assert [f.name for f in folder.parent.iterdir()] == ["copy"]


def test_size_report_counts_by_hand(tiny):
    report = checkpoints.size_report(tiny)
    assert report["pieces"] == len(PIECES)
    assert report["embedding parameters"] == len(PIECES) * HIDDEN
    assert report["parameters"] == sum(t.size for t in TENSORS.values())
    assert report["MB on disk"] == pytest.approx(sum(f.stat().st_size for f in tiny.folder.iterdir()) / 1e6)


def test_unknown_model_names_the_closest():
    with pytest.raises(ValueError, match='Did you mean "multilingual-e5-small"'):
        load("multilingual-e5-smal")


def test_folder_without_a_config_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="no folder with a config.json"):
        load(str(tmp_path))


def test_conversion_happens_once_and_again_when_its_result_is_damaged(cache, tmp_path, monkeypatch):
    (tmp_path / "tiny.bin").write_bytes(FILE)
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        convert_e5(*arguments)

    monkeypatch.setattr(checkpoints, "convert_e5", counted)
    folder = checkpoints.converted_e5(tmp_path / "tiny.bin")
    assert folder == checkpoints.converted_e5(tmp_path / "tiny.bin") and len(calls) == 1
    (folder / "config.json").write_text("{}", encoding="utf-8")
    checkpoints.converted_e5(tmp_path / "tiny.bin")
    assert len(calls) == 2 and load(folder).model.config.hidden_size == HIDDEN


def test_conversion_that_fails_leaves_nothing(cache, tmp_path):
    (tmp_path / "tiny.bin").write_bytes(FILE[:-500])
    with pytest.raises(ValueError, match="ends too early"):
        checkpoints.converted_e5(tmp_path / "tiny.bin")
    assert {f.name for f in (cache / "models").iterdir()} == {"multilingual-e5-small.lock"}


def test_full_disk_while_converting_names_the_cache(cache, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "convert_e5", full)
    with pytest.raises(sources.SourceError, match="is full.*XLBOOK_CACHE"):
        checkpoints.converted_e5(tmp_path / "tiny.bin")


class Evil:
    """What runs code when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_a_pickled_checkpoint_is_refused_and_not_run(converted, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(converted, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil(str(tmp_path / "code was run"))}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load(folder)
    assert not (tmp_path / "code was run").exists()


# --- the real model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def e5():
    return load("multilingual-e5-small")


@pytest.mark.sources("multilingual-e5-small")
def test_real_model_has_the_published_size(e5):
    config = e5.model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (384, 12, 12)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (1536, 250037, 512)


@pytest.mark.sources("multilingual-e5-small")
def test_real_tokenizer_gives_the_ids_of_xlmr(e5):
    published = {  # examples/xlmr/README.md of fairseq
        "Hello world!": [0, 35378, 8999, 38, 2],
        "你好，世界": [0, 6, 124084, 4, 3221, 2],
        "नमस्ते दुनिया": [0, 68700, 97883, 29405, 2],
        "مرحبا بالعالم": [0, 665, 193478, 258, 1705, 77796, 2],
        "Bonjour le monde": [0, 84602, 95, 11146, 2],
    }
    assert e5.tokenizer(list(published))["input_ids"] == list(published.values())
    assert e5.tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]


@pytest.mark.sources("multilingual-e5-small")
def test_nearest_english_sentence_of_a_chinese_command(e5):
    from xlbook.representations import embed, nearest

    english = [
        "Turn on the light in the kitchen.",
        "What is the weather tomorrow?",
        "Lock the front door.",
        "Play jazz.",
    ]
    chinese = ["明天天气怎么样？", "打开厨房的灯。", "放点爵士乐。", "把前门锁上。"]
    assert nearest(embed(e5, chinese), embed(e5, english))[:, 0].tolist() == [1, 0, 3, 2]


TRANSLATIONS = {
    "Latn": "Wo ist der nächste Bahnhof?",
    "Hans": "最近的火车站在哪里？",
    "Cyrl": "Где ближайший вокзал?",
    "Arab": "أين أقرب محطة قطار؟",
    "Deva": "सबसे नज़दीकी रेलवे स्टेशन कहाँ है?",
    "Kore": "가장 가까운 기차역이 어디예요?",
    "Jpan": "一番近い駅はどこですか？",
    "Thai": "สถานีรถไฟที่ใกล้ที่สุดอยู่ที่ไหน",
    "Grek": "Πού είναι ο πλησιέστερος σιδηροδρομικός σταθμός;",
    "Hebr": "איפה תחנת הרכבת הקרובה ביותר?",
}


@pytest.mark.sources("multilingual-e5-small")
def test_translations_in_ten_scripts_are_closer_than_other_sentences(e5):
    from xlbook.representations import cosine, embed

    english = ["Where is the nearest train station?", "My sister baked a cake.", "The price of oil has risen."]
    scores = cosine(embed(e5, list(TRANSLATIONS.values())), embed(e5, english))  # (10, 3)
    wrong = [script for script, row in zip(TRANSLATIONS, scores) if row[0] <= row[1:].max() + 0.03]
    assert not wrong, scores
