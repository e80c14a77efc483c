"""Arrays in, data sets out."""
