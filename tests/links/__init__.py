"""An agent at work on a host behind a link that breaks, in every way that links and hosts have. ``python -m tests.links``
lets each happen, on real pi and a real sshd in a network namespace of its own, and writes the table in docs/machines.md.

Needs root, for the namespace; takes some minutes.
"""
