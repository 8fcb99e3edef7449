"""Attacks, from where an attacker may stand: without a token, as another user, with an agent's token, inside its machine."""
