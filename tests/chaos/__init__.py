"""Faults at random moments, on real pi: a table of what each does to a task, run with any seed and size.

``python -m tests.chaos`` runs each row once; see ``--help``. ``python -m tests.chaos.memory`` is a long task whose pi is
killed again and again.
"""
