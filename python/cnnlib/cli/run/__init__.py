"""A training run: its folder and what is in it, who may write there, and how it ends."""
