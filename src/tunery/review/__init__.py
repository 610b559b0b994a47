"""Answers judged by people and by models: sheets, pairs in both orders, and how far the two agree."""
