"""What ``bench/serving.py`` runs: the servers, and wrk as their client."""
