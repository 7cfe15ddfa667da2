"""The tokenizer that is made from captions."""

from lora_core.pretraining.text import build_tokenizer, token_ids


def test_the_tokenizer_knows_the_captions_words_and_spells_others(tmp_path):
    captions = ["a photo of Afghan hound", "a photo of CD player", "a photo"]
    tokenizer = build_tokenizer(captions)
    assert tokenizer.get_vocab() == build_tokenizer(captions).get_vocab()
    tokens = tokenizer.tokenize("A photo of hound zebra")
    assert tokens[:4] == ["a</w>", "photo</w>", "of</w>", "hound</w>"]
    assert "".join(tokens[4:]) == "zebra</w>" and len(tokens) > 5
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert token_ids(again, ["photo of hound", ""]).equal(token_ids(tokenizer, ["photo of hound", ""]))
    assert token_ids(again, ["photo of hound"]).shape == (1, 24)


def test_captions_in_other_scripts_are_spelt_and_none_is_lost():
    tokenizer = build_tokenizer(["一张狗的照片", "фото собаки", "a photo"], vocabulary=512)
    for caption in ("一张狗的照片", "фото собаки"):
        ids = token_ids(tokenizer, [caption])[0]
        text = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
        assert text == caption.replace(" ", "")
