"""Parts of a run that commands share: ranks, signals, and trained models to use."""
