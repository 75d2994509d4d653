"""Diagnosis: weights before and after training → what the update looks like."""
