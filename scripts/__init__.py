"""Commands that a person runs; the only place that puts the other packages together."""
