"""Whole programs with agents, run in virtual time with seeded faults: ``simulate`` and what it is made of."""
