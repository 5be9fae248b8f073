"""Small immutable values that packages exchange, and their codes."""
