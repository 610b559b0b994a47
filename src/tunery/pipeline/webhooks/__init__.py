"""Word of what happened here, signed and sent to addresses that the operator named."""
