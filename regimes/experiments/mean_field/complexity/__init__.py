"""How many particles does the flow need? Settings, measurement, numbers and figure of the statements on it."""
