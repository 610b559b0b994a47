"""OpenAI's graders, as they are written there."""
