"""The control socket of a run: its server, its methods, and the clients. ``docs/control.md`` says what goes over it.

Nothing is imported here: the command line needs the blocking client alone, and starts quickly for it.
"""
