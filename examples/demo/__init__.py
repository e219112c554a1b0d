"""A morning's work of a data desk: quotes are fetched, cleaned, summed up and reported. `python -m examples.demo`."""
