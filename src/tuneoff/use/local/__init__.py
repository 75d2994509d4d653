"""Pages that this machine alone can ask for: what `tuneoff serve` and `tuneoff watch` share."""
