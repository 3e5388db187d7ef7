"""The tokenizer of the demo models, one token a word, and embeddings by T5."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from demo.captions import vocabulary
from demo.kind import Text

TEXT_WIDTH = 128


def embed_padded(text_encoder: Any, ids: Tensor, mask: Tensor, length: int) -> Text:
    """Embeddings by an encoder of T5's kind, zero after the end, padded to ``length``
    tokens."""
    states = text_encoder(ids, attention_mask=mask).last_hidden_state
    more = length - ids.shape[1]
    padded = F.pad(states * mask[..., None], (0, 0, 0, more))
    return Text(padded, F.pad(mask, (0, more)))


def make_tokenizer(longest: int) -> PreTrainedTokenizerFast:
    """Lower case; ids 0 and 1 are padding and end, as in T5."""
    special = ["<pad>", "</s>", "<unk>"]
    ids = {word: i for i, word in enumerate([*special, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[\w'-]+|[^\w\s]"), behavior="removed", invert=True
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=longest,
    )
