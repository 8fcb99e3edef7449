"""Figures about ramure, measured: ``python -m benchmarks`` runs every suite, ``python -m benchmarks actors`` one."""
