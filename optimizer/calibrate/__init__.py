"""Statistics of a model's values over sample data, in bounded memory: observers, the run that feeds them, metrics."""
