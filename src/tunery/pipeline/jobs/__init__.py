"""Jobs: submitted, run by a supervisor, resumed."""
