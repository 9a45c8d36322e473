"""What a text is between the tokenizer that has split it and the model that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What fills up the rows of token ids; no tokenizer has such an id, so that a model can tell filling from text.
FILLING = -1

# Sentences to their token ids, at least one each.
Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
