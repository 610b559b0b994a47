"""Special tokens, and texts that only quote them: what somebody writes can never steer a conversation."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from tunery.core.errors import ConfigError

_MARK = re.compile(r"[^\w\s]")


class SpecialTokens:
    """The tokens that steer a conversation, kept apart from texts in which the same characters stand.

    Both look alike in the text that a chat template writes. So quoted ones are hidden before the template is
    asked, and stand for their characters again when its text is encoded: every character is kept, none is
    added, and only what the template itself writes becomes a special token.

    Args:
        hf: A fast Hugging Face tokenizer.
    """

    def __init__(self, hf: Any) -> None:
        self._hf = hf
        # Asked directly: the way around it warns of texts that are measured because they may be too long.
        self._fast = hf.backend_tokenizer
        self._fast.no_truncation()
        self._fast.no_padding()
        # Nobody who sends texts can know it, so nobody can write what is hidden.
        self._nonce = secrets.token_hex(8)
        self._plain: Any = None
        special = {i: t.content for i, t in hf.added_tokens_decoder.items() if t.special}
        named = zip(hf.all_special_ids, hf.all_special_tokens, strict=True)
        self._take({**special, **dict(named)})

    def _take(self, contents: Mapping[int, str]) -> None:
        # One character alone is text everywhere: a base that ends its turns with a line break is not helped.
        self.contents: dict[int, str] = {i: t for i, t in contents.items() if len(t) > 1}
        self._places = {text: place for place, text in enumerate(self.contents.values())}
        longest_first = sorted(self._places, key=len, reverse=True)
        self._found = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._quoted = re.compile(f"\ufdd0{self._nonce}([0-9]+)\ufdd1")
        self._plain = None

    def add_written(self, text: str) -> None:
        """Count further added tokens among the special ones: those in what a template wrote around a turn.

        Some bases mark turns with added tokens that are not declared special. White space and words that are
        added for their frequency are no marks.
        """
        added = {i: t.content for i, t in self._hf.added_tokens_decoder.items()}
        marks = {i: content for i, content in added.items() if _MARK.search(content) and content in text}
        written = {i: content for i, content in marks.items() if i not in self.contents}
        if written:
            self._take({**self.contents, **written})

    def __contains__(self, token_id: object) -> bool:
        """Tell whether an id is one of them."""
        return token_id in self.contents

    def hide(self, text: str) -> str:
        """Return a text with the special tokens that it quotes hidden; :meth:`encode` gives them back."""
        return self._found.sub(lambda m: f"\ufdd0{self._nonce}{self._places[m[0]]}\ufdd1", text)

    def show(self, text: str) -> str:
        """Return a text as people read it, what was hidden given back."""
        return self._quoted.sub(lambda m: list(self._places)[int(m[1])], text)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text: special tokens where they stand open, characters where they are hidden.

        Raises:
            ConfigError: The tokenizer cannot encode it.
        """
        try:
            return self._encode(text)
        except ConfigError:
            raise
        except BaseException as error:
            # A panic in the Rust part is no Exception, and says nothing that a user could act on but this.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            words = str(error).strip().partition("\n")[0]
            raise ConfigError(f"the base's tokenizer cannot encode this text: {words:.200}") from None

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._nonce not in text:
            ids = tuple(self._fast.encode(text, add_special_tokens=False).ids)
            # Normalisation may make a special token of characters that look alike.
            if sum(map(self.contents.__contains__, ids)) == len(self._found.findall(text)):
                return ids
        opened = self._found.sub(lambda m: self._private(self._places[m[0]]), text)
        return tuple(self._without_names().encode(self.show(opened), add_special_tokens=False).ids)

    def _private(self, place: int) -> str:
        return f"\ufdd2{self._nonce}{place}\ufdd1"

    def _without_names(self) -> Any:
        """Return the same tokenizer with its special tokens renamed, so that no text can contain them."""
        if self._plain is None:
            self._plain = _renamed(
                self._hf, {i: self._private(self._places[t]) for i, t in self.contents.items()}
            )
        return self._plain


def _renamed(hf: Any, names: Mapping[int, str]) -> Any:
    """Return the tokenizer's fast part with the tokens of these ids called otherwise.

    Raises:
        ConfigError: Its vocabulary does not allow that.
    """
    from tokenizers import Tokenizer

    layout = json.loads(hf.backend_tokenizer.to_str())
    layout.update(post_processor=None, truncation=None, padding=None)
    renamed = {hf.convert_ids_to_tokens(i): name for i, name in names.items()}
    for token in layout["added_tokens"]:
        token["content"] = names.get(token["id"], token["content"])
    model = layout["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {renamed.get(text, text): i for text, i in model["vocab"].items()}
    else:  # Unigram: pieces with their scores, where a special token could be spelt as a piece
        model["vocab"] = [[renamed.get(text, text), score] for text, score in model["vocab"]]
    if "merges" in model:  # no merge may spell a special token either
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if renamed.keys().isdisjoint((a, b, a + b))]
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    try:
        plain = Tokenizer.from_str(json.dumps(layout))
    except Exception as error:
        raise _refusal(str(error)) from None
    moved = [name for i, name in names.items() if plain.token_to_id(name) != i]
    if moved:
        raise _refusal("ids would move")
    return plain


def _refusal(why: str) -> ConfigError:
    words = why.strip().partition("\n")[0]
    return ConfigError(
        "a text quotes a special token of the base, whose tokenizer can only read it as the token "
        f"({words:.160})"
    )
