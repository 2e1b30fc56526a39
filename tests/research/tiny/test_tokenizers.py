from pathlib import Path
from typing import Any

import pytest
from research.tiny.prompts import tokens
from research.tiny.tokenizers import LENGTH, clip_tokenizer, t5_tokenizer

CAPTIONS = [
    f"A {kind} portrait of {name}"
    for kind in ("professional", "business")
    for name in ("Ada Okafor", "Kenji Mori", "中村 修平", "Ольга Петрова", "a 35 year old woman, red hair")
] * 3


@pytest.fixture(params=[clip_tokenizer, t5_tokenizer])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param(CAPTIONS, 700)


def test_words_of_every_caption_are_whole(tokenizer: Any) -> None:
    pieces = [piece.strip("▁").removesuffix("</w>").lower() for piece in tokenizer.tokenize("A professional portrait")]
    assert pieces == ["a", "professional", "portrait"]


def test_they_come_back_from_files(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    prompts = [*CAPTIONS[:5], "a name nobody has, 71", ""]
    assert (tokens(again, prompts) == tokens(tokenizer, prompts)).all()
    assert tokens(again, prompts).shape == (len(prompts), LENGTH)
    assert again.model_max_length == LENGTH


def test_prompts_are_padded_and_cut_and_told_apart(tokenizer: Any) -> None:
    ids = tokens(tokenizer, ["Ada Okafor", "Kenji Mori", "Ada " * 50])
    assert (ids[0] != ids[1]).any()
    assert ids[0, -1] == tokenizer.pad_token_id
    assert tokenizer.eos_token_id in ids[0]
    assert len(tokenizer) <= 700
    assert ids.max() < 700
