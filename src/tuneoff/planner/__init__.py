"""The planner: a recipe → predicted memory and time, no weights needed."""
