"""Captions are found in every form that the field writes, and none is dropped, guessed or cut in silence."""

import json

import pytest

from lora_core.data.captions import read_captions
from lora_core.errors import DataError

PHOTOS = ["a.png", "b.jpg", "my.photo.png", "ünï 照片.webp"]


@pytest.mark.parametrize(("files", "found"), [
    ({"a.txt": "a cat\n"}, {"a.png": "a cat"}),
    ({"a.caption": "\ufeff  a cat \r\n\r\n", "b.TXT": "a dog"}, {"a.png": "a cat", "b.jpg": "a dog"}),
    ({"my.photo.txt": "dots", "ünï 照片.txt": "Straße"}, {"my.photo.png": "dots", "ünï 照片.webp": "Straße"}),
    ({"captions.json": '{"a.png": "x", "b": ["y"]}'}, {"a.png": "x", "b.jpg": "y"}),
    ({"captions.json": '[{"file": "a", "caption": "x"}, {"image": "b.jpg", "text": "y", "width": 3}]'},
     {"a.png": "x", "b.jpg": "y"}),
    ({"metadata.jsonl": '{"file_name": "a.png", "text": "x"}\n\n{"file_name": "b.jpg", "text": "y"}\r\n'},
     {"a.png": "x", "b.jpg": "y"}),
    ({"a.txt": "same", "captions.json": '{"a": "same"}'}, {"a.png": "same"}),
    ({"metadata.jsonl": '{"file_name": "a.png", "text": "line\u2028separator"}'}, {"a.png": "line\u2028separator"}),
    ({".hidden.txt": "no caption", "notes.md": "neither"}, {}),
])  # fmt: skip
def test_captions_are_found(tmp_path, files, found):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    assert read_captions(tmp_path, PHOTOS) == found


BAD = [
    ("a.txt", b"caf\xe9", r"a\.txt: byte 3 \(0xe9\) is no UTF-8; save the file as UTF-8"),
    ("a.txt", b"\xef\xbb\xbfcaf\xe9", r"a\.txt: byte 6 \(0xe9\)"),
    ("a.txt", "a cat".encode("utf-16"), r"byte 0 \(0xff\) is no UTF-8"),
    ("a.txt", "a cat".encode("utf-16-le"), "holds a zero byte"),
    ("a.txt", b"", "the caption is empty"),
    ("a.txt", b" \n\t\n", "the caption is empty"),
    ("a.txt", b"one\ntwo", "2 lines; a caption is one line"),
    ("a.txt", b"one\rtwo\r\n\r\nthree", "3 lines"),
    ("readme.txt", b"x", r"readme\.txt: no photograph 'readme' in .*; correct the name or remove"),
    ("A.txt", b"x", "no photograph 'A'"),
    ("captions.json", b'{"c.png": "x"}', r"captions\.json, 'c\.png': no photograph"),
    ("captions.json", b'{"a": "x", "a.png": "y"}', r"the caption of a\.png is 'y', but .*'a' says 'x'; remove one"),
    ("captions.json", b'{"a": "x", "a": "x"}', "the key 'a' stands twice"),
    ("captions.json", b'{"a": ["x", "y"]}', "2 captions for one photograph"),
    ("captions.json", b'{"a": []}', "the caption is empty"),
    ("captions.json", b'{"a": null}', "the caption is null, no text"),
    ("captions.json", b'{"a": 3}', "the caption is 3, no text"),
    ("captions.json", b'{"a": {"caption": "x"}}', "no text"),
    ("captions.json", b'{\n"a": "x",\n}', r"captions\.json: no JSON, line [23], column"),
    ("captions.json", b'"a"', "neither .* nor a list of records"),
    ("captions.json", b'["a"]', "record 1: no record"),
    ("captions.json", b'[{"file": "a"}]', "record 1: none of the keys caption, text"),
    ("captions.json", b'[{"caption": "x"}]', "record 1: none of the keys file, file_name, image"),
    ("captions.json", b'[{"file": 1, "caption": "x"}]', "the file name is 1"),
    ("captions.json", b'[{"file": "a", "caption": "x", "text": "y"}]', "several of the keys caption, text"),
    ("captions.json", b"[" * 100_000, "no JSON"),
    ("captions.json", b"", r"captions\.json: no JSON, line 1"),
    ("metadata.jsonl", b'{"file_name": "a", "text": "x"}\n{oops}', r"metadata\.jsonl, line 2: no JSON, column 2"),
    ("metadata.jsonl", b'{"file_name": "a", "text": "x"}\n{"file_name": "a", "text": "y"}', "line 2: the caption of a"),
    ("metadata.jsonl", b'{"file_name": "sub/a.png", "text": "x"}', r"line 1: no photograph 'sub/a\.png'"),
    ("metadata.jsonl", b'[{"file_name": "a", "text": "x"}]', "line 1: no record"),
]


@pytest.mark.parametrize(("name", "content", "reason"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_a_bad_caption_is_named_with_its_place(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_captions(tmp_path, PHOTOS)


def test_sources_that_contradict_each_other_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "captions.json").write_text(json.dumps({"a.png": "a dog"}))
    with pytest.raises(DataError, match=r"the caption of a\.png is 'a dog'|the caption of a\.png is 'a cat'"):
        read_captions(tmp_path, PHOTOS)
