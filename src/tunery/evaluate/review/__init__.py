"""People who judge answers: blind scorecards, their agreement, and what they thought of each system."""
