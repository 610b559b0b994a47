"""``tunery tokens`` and ``tunery embed``: what a model reads of texts, and how near they are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunery.cli.output import answer, table
from tunery.cli.parameters import Json
from tunery.cli.session import open_workspace

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="Texts; left out, the lines of standard input.")
]


def tokens(
    ctx: typer.Context,
    texts: Texts = None,
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="NAME", help="A base, as a recipe names it.")
    ] = "smollm2-135m-instruct",
    as_json: Json = False,
) -> None:
    """Count the tokens that a base reads of texts, and show them; its server's /tokenize says the same."""
    from tunery.model.bases import find_base
    from tunery.model.tokenizer import load_tokenizer

    with open_workspace(ctx) as workspace:
        folder, _ = find_base(base, workspace.root / "models")
    tokenizer = load_tokenizer(folder)
    found = [
        {"text": text, "count": len(ids), "tokens": ids, "token_strs": tokenizer.pieces(ids)}
        for text in _given(texts)
        for ids in [tokenizer.encode(text)]
    ]
    rows = [(str(f["count"]), " ".join(f["token_strs"])) for f in found]  # type: ignore[arg-type]
    answer(found, lambda: [table([">tokens", "pieces"], rows)], as_json=as_json)


def embed(
    texts: Texts = None,
    *,
    encoder: Annotated[
        str,
        typer.Option("--encoder", metavar="NAME", help="As embeddings.encoder of 'tunery serve' names it."),
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Embed texts as /v1/embeddings does; for a person, show how near each is to the others."""
    from tunery.pipeline.gateway.embedder import Embedder, EmbeddingSettings

    opened, given = Embedder(EmbeddingSettings(encoder=encoder)), _given(texts)
    rows = opened.rows(given)
    vectors = opened.encoder.embed(rows)
    found = [
        {"text": text, "tokens": len(ids), "embedding": vector.tolist()}
        for text, ids, vector in zip(given, rows, vectors, strict=True)
    ]
    likeness = vectors @ vectors.T
    columns = ["", ">tokens", "text", *(f">like {n}" for n in range(1, len(given) + 1))]
    lines = [
        (str(n), str(len(ids)), text, *(f"{value:.3f}" for value in near))
        for n, (text, ids, near) in enumerate(zip(given, rows, likeness, strict=True), 1)
    ]
    answer(found, lambda: [table(columns, lines)], as_json=as_json)


def _given(texts: list[str] | None) -> list[str]:
    return list(texts) if texts else [line.rstrip("\n") for line in sys.stdin]
