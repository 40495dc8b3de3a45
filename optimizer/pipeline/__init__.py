"""load -> steps -> verify -> save, one module per command; `common` holds what they share."""
