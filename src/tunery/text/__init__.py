"""What a text says by itself: normalised, compared, its language, personal data and secrets in it."""
