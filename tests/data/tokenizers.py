"""Tokenizers of all the kinds that models come with, trained here on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
TEXTS = [
    "USER: Hello there ASSISTANT: Paris is the capital of France, and 17 + 4 is 21.",
    "<think>\nreasoning\n</think>\n\nThe table <table> has é, ü, 東京 and 🎉 in it.\n\n  indented",
    "system user assistant tool function name arguments content role messages",
] * 20

_BYTES = pre_tokenizers.ByteLevel.alphabet()
_PIECES = Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")


def _byte_level(prefix: bool = False, trim: bool = False) -> Tokenizer:
    """GPT-2, OPT: bytes, and offsets that leave out blanks if trimmed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, trainers.BpeTrainer, alphabet=_BYTES)


def _split_bytes() -> Tokenizer:
    """Llama 3, Qwen: a pattern, then bytes; the start token is added to every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _around(_trained(tokenizer, trainers.BpeTrainer, alphabet=_BYTES), "<s> $A")


def _metaspace(scheme: str) -> Tokenizer:
    """Mistral, Gemma: SentencePiece's space, before the first piece, every piece, or none."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return _trained(tokenizer, trainers.BpeTrainer, fallback=True)


def _legacy_llama() -> Tokenizer:
    """Llama 2: the space is put in by a normaliser; both marks are added to every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return _around(_trained(tokenizer, trainers.BpeTrainer, fallback=True), "<s> $A </s>")


def _unigram() -> Tokenizer:
    """T5, XGLM: a unigram model behind a normaliser that changes lengths."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return _trained(tokenizer, trainers.UnigramTrainer)


def _word_pieces() -> Tokenizer:
    """BERT: small letters without accents, and newlines that become spaces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(tokenizer, trainers.WordPieceTrainer)


def _flat_newlines() -> Tokenizer:
    """A normaliser that turns newlines into spaces."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace("\n", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return _trained(tokenizer, trainers.BpeTrainer)


def _characters() -> Tokenizer:
    """One token a character, unknown ones apart."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return _trained(tokenizer, trainers.BpeTrainer)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": _byte_level,
    "byte_level_prefix": lambda: _byte_level(prefix=True),
    "byte_level_trimmed": lambda: _byte_level(trim=True),
    "split_bytes_bos": _split_bytes,
    "metaspace_first": lambda: _metaspace("first"),
    "metaspace_always": lambda: _metaspace("always"),
    "metaspace_never": lambda: _metaspace("never"),
    "legacy_llama_bos_eos": _legacy_llama,
    "unigram_nfkc": _unigram,
    "word_pieces": _word_pieces,
    "flat_newlines": _flat_newlines,
    "characters": _characters,
}


@cache
def tokenizer_of(kind: str, marks: Sequence[str] = ()) -> Any:
    """Return a tokenizer of one kind; `marks` are special tokens besides its own."""
    backend = Tokenizer.from_str(_saved(kind))
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


@cache
def _saved(kind: str) -> str:
    return KINDS[kind]().to_str()


def _trained(
    tokenizer: Tokenizer, trainer: Any, alphabet: Sequence[str] = (), fallback: bool = False
) -> Tokenizer:
    options: dict[str, Any] = {"vocab_size": 700, "special_tokens": list(SPECIAL)}
    options |= {"initial_alphabet": list(alphabet)} if alphabet else {}
    options |= {"unk_token": "<unk>"} if trainer is trainers.UnigramTrainer else {}
    tokenizer.train_from_iterator(TEXTS, trainer(show_progress=False, **options))
    if not fallback:
        return tokenizer
    saved = json.loads(tokenizer.to_str())
    vocabulary = saved["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    return Tokenizer.from_str(json.dumps(saved))


def _around(tokenizer: Tokenizer, single: str) -> Tokenizer:
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    return tokenizer
