"""One line says a problem: layer, passes, dtype, sizes, threads; `driver.py` replays it and finds others."""
