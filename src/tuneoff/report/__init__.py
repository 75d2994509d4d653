"""A run's folder → what people see. Pure: reads files, and imports neither torch nor what carries runs out."""
