"""Models behind endpoints that speak the chat-completions protocol: asked, retried, paid for once."""
