"""Measuring: time by phase, memory by phase and component, parameters, environment."""
