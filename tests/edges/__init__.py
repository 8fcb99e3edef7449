"""Random trials of the edges at full size: what is the user's stays, and what is ours goes. `make edges` runs them all."""
