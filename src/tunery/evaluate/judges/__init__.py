"""Models that judge answers: asked through any endpoint, and believed as far as people agree with them."""
