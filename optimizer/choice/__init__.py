"""Which labels go: what each is worth, how many of each group meet a target, and how what stays makes up for them."""
