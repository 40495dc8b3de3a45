"""Plain result records (`records`) and their exporters. Imports nothing of the package but `errors`."""
