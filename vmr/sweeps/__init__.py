"""Many runs as one experiment: which, trained where, and what became of them."""
