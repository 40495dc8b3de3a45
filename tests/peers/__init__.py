"""Head to head with other quantizers, which run in an environment of their own."""
