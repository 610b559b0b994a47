"""OpenAI's chat and completion bodies to engine requests and back; no transport here."""
