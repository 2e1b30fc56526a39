"""CLIP's and T5's tokenizers, with a vocabulary of captions."""

import json
import math
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer, T5TokenizerFast

LENGTH = 24
"""Tokens a prompt, for both."""


def clip_tokenizer(captions: Sequence[str], size: int) -> CLIPTokenizer:
    """Byte-level BPE as CLIP's: lower case, each digit apart, any script."""
    fresh = CLIPTokenizer()
    trained = Tokenizer(BPE(end_of_word_suffix="</w>"))
    trained.normalizer = fresh.backend_tokenizer.normalizer
    trained.pre_tokenizer = fresh.backend_tokenizer.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=size - 2,
        # Given first, or the trainer numbers them differently every time.
        special_tokens=[f"{letter}</w>" for letter in alphabet],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(captions, trainer)
    vocabulary = trained.get_vocab()
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    merges = [tuple(pair) for pair in _model(trained)["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def t5_tokenizer(captions: Sequence[str], size: int) -> T5TokenizerFast:
    """A unigram model as T5's; a character that it has no piece for is <unk>.

    Its pieces are found by merging pairs, their probabilities by counting: the trainer for unigram models cuts words
    that stand in every caption into single letters.
    """
    fresh = T5TokenizerFast(extra_ids=0)
    special = ["<pad>", "</s>", "<unk>"]
    trained = Tokenizer(BPE(unk_token="<unk>"))
    trained.pre_tokenizer = fresh.backend_tokenizer.pre_tokenizer
    trained.train_from_iterator(captions, BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False))
    counts = Counter(token for encoding in trained.encode_batch(list(captions)) for token in encoding.tokens)
    total = math.log(counts.total() + size)
    pieces = sorted(trained.get_vocab().items(), key=lambda item: item[1])[len(special) :]
    vocabulary = [(token, 0.0) for token in special]
    vocabulary += [(piece, math.log(counts[piece] + 1) - total) for piece, _ in pieces]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=LENGTH)


def _model(tokenizer: Tokenizer) -> dict[str, list[list[str]]]:
    model: dict[str, list[list[str]]] = json.loads(tokenizer.to_str())["model"]
    return model
