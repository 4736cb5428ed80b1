"""What can be looked at: a run's pictures and page, and where the time of a training step goes."""
