"""What bench/scaling.py measures in several ranks, and the model that it extrapolates with."""
