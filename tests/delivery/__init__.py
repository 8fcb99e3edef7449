"""Exactly once, on real pi: ``python -m tests.delivery``, and the checker that says whether it was."""
