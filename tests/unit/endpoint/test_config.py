"""Addresses of endpoints as people copy them."""

from __future__ import annotations

import pytest

from tunery.endpoint.config import check_url

AT_AZURE = "https://acme.openai.azure.com/openai/v1"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://acme.openai.azure.com", AT_AZURE),
        ("https://acme.openai.azure.com/", AT_AZURE),
        ("https://acme.openai.azure.com/openai", AT_AZURE),
        ("https://acme.openai.azure.com/openai/v1/", AT_AZURE),
        ("https://acme.openai.azure.com/openai/v1/chat/completions?api-version=preview", AT_AZURE),
        (
            "https://acme.openai.azure.com/openai/deployments/prod/chat/completions?api-version=2024-10-21",
            AT_AZURE,
        ),
        (
            "https://acme.services.ai.azure.com/openai/deployments/prod",
            "https://acme.services.ai.azure.com/openai/v1",
        ),
        ("https://acme.cognitiveservices.azure.com/", "https://acme.cognitiveservices.azure.com/openai/v1"),
        ("https://acme.openai.azure.us", "https://acme.openai.azure.us/openai/v1"),
        # A gateway there has paths of its own, and a host that only looks like Azure's is nobody's.
        ("https://acme.azure-api.net/llm/v1", "https://acme.azure-api.net/llm/v1"),
        ("https://openai.azure.com.example/v1", "https://openai.azure.com.example/v1"),
        ("https://acme.services.ai.azure.com/models", "https://acme.services.ai.azure.com/models"),
    ],
)
def test_address_is_that_of_the_interface(written: str, meant: str) -> None:
    assert check_url(written) == meant
    assert check_url(meant) == meant


@pytest.mark.parametrize(
    "written",
    [
        "acme.openai.azure.com",
        "https://acme.openai.azure.com/openai/deployments/prod?api-version=1&api-key=secret",
        "https://user:secret@acme.openai.azure.com/",
        "https://api.openai.com/v1?api-version=2024-10-21",
    ],
)
def test_address_with_what_belongs_elsewhere_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_url(written)
